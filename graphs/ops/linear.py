"""Gemm in its canonical form: y = x w^T + b, w of shape (out, in)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mnx.graphs.axes import Axes, Ties
from mnx.graphs.ops.rule import Interval, Kind, Role, Rule, Site, Slot


def _tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    x, weight = axes[0], axes[1]
    ties.same(weight[1], x[1], f"node '{site.node.name}' (Gemm)")
    if len(axes) > 2 and axes[2]:
        ties.same(axes[2][0], weight[0], f"bias of node '{site.node.name}' (Gemm)")
    return (x[0], weight[0])


def _identity(site: Site, arriving: Interval) -> bool:
    return True


def _cost(site: Site) -> int:
    return prod(site.shapes[1])


GEMM = Rule(
    tie=_tie,
    slots={1: Slot(Kind.WEIGHT, (Role.PRODUCE, Role.CONTRACT)), 2: Slot(Kind.BIAS, (Role.PRODUCE,))},
    matching={"transA": 0, "transB": 0},
    identity=_identity,
    cost=_cost,
    linear=True,
    doc="canonical form: transB=1, a bias, alpha = beta = 1",
)
