"""Ops of two values, lined up as numpy broadcasts them: sums, products, gates, masks.

A constant operand of one number per channel is a parameter where it stands behind a layer with weights: the bias of a
linear layer on tokens, a position embedding, a layer scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from mnx.graphs.model import Shape
from mnx.graphs.ops.axes import Axes, Ties, fixed
from mnx.graphs.ops.rule import Interval, Kind, Role, Rule, Site, Slot, output_cost


def _tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Axes are lined up from the right; those of width 1 tie nothing."""
    return lined_up(axes, site.shapes, site.outputs[0], ties, site.where)


def lined_up(axes: Sequence[Axes], shapes: Sequence[Shape], output: Shape, ties: Ties, where: str) -> Axes:
    """The axes of operands broadcast to the shape `output`, tied where they meet."""
    result = [fixed(size) for size in output]
    seen = [False] * len(output)
    for operand, shape in zip(axes, shapes, strict=True):
        offset = len(output) - len(shape)
        for index, (axis, size) in enumerate(zip(operand, shape, strict=True)):
            place = offset + index
            if size == 1 and output[place] != 1:
                continue
            if seen[place]:
                ties.same(axis, result[place], where)
            result[place], seen[place] = axis, True
    return tuple(result)


def _has_parameter(site: Site, arriving: Interval) -> bool:
    """Adding zeros or multiplying by ones is the identity."""
    return bool(site.parameters)


def _sum_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    if len(arriving) < len(site.shapes):
        return -inf, inf
    return sum(low for low, _ in arriving), sum(high for _, high in arriving)


def _product_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    whole = len(arriving) == len(site.shapes)
    return (0.0, inf) if whole and all(low >= 0 for low, _ in arriving) else (-inf, inf)


def _cost(site: Site) -> int:
    return output_cost(site) if site.parameters else 0


_EVERY = (Role.PRODUCE,)

ADD = Rule(
    tie=_tie,
    slots={1: Slot(Kind.SHIFT, _EVERY, operand=True)},
    identity=_has_parameter,
    range=_sum_range,
    cost=_cost,
    keeps_zero=True,
    commutative=True,
    doc="joins a residual branch; a bias or position embedding",
)
MUL = Rule(
    tie=_tie,
    slots={1: Slot(Kind.SCALE, _EVERY, operand=True)},
    identity=_has_parameter,
    range=_product_range,
    cost=_cost,
    linear=True,
    keeps_zero=True,
    commutative=True,
    doc="joins a gate; a layer scale",
)
SUB = Rule(tie=_tie, keeps_zero=True)
DIV = Rule(tie=_tie)
POW = Rule(tie=_tie)
MAX = Rule(tie=_tie, commutative=True, doc="joins branches by the larger")
MIN = Rule(tie=_tie, commutative=True, doc="joins branches by the smaller")
MOD = Rule(tie=_tie, matching={"fmod": 0})
WHERE = Rule(tie=_tie, doc="a mask over attention scores")
COMPARISON = Rule(tie=_tie, doc="part of a mask")
