"""The structure tree: what a network is, as plain frozen data, without weights.

A network is a series of units; a unit is one op or a parallel section: branches that fork from one value and end in one
join. Residual blocks, attention, Inception branches and gates are all such trees. What is no such tree is a tangle of
ops, which matches only one like it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mnx.graphs.model import Attribute, Port, Shape
from mnx.graphs.ops.axes import Axes, Part
from mnx.graphs.ops.rule import Kind, Role, Rule, Site

BATCH = 104729
"""The batch size that structure is read at: a large prime, so that no width is ever a multiple of it."""


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
    """A unit of one node.

    Attributes:
        site: the node in its place.
        rule: its op's rule.
        matching: attributes, context and what else must agree for two to match.
        parameters: its weights.
        operands: the axes of every input, () where one is absent.
        reads: which of the operands are values of the main flow.
        output: the axes of its output.
        value: the name of its output.
        scaling: whether it multiplies queries, keys or scores by a number, which need not agree.
    """

    site: Site
    rule: Rule
    matching: tuple[tuple[str, Attribute], ...]
    parameters: tuple[Parameter, ...]
    operands: tuple[Axes, ...]
    reads: tuple[int, ...]
    output: Axes
    value: str
    scaling: bool = False

    @property
    def input(self) -> Axes:
        """The axes of the first value of the main flow that it reads; () where the flow begins with it."""
        return self.operands[self.reads[0]] if self.reads else ()

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


@dataclass(frozen=True)
class Tangle:
    """Ops between a fork and its join that are no tree; they match only the same ops in the same order.

    `wiring` gives, for every op, where its operands of the main flow come from: the place of an op here, -1 for the
    fork.
    """

    ops: tuple[Op, ...]
    wiring: tuple[tuple[int, ...], ...]

    @property
    def output(self) -> Axes:
        """The axes of the last op's output."""
        return self.ops[-1].output

    @property
    def value(self) -> str:
        """The name of the last op's output."""
        return self.ops[-1].value


Unit: TypeAlias = "Op | Parallel | Tangle"
Series: TypeAlias = "tuple[Unit, ...]"


@dataclass(frozen=True)
class Structure:
    """A whole network.

    Attributes:
        name: the model's.
        series: its units.
        groups: channel group -> width.
        input: the axes of the value that the main flow begins with, () where it has none of its own (see `flow`).
        input_value: the name of that value.
        ports: the model's inputs.
        wide: the same network with its heads free in width instead of number, None where it has none such.
        whole: the same network with its blocks of channels free in number instead of width, None likewise.
        products: the nodes that multiply queries and keys, where the width of their heads is free.
        attentions: the nodes that multiply queries and keys, of which it is known what makes the queries.
    """

    name: str
    series: Series
    groups: Mapping[int, int]
    input: Axes
    input_value: str
    ports: tuple[Port, ...]
    wide: Structure | None = None
    whole: Structure | None = None
    products: tuple[str, ...] = ()
    attentions: tuple[str, ...] = ()

    def ops(self) -> Iterator[Op]:
        """Every op, branches before their join."""
        return ops_of(self.series)

    @property
    def parameter_count(self) -> int:
        """Trained parameters, each shared weight once."""
        sizes = {p.name: _product(p.shape) for op in self.ops() for p in op.parameters if p.kind.trained}
        return sum(sizes.values())

    @property
    def even(self) -> frozenset[int]:
        """The groups over whose channels some op takes a mean: they grow by whole multiples."""
        return frozenset(
            part.group
            for op in self.ops()
            for axis in op.rule.even(op.site)
            for part in op.operands[0][axis]
            if part.group is not None and op.rule.averaged(op.site, part)
        )

    @property
    def blocks(self) -> frozenset[int]:
        """How many blocks of channels grouped convolutions and normalisations have."""
        counted = [op for op in self.ops() if op.rule.whole_signature is not None]
        groups = [op.site.node.integer("num_groups" if op.rule.counts else "group", 1) for op in counted]
        shared = zip(groups, counted, strict=True)
        return frozenset(count for count, op in shared if count > 1 and count != op.site.shapes[0][1])

    @property
    def dotted(self) -> frozenset[int]:
        """The groups that queries and keys are multiplied along: they grow by fresh channels only."""
        return frozenset(
            part.group
            for op in self.ops()
            if op.name in self.products
            for part in op.operands[op.reads[0]][-1]
            if part.group is not None
        )

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
        elif isinstance(unit, Tangle):
            yield from unit.ops
        else:
            yield unit


def axis_text(axis: tuple[Part, ...]) -> str:
    """An axis for people: `g3`, `g3*49`, `3*g2*64`, `g1+g2`, `10`."""
    words = []
    for part in axis:
        if part.group is None:
            words.append(str(size_text(part.outer * part.inner)))
        else:
            factors = (
                str(size_text(part.outer)) if part.outer != 1 else "",
                f"g{part.group}",
                str(size_text(part.inner)) if part.inner != 1 else "",
            )
            words.append("*".join(factor for factor in factors if factor))
    return "+".join(words)


def size_text(size: int) -> int | str:
    """A size for people: itself, but `n` where it is the batch and `2n` where it is twice the batch."""
    if not size or size % BATCH:
        return size
    return "n" if size == BATCH else f"{size // BATCH}n"


def output_sizes(op: Op) -> list[int | str]:
    """The sizes of an op's output for people: without the batch where that is axis 0, `n` where it stands elsewhere."""
    shape = op.site.outputs[0]
    return [size_text(size) for size in shape[batch_axes(shape) :]]


def batch_axes(shape: Shape) -> int:
    """How many axes at the front of a shape are the batch: 1, or 0 where it stands elsewhere."""
    return int(shape[:1] == (BATCH,))


def _product(shape: Shape) -> int:
    result = 1
    for size in shape:
        result *= size
    return result
