"""Conv: the kernel's first axis makes channels, its second sums over them, the rest lie over space."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mnx.graphs.axes import Axes, Ties, fixed
from mnx.graphs.errors import UnsupportedOp
from mnx.graphs.ops.rule import Interval, Kind, Role, Rule, Site, Slot


def _tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    if site.node.integer("group", 1) != 1:
        raise UnsupportedOp(
            f"node '{site.node.name}': Conv with group={site.node.integer('group', 1)} has no rule yet; "
            "only ungrouped convolutions can be planned and grown"
        )
    x, weight = axes[0], axes[1]
    ties.same(weight[1], x[1], f"node '{site.node.name}' (Conv)")
    if len(axes) > 2 and axes[2]:
        ties.same(axes[2][0], weight[0], f"bias of node '{site.node.name}' (Conv)")
    return (x[0], weight[0], *(fixed(size) for size in site.outputs[0][2:]))


def _identity(site: Site, arriving: Interval) -> bool:
    """A centre tap of 1 per channel copies x, where stride is 1 and the pads keep the size."""
    rank = len(site.shapes[1]) - 2
    dilations = site.node.integers("dilations", (1,) * rank)
    begins = site.node.integers("pads", (0,) * (2 * rank))[:rank]
    return (
        all(stride == 1 for stride in site.node.integers("strides", (1,) * rank))
        and site.outputs[0][2:] == site.shapes[0][2:]
        and all(pad % step == 0 for pad, step in zip(begins, dilations, strict=True))
    )


def _cost(site: Site) -> int:
    return prod(site.shapes[1]) * prod(site.outputs[0][2:])


CONV = Rule(
    tie=_tie,
    slots={
        1: Slot(Kind.WEIGHT, (Role.PRODUCE, Role.CONTRACT, Role.KERNEL)),
        2: Slot(Kind.BIAS, (Role.PRODUCE,)),
    },
    matching={"strides": (1, 1), "dilations": (1, 1), "group": 1},
    identity=_identity,
    cost=_cost,
    linear=True,
    doc="kernels grow inside larger ones by their pads; group = 1",
)
