"""BatchNormalization: every parameter has one number a channel."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mnx.graphs.axes import Axes, Ties
from mnx.graphs.ops.rule import Interval, Kind, Role, Rule, Site, Slot


def _tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    for parameter in axes[1:]:
        ties.same(parameter[0], axes[0][1], f"node '{site.node.name}' (BatchNormalization)")
    return axes[0]


def _identity(site: Site, arriving: Interval) -> bool:
    """Scale sqrt(variance + epsilon) and shift mean undo it, with the statistics of the data that arrive."""
    return True


def _cost(site: Site) -> int:
    return prod(site.outputs[0][1:])


_CHANNEL = (Role.PRODUCE,)

BATCH_NORMALIZATION = Rule(
    tie=_tie,
    slots={
        1: Slot(Kind.SCALE, _CHANNEL),
        2: Slot(Kind.SHIFT, _CHANNEL),
        3: Slot(Kind.MEAN, _CHANNEL),
        4: Slot(Kind.VARIANCE, _CHANNEL),
    },
    matching={"epsilon": 1e-5},
    identity=_identity,
    cost=_cost,
    linear=True,
    doc="inserted with scale and shift calibrated on data",
)
