"""The structure tree: what a network is, as plain frozen data, without weights.

A network is a series of units; a unit is one op or a parallel section: branches that fork from one value and end in one
join. Residual blocks, Inception branches and gates are all such trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mnx.graphs.axes import Axes, Part
from mnx.graphs.model import Attribute, Shape
from mnx.graphs.ops.rule import Kind, Role, Rule, Site


@dataclass(frozen=True)
class Parameter:
    """One weight of an op: where it stands, what it is and how its axes are built from channel groups."""

    slot: int
    name: str
    kind: Kind
    shape: Shape
    axes: Axes
    roles: tuple[Role, ...]


@dataclass(frozen=True)
class Op:
    """A unit of one node. `shape` is the output's without the batch; `value` the name of the output."""

    site: Site
    rule: Rule
    matching: tuple[tuple[str, Attribute], ...]
    parameters: tuple[Parameter, ...]
    input: Axes
    output: Axes
    value: str

    @property
    def name(self) -> str:
        """The node's name."""
        return self.site.node.name

    @property
    def op(self) -> str:
        """The node's op."""
        return self.site.node.op

    @property
    def shape(self) -> Shape:
        """The output's shape without the batch."""
        return self.site.outputs[0][1:]


@dataclass(frozen=True)
class Parallel:
    """A unit of several branches, in the order of the join's operands; an empty branch is a shortcut."""

    branches: tuple[Series, ...]
    join: Op
    input: Axes

    @property
    def output(self) -> Axes:
        """The axes of the join's output."""
        return self.join.output

    @property
    def value(self) -> str:
        """The name of the join's output."""
        return self.join.value


Unit: TypeAlias = "Op | Parallel"
Series: TypeAlias = "tuple[Unit, ...]"


@dataclass(frozen=True)
class Structure:
    """A whole network: its series of units, the widths of its channel groups, its input."""

    name: str
    series: Series
    groups: Mapping[int, int]
    input: Axes
    input_value: str

    def ops(self) -> Iterator[Op]:
        """Every op, branches before their join."""
        return ops_of(self.series)

    @property
    def parameter_count(self) -> int:
        """Trained parameters, each shared weight once."""
        sizes = {p.name: _product(p.shape) for op in self.ops() for p in op.parameters if p.kind.trained}
        return sum(sizes.values())

    @property
    def cost(self) -> int:
        """Multiply-adds of one forward pass of one example."""
        return sum(op.rule.cost(op.site) for op in self.ops())


def ops_of(series: Series) -> Iterator[Op]:
    """Every op of a series, branches before their join."""
    for unit in series:
        if isinstance(unit, Parallel):
            for branch in unit.branches:
                yield from ops_of(branch)
            yield unit.join
        else:
            yield unit


def axis_text(axis: tuple[Part, ...]) -> str:
    """An axis for people: `g3`, `g3*49`, `g1+g2`, `10`."""
    words = []
    for part in axis:
        size = part.outer * part.inner
        if part.group is None:
            words.append(str(size))
        else:
            words.append(f"g{part.group}" + (f"*{size}" if size != 1 else ""))
    return "+".join(words)


def _product(shape: Shape) -> int:
    result = 1
    for size in shape:
        result *= size
    return result
