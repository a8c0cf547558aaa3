"""What is counted where networks are compared: all that is trained, what convolutions hold, or multiply-adds.

A share is count(mother) / count(member); tau and the clusters go by the same count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from mnx.graphs.errors import GraphError
from mnx.graphs.trees.structure import Structure


@dataclass(frozen=True)
class Count:
    """One way to count: how, and the words for what is counted."""

    of: Callable[[Structure], int]
    words: str


def _all(structure: Structure) -> int:
    return structure.parameter_count


def _convolutions(structure: Structure) -> int:
    sizes = {
        parameter.name: prod(parameter.shape)
        for op in structure.ops()
        for parameter in op.parameters
        if op.op == "Conv" and parameter.kind.trained
    }
    return sum(sizes.values())


def _multiply_adds(structure: Structure) -> int:
    return structure.cost


COUNTS: Mapping[str, Count] = {
    "all": Count(_all, "all trained parameters"),
    "conv": Count(_convolutions, "trained parameters of convolutions only"),
    "flops": Count(_multiply_adds, "multiply-adds of a forward pass"),
}
"""Ways to count, by the name that --count takes; the first is the default."""

DEFAULT = "all"


def count(structure: Structure, what: str = DEFAULT) -> int:
    """How much a network has of what is counted; each shared weight once.

    Raises:
        GraphError: `what` is unknown.
    """
    if what not in COUNTS:
        raise GraphError(f"unknown count '{what}': use one of {', '.join(COUNTS)}")
    return COUNTS[what].of(structure)


def share(mother: Structure, member: Structure, what: str = DEFAULT) -> float:
    """How much of what is counted in a member its mother has.

    Raises:
        GraphError: the member has nothing that is counted.
    """
    whole = count(member, what)
    if not whole:
        raise GraphError(f"{member.name} has none of what is counted ({COUNTS[what].words}): count all parameters")
    return count(mother, what) / whole
