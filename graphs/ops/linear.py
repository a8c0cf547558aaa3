"""Linear layers: Gemm in its canonical form, y = x w^T + b with w of shape (out, in), and MatMul on tokens."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mnx.graphs.errors import UnsupportedOp
from mnx.graphs.ops.axes import Axes, Ties
from mnx.graphs.ops.joins import lined_up
from mnx.graphs.ops.rule import Interval, Kind, Role, Rule, Site, Slot


def _tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The weight's second axis is what arrives, its first what is made."""
    x, weight = axes[0], axes[1]
    ties.same(weight[1], x[1], site.where)
    if len(axes) > 2 and axes[2]:
        ties.same(axes[2][0], weight[0], f"bias of {site.where}")
    return (x[0], weight[0])


def _identity(site: Site, arriving: Interval) -> bool:
    return True


def _cost(site: Site) -> int:
    return prod(site.shapes[1])


def _tie_product(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Batched matrices: what is summed over is a parameter's axis, or fixed where both sides are computed."""
    left, right = axes[0], axes[1]
    if min(len(left), len(right)) < 2:
        raise UnsupportedOp(f"{site.where} multiplies by a vector, which has no rule: write it as a matrix")
    if site.parameters or site.node.name in ties.products:
        ties.same(right[-2], left[-1], site.where)
    else:
        ties.same(ties.fix(left[-1]), ties.fix(right[-2]), site.where)
    shapes = [shape[:-2] for shape in site.shapes[:2]]
    leading = lined_up([left[:-2], right[:-2]], shapes, site.outputs[0][:-2], ties, site.where)
    return (*leading, left[-2], right[-1])


def _is_layer(site: Site, arriving: Interval) -> bool:
    return bool(site.parameters)


def _product_cost(site: Site) -> int:
    return prod(site.outputs[0][1:]) * site.shapes[0][-1]


GEMM = Rule(
    tie=_tie,
    slots={1: Slot(Kind.WEIGHT, (Role.PRODUCE, Role.CONTRACT)), 2: Slot(Kind.BIAS, (Role.PRODUCE,))},
    matching={"transA": 0, "transB": 0},
    identity=_identity,
    cost=_cost,
    linear=True,
    keeps_zero=True,
    doc="canonical form: transB=1, a bias, alpha = beta = 1",
)
MAT_MUL = Rule(
    tie=_tie_product,
    slots={1: Slot(Kind.WEIGHT, (Role.CONTRACT, Role.PRODUCE), operand=True)},
    identity=_is_layer,
    cost=_product_cost,
    linear=True,
    keeps_zero=True,
    doc="a linear layer on tokens; of two computed matrices, the axis summed over never grows",
)
