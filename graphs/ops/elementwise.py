"""Ops that work element by element on one value: activations and simple functions."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from mnx.graphs.model import Attribute
from mnx.graphs.ops.axes import Axes, Ties
from mnx.graphs.ops.rule import Interval, Kind, Role, Rule, Site, Slot, output_cost, same_range

_DEEPEST_GELU = -0.17004
_DEEPEST_HARD_SWISH = -0.375
_DEEPEST_MISH = -0.30885


def _tie_same(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The output has the axes of the input."""
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


def _tie_slopes(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """PRelu: slopes are lined up from the right, as numpy broadcasts."""
    offset = len(axes[0]) - len(axes[1])
    for index, slope in enumerate(axes[1]):
        if site.shapes[1][index] == 1:
            ties.fix(slope)
        else:
            ties.same(slope, axes[0][offset + index], site.where)
    return axes[0]


def activation(
    low: float, high: float, matching: dict[str, Attribute] | None = None, at_zero: bool = True, doc: str = ""
) -> Rule:
    """A rule for a function with outputs in [low, high] that is nowhere the identity; `at_zero`: f(0) = 0."""

    def output_range(site: Site, arriving: Sequence[Interval]) -> Interval:
        return low, high

    return Rule(tie=_tie_same, range=output_range, matching=matching or {}, keeps_zero=at_zero, doc=doc)


RELU = Rule(tie=_tie_same, identity=_above_zero, range=_relu_range, keeps_zero=True, doc="the identity on values >= 0")
LEAKY_RELU = Rule(
    tie=_tie_same,
    identity=_above_zero,
    range=_leaky_range,
    matching={"alpha": 0.01},
    keeps_zero=True,
    doc="the identity on values >= 0",
)
PRELU = Rule(
    tie=_tie_slopes,
    slots={1: Slot(Kind.SLOPE, (Role.PRODUCE,))},
    identity=_above_zero,
    range=_leaky_range,
    keeps_zero=True,
    cost=output_cost,
    doc="the identity on values >= 0",
)
CLIP = Rule(tie=_tie_same, identity=_inside_clip, range=_clip_range, doc="the identity inside its bounds")
DROPOUT = Rule(tie=_tie_same, identity=_always, range=same_range, keeps_zero=True, doc="the identity outside training")
CAST = Rule(tie=_tie_same, range=same_range, matching={"to": 1}, keeps_zero=True)
ABS = activation(0.0, inf)
TRUTH = Rule(tie=_tie_same, doc="part of a mask")
SIN = activation(-1.0, 1.0)
COS = activation(-1.0, 1.0, at_zero=False)
ROUNDING = activation(-inf, inf)
NEG = activation(-inf, inf)
SIGMOID = activation(0.0, 1.0, at_zero=False)
HARD_SIGMOID = activation(0.0, 1.0, {"alpha": 0.2, "beta": 0.5}, at_zero=False)
TANH = activation(-1.0, 1.0)
ERF = activation(-1.0, 1.0)
SOFTSIGN = activation(-1.0, 1.0)
SOFTPLUS = activation(0.0, inf, at_zero=False)
EXP = activation(0.0, inf, at_zero=False)
LOG = activation(-inf, inf, at_zero=False)
SQRT = activation(0.0, inf)
RECIPROCAL = activation(-inf, inf, at_zero=False)
ELU = activation(-1.0, inf, {"alpha": 1.0})
CELU = activation(-1.0, inf, {"alpha": 1.0})
SELU = activation(-inf, inf, {"alpha": 1.6732632, "gamma": 1.0507009})
THRESHOLDED_RELU = activation(0.0, inf, {"alpha": 1.0})
GELU = activation(_DEEPEST_GELU, inf, {"approximate": "none"})
HARD_SWISH = activation(_DEEPEST_HARD_SWISH, inf)
MISH = activation(_DEEPEST_MISH, inf)
