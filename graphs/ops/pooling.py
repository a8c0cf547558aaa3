"""Pooling works channel by channel; its window is part of what the network is and never changes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mnx.graphs.model import Attribute
from mnx.graphs.ops.axes import Axes, Axis, Ties, fixed
from mnx.graphs.ops.rule import EVERY, LINEAR, MONOTONE, Interval, Keeps, Rule, Site, keeps_every, same_range, space


def _tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Channels stay; space is fixed."""
    return (*axes[0][:2], *space(site, axes, ties))


def _tie_neighbours(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """LRN sums over neighbouring channels, so that their number stays."""
    ties.fix(axes[0][1])
    return axes[0]


def evenly(axes: Sequence[Axis], ties: Ties) -> None:
    """Make fixed those axes over which a mean could not stay the same: sums of different groups of channels."""
    for axis in axes:
        resolved = ties.resolve(axis)
        if len({part.group for part in resolved}) > 1:
            ties.fix(resolved)


def _reduced(site: Site) -> tuple[int, ...]:
    rank = len(site.shapes[0])
    given = next((constant for constant in site.constants[1:2] if constant is not None), None)
    return tuple(range(rank)) if given is None else tuple(sorted(int(axis) % rank for axis in given))


def _tie_mean(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The axes that are not reduced stay; what a mean is taken over is one group."""
    evenly([axes[0][axis] for axis in _reduced(site)], ties)
    return _left(site, axes)


def _tie_sum(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """A sum over repeated channels is another: what is summed over stays as it is."""
    for axis in _reduced(site):
        ties.fix(axes[0][axis])
    return _left(site, axes)


def _tie_extreme(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The axes that are not reduced stay: repeated channels change no extreme."""
    return _left(site, axes)


def _left(site: Site, axes: Sequence[Axes]) -> Axes:
    reduced = _reduced(site)
    if site.node.integer("keepdims", 1):
        return tuple(fixed(1) if index in reduced else axis for index, axis in enumerate(axes[0]))
    return tuple(axis for index, axis in enumerate(axes[0]) if index not in reduced)


def _over(site: Site) -> tuple[tuple[str, Attribute], ...]:
    return (("axes", _reduced(site)),)


def _window_cost(site: Site) -> int:
    return prod(site.outputs[0][1:]) * prod(site.node.integers("kernel_shape", ()))


def _input_cost(site: Site) -> int:
    return prod(site.shapes[0][1:])


def _counts_zeros(site: Site) -> bool:
    """Whether a mean is also taken over zeros around the image."""
    return any(site.node.integers("pads", ())) and site.node.integer("count_include_pad", 0) != 0


def _keeps_of_mean(site: Site) -> frozenset[Keeps]:
    """Where zeros around the image are counted, a constant does not pass."""
    return LINEAR if _counts_zeros(site) else EVERY


def _range_of_mean(site: Site, arriving: Sequence[Interval]) -> Interval:
    low, high = arriving[0]
    return (min(low, 0.0), max(high, 0.0)) if _counts_zeros(site) else (low, high)


def _keeps_of_sum(site: Site) -> frozenset[Keeps]:
    return LINEAR if site.node.op == "ReduceSum" else frozenset()


def _keeps_of_extreme(site: Site) -> frozenset[Keeps]:
    return MONOTONE


_WINDOW: dict[str, Attribute] = {
    "kernel_shape": (),
    "strides": (1, 1),
    "pads": (0, 0, 0, 0),
    "dilations": (1, 1),
    "ceil_mode": 0,
}

MAX_POOL = Rule(tie=_tie, range=same_range, matching=_WINDOW, keeps_zero=True, keeps=_keeps_of_extreme)
AVERAGE_POOL = Rule(
    tie=_tie,
    range=_range_of_mean,
    matching={**_WINDOW, "count_include_pad": 0},
    cost=_window_cost,
    keeps_zero=True,
    keeps=_keeps_of_mean,
)
GLOBAL_AVERAGE_POOL = Rule(tie=_tie, range=same_range, cost=_input_cost, keeps_zero=True, keeps=keeps_every)
LP_POOL = Rule(tie=_tie, matching={**_WINDOW, "p": 2}, cost=_window_cost, keeps_zero=True)
GLOBAL_LP_POOL = Rule(tie=_tie, matching={"p": 2}, cost=_input_cost, keeps_zero=True)
GLOBAL_MAX_POOL = Rule(tie=_tie, range=same_range, keeps_zero=True, keeps=_keeps_of_extreme)
LRN = Rule(
    tie=_tie_neighbours,
    matching={"size": 5, "alpha": 1e-4, "beta": 0.75, "bias": 1.0},
    cost=_input_cost,
    keeps_zero=True,
    mixes=True,
    doc="its width never changes",
)
REDUCE_MEAN = Rule(
    tie=_tie_mean,
    range=same_range,
    matching={"keepdims": 1},
    signature=_over,
    derived=(1,),
    cost=_input_cost,
    keeps_zero=True,
    keeps=keeps_every,
    mixes=True,
    even=_reduced,
    doc="over channels: a multiple of the mother's width",
)
REDUCE_SUM = Rule(
    tie=_tie_sum,
    matching={"keepdims": 1},
    signature=_over,
    derived=(1,),
    cost=_input_cost,
    keeps_zero=True,
    keeps=_keeps_of_sum,
    mixes=True,
    doc="the width summed over never changes",
)
REDUCE_EXTREME = Rule(
    tie=_tie_extreme,
    range=same_range,
    matching={"keepdims": 1},
    signature=_over,
    derived=(1,),
    keeps_zero=True,
    keeps=_keeps_of_extreme,
)
