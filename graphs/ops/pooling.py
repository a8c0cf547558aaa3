"""Pooling works channel by channel; its window is part of what the network is and never changes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mnx.graphs.axes import Axes, Ties, fixed
from mnx.graphs.model import Attribute
from mnx.graphs.ops.rule import Rule, Site, same_range


def _tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    return (*axes[0][:2], *(fixed(size) for size in site.outputs[0][2:]))


def _window_cost(site: Site) -> int:
    return prod(site.outputs[0][1:]) * prod(site.node.integers("kernel_shape", ()))


def _global_cost(site: Site) -> int:
    return prod(site.shapes[0][1:])


_WINDOW: dict[str, Attribute] = {
    "kernel_shape": (),
    "strides": (1, 1),
    "pads": (0, 0, 0, 0),
    "dilations": (1, 1),
    "ceil_mode": 0,
}

MAX_POOL = Rule(tie=_tie, range=same_range, matching=_WINDOW)
AVERAGE_POOL = Rule(
    tie=_tie, range=same_range, matching={**_WINDOW, "count_include_pad": 0}, cost=_window_cost, linear=True
)
GLOBAL_AVERAGE_POOL = Rule(tie=_tie, range=same_range, cost=_global_cost, linear=True)
