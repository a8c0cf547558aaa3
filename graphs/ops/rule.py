"""What one rule says of one op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from mnx.graphs.axes import Axes, Ties
from mnx.graphs.model import Array, Attribute, Node, Shape

Interval: TypeAlias = tuple[float, float]
ANY: Interval = (float("-inf"), float("inf"))


class Kind(str, Enum):
    """What a parameter is. Only weights decay; mean and variance are statistics, moved by training, not trained."""

    WEIGHT = "weight"
    BIAS = "bias"
    SCALE = "scale"
    SHIFT = "shift"
    MEAN = "mean"
    VARIANCE = "variance"

    @property
    def trained(self) -> bool:
        """Whether the optimiser changes it."""
        return self not in (Kind.MEAN, Kind.VARIANCE)


class Role(str, Enum):
    """What a parameter's axis does: make channels, sum over them, lie over space, or never change."""

    PRODUCE = "produce"
    CONTRACT = "contract"
    KERNEL = "kernel"
    FIXED = "fixed"


@dataclass(frozen=True)
class Slot:
    """A parameter input of an op: its kind and the role of each of its axes (the last one repeats)."""

    kind: Kind
    roles: tuple[Role, ...]

    def role(self, axis: int) -> Role:
        """The role of axis number `axis`."""
        return self.roles[min(axis, len(self.roles) - 1)]


@dataclass(frozen=True)
class Site:
    """A node in its place: the shapes of its inputs and outputs, and the inputs that are constants, not parameters."""

    node: Node
    shapes: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    constants: tuple[Array | None, ...]


Tie: TypeAlias = Callable[[Site, Sequence[Axes], Ties], Axes]


def no_cost(site: Site) -> int:
    """Multiply-adds of an op that has none worth counting."""
    return 0


def never(site: Site, arriving: Interval) -> bool:
    """For ops that cannot be made the identity."""
    return False


def unknown(site: Site, arriving: Sequence[Interval]) -> Interval:
    """The range of an output of which nothing is known."""
    return ANY


def same_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    """For ops whose outputs are among, or between, their inputs."""
    return arriving[0]


@dataclass(frozen=True)
class Rule:
    """One op.

    Attributes:
        tie: given the axes of every input (parameters too, () where absent), ties them and returns the output's axes.
        slots: parameter inputs by index.
        matching: attributes that must agree for two such nodes to match, with ONNX's defaults; width and kernel size
            are never among them. Constant inputs must agree always.
        identity: whether the op can be made the identity on values in the interval (DESIGN.md section 5).
        range: interval of the output, given those of the activation inputs.
        cost: multiply-adds for one example.
        linear: whether zero parameters give zero output.
        commutative: for joins, whether the branches may be matched in another order.
        doc: one line that says what is special about it.
    """

    tie: Tie
    slots: Mapping[int, Slot] = field(default_factory=dict)
    matching: Mapping[str, Attribute] = field(default_factory=dict)
    identity: Callable[[Site, Interval], bool] = never
    range: Callable[[Site, Sequence[Interval]], Interval] = unknown
    cost: Callable[[Site], int] = no_cost
    linear: bool = False
    commutative: bool = False
    doc: str = ""
