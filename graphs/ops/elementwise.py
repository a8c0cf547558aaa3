"""Ops that work element by element: activations (one activation input) and joins (several)."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from mnx.graphs.axes import Axes, Ties, fixed
from mnx.graphs.model import Attribute
from mnx.graphs.ops.rule import Interval, Rule, Site, same_range


def _tie_same(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    return axes[0]


def _above_zero(site: Site, arriving: Interval) -> bool:
    return arriving[0] >= 0


def _relu_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    low, high = arriving[0]
    return max(low, 0.0), max(high, 0.0)


def _bounds(site: Site) -> Interval:
    low, high = (constant if constant is None else float(constant) for constant in (*site.constants, None, None)[1:3])
    return (-inf if low is None else low), (inf if high is None else high)


def _clip_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    low, high = _bounds(site)
    return max(low, arriving[0][0]), min(high, arriving[0][1])


def _inside_clip(site: Site, arriving: Interval) -> bool:
    low, high = _bounds(site)
    return low <= arriving[0] and arriving[1] <= high


def _leaky_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    return arriving[0] if arriving[0][0] >= 0 else (-inf, max(arriving[0][1], 0.0))


def _always(site: Site, arriving: Interval) -> bool:
    return True


def _tie_broadcast(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Numpy broadcasting: axes are lined up from the right; those of width 1 tie nothing."""
    output = site.outputs[0]
    result = [fixed(size) for size in output]
    seen = [False] * len(output)
    for operand, shape in zip(axes, site.shapes, strict=True):
        offset = len(output) - len(shape)
        for index, (axis, size) in enumerate(zip(operand, shape, strict=True)):
            place = offset + index
            if size == 1 and output[place] != 1:
                continue
            if seen[place]:
                ties.same(axis, result[place], f"node '{site.node.name}' ({site.node.op})")
            result[place], seen[place] = axis, True
    return tuple(result)


def _sum_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    return sum(low for low, _ in arriving), sum(high for _, high in arriving)


def _product_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    return (0.0, inf) if all(low >= 0 for low, _ in arriving) else (-inf, inf)


def activation(low: float, high: float, matching: dict[str, Attribute] | None = None) -> Rule:
    """A rule for an activation with outputs in [low, high] that is nowhere the identity."""

    def output_range(site: Site, arriving: Sequence[Interval]) -> Interval:
        return low, high

    return Rule(tie=_tie_same, range=output_range, matching=matching or {})


RELU = Rule(tie=_tie_same, identity=_above_zero, range=_relu_range, doc="the identity on values >= 0")
LEAKY_RELU = Rule(
    tie=_tie_same,
    identity=_above_zero,
    range=_leaky_range,
    matching={"alpha": 0.01},
    doc="the identity on values >= 0",
)
CLIP = Rule(tie=_tie_same, identity=_inside_clip, range=_clip_range, doc="the identity inside its bounds")
SIGMOID = activation(0.0, 1.0)
TANH = activation(-1.0, 1.0)
DROPOUT = Rule(tie=_tie_same, identity=_always, range=same_range, doc="the identity outside training")
ADD = Rule(tie=_tie_broadcast, range=_sum_range, commutative=True, doc="joins a residual branch")
MUL = Rule(tie=_tie_broadcast, range=_product_range, commutative=True, doc="joins a gate")
