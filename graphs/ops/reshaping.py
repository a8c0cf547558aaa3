"""Flatten gives a product of axes, Concat a sum: both are expressions over the same channel groups."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mnx.graphs.axes import Axes, Ties, repeated
from mnx.graphs.errors import UnsupportedOp
from mnx.graphs.ops.rule import Interval, Rule, Site, same_range


def _tie_flatten(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    if site.node.integer("axis", 1) != 1:
        raise UnsupportedOp(f"node '{site.node.name}': Flatten with axis other than 1 has no rule")
    x = axes[0]
    for axis in x[2:]:
        if any(part.group is not None for part in axis):
            raise UnsupportedOp(f"node '{site.node.name}': Flatten over a channel axis that is not the first")
    return (x[0], repeated(x[1], prod(site.shapes[0][2:])))


def _tie_concat(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    rank = len(axes[0])
    along = site.node.integer("axis", 1) % rank
    where = f"node '{site.node.name}' (Concat)"
    if along == 0:
        raise UnsupportedOp(f"{where} joins along axis 0, the batch, which has no rule")
    for index in range(rank):
        for other in axes[1:]:
            if index != along:
                ties.same(other[index], axes[0][index], where)
    joined = tuple(part for operand in axes for part in operand[along])
    return tuple(joined if index == along else axes[0][index] for index in range(rank))


def _hull(site: Site, arriving: Sequence[Interval]) -> Interval:
    return min(low for low, _ in arriving), max(high for _, high in arriving)


FLATTEN = Rule(tie=_tie_flatten, range=same_range, matching={"axis": 1}, doc="width becomes channels * space")
CONCAT = Rule(tie=_tie_concat, range=_hull, matching={"axis": 1}, doc="width becomes the sum of the branches'")
