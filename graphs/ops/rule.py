"""What one rule says of one op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import TypeAlias

from mnx.graphs.model import Array, Attribute, Node, Shape
from mnx.graphs.ops.axes import Axes, Axis, Part, Ties, fixed

Interval: TypeAlias = tuple[float, float]
ANY: Interval = (float("-inf"), float("inf"))


class Kind(str, Enum):
    """What a parameter is. Only weights decay; mean and variance are statistics, moved by training, not trained.

    A table is looked up or added whole (embeddings, class tokens), never multiplied with what arrives.
    """

    WEIGHT = "weight"
    BIAS = "bias"
    SCALE = "scale"
    SHIFT = "shift"
    MEAN = "mean"
    VARIANCE = "variance"
    TABLE = "table"
    SLOPE = "slope"

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
    """A parameter input of an op: its kind and the role of each of its axes (the last one repeats).

    In an `operand` slot stands a parameter or an activation: only float constants of more than one element, behind a
    layer with weights, are parameters there; others are constants (the mean of the data, a factor, a mask).
    """

    kind: Kind
    roles: tuple[Role, ...]
    operand: bool = False

    def role(self, axis: int) -> Role:
        """The role of axis number `axis`."""
        return self.roles[min(axis, len(self.roles) - 1)]


@dataclass(frozen=True)
class Site:
    """A node in its place.

    Attributes:
        node: the node.
        shapes: of its inputs, () where one is absent.
        outputs: shapes of its outputs that somebody reads.
        constants: by input, those that are not parameters.
        parameters: the inputs that are parameters.
    """

    node: Node
    shapes: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    constants: tuple[Array | None, ...]
    parameters: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """The number of axes of the output."""
        return len(self.outputs[0])

    def axis(self, default: int) -> int:
        """The attribute `axis`, counted from the front."""
        return self.node.integer("axis", default) % max(1, len(self.shapes[0]))

    @property
    def where(self) -> str:
        """The node in words."""
        return f"node '{self.node.name}' ({self.node.op})"


@dataclass(frozen=True)
class Rewritten:
    """What of a node embeds widths: attributes by name, constants by input index, at their new values."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    constants: Mapping[int, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Widths:
    """A node's axes, and the width of each before and after."""

    inputs: Sequence[Axes]
    output: Axes
    old: Callable[[Axis], int]
    of: Callable[[Axis], int]


Rewrite: TypeAlias = "Callable[[Site, Widths], Rewritten]"
Signature: TypeAlias = "Callable[[Site], tuple[tuple[str, Attribute], ...]]"
Tie: TypeAlias = Callable[[Site, Sequence[Axes], Ties], Axes]


class Keeps(str, Enum):
    """What an op without parameters does channel by channel, so that something done in front is undone behind it.

    ADDS: f(x + y) = f(x) + f(y). SCALES: f(c x) = c f(x) for c > 0. MOVES: f(x + c) = f(x) + c.
    """

    ADDS = "adds"
    SCALES = "scales"
    MOVES = "moves"


LINEAR = frozenset({Keeps.ADDS, Keeps.SCALES})
MONOTONE = frozenset({Keeps.SCALES, Keeps.MOVES})
EVERY = frozenset(Keeps)


@dataclass(frozen=True)
class Line:
    """Where a function is a straight line: f(x) = gain * x for low <= x <= high, to the last digit of float32."""

    low: float
    high: float = float("inf")
    gain: float = 1.0


def no_cost(site: Site) -> int:
    """Multiply-adds of an op that has none worth counting."""
    return 0


def output_cost(site: Site) -> int:
    """One multiply-add for every element of the output."""
    return prod(site.outputs[0][1:])


def space(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The output's axes of space, behind batch and channels: windows run along them, so that they are fixed."""
    for axis in axes[0][2:]:
        ties.fix(axis)
    return tuple(fixed(size) for size in site.outputs[0][2:])


def never(site: Site, arriving: Interval) -> bool:
    """For ops that cannot be made the identity."""
    return False


def plain(site: Site, widths: Widths) -> Rewritten:
    """For ops whose attributes and constants hold no width."""
    return Rewritten()


def every_part(site: Site, part: Part) -> bool:
    """For ops that take means over whole axes."""
    return True


def no_axes(site: Site) -> tuple[int, ...]:
    """For ops that take no mean over channels."""
    return ()


def unsigned(site: Site) -> tuple[tuple[str, Attribute], ...]:
    """For ops whose attributes say all."""
    return ()


def unknown(site: Site, arriving: Sequence[Interval]) -> Interval:
    """The range of an output of which nothing is known."""
    return ANY


def no_line(site: Site) -> Line | None:
    """For functions that are nowhere a straight line."""
    return None


def no_mirror(site: Site) -> float:
    """For functions whose odd part is no straight line."""
    return 0.0


def keeps_nothing(site: Site) -> frozenset[Keeps]:
    """For ops behind which nothing done in front can be undone."""
    return frozenset()


def keeps_every(site: Site) -> frozenset[Keeps]:
    """For ops that move elements around, or take means of them."""
    return EVERY


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
        linear: whether zero parameters give zero output, whatever arrives.
        keeps_zero: whether zeros arriving give zeros, with zero parameters if it has any.
        mixes: whether an output channel depends on all channels that arrive by other means than a parameter.
        even: the axes of what arrives over which a mean is taken: it stays the same only where every channel is
            repeated equally often.
        averaged: whether the mean is taken over the channels of a part of such an axis, and not only beside them.
        rewrite: the node's attributes and constants that embed widths, at new widths.
        derived: the constant inputs that `rewrite` gives, and that therefore need not agree.
        signature: what must agree further for two such nodes to match, and is not a plain attribute.
        keeps: what the op keeps of what is done to its channels, where it has no parameters.
        line: where the function is a straight line.
        mirror: c where f(x) - f(-x) = c x for every x, else 0.
        near_zero: whether f(x) = x (1 + O(x^2)), so that small numbers pass almost unchanged.
        follows: attributes that do not decide what a network is: a grown op takes over its mother's.
        whole_signature: in place of `signature` and of attributes in `counts`, where blocks of channels grow in number.
        counts: attributes that hold the number of blocks.
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
    keeps_zero: bool = False
    mixes: bool = False
    even: Callable[[Site], tuple[int, ...]] = no_axes
    averaged: Callable[[Site, Part], bool] = every_part
    rewrite: Rewrite = plain
    signature: Signature = unsigned
    derived: tuple[int, ...] = ()
    keeps: Callable[[Site], frozenset[Keeps]] = keeps_nothing
    line: Callable[[Site], Line | None] = no_line
    mirror: Callable[[Site], float] = no_mirror
    near_zero: bool = False
    follows: Mapping[str, float] = field(default_factory=dict)
    whole_signature: Signature | None = None
    counts: tuple[str, ...] = ()
    commutative: bool = False
    doc: str = ""
