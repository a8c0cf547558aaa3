"""Ops that work element by element on one value: activations and simple functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import numpy as np

from mnx.graphs.model import Attribute
from mnx.graphs.ops.axes import Axes, Ties
from mnx.graphs.ops.rule import (
    Interval,
    Keeps,
    Kind,
    Line,
    Role,
    Rule,
    Site,
    Slot,
    keeps_every,
    no_line,
    no_mirror,
    output_cost,
    same_range,
)

_GELU_IS_STRAIGHT = 6.0
"""From here on GELU(x) is x in float32: it errs by x Phi(-x) < 6e-9."""
_SOFTPLUS_IS_STRAIGHT = 17.0
"""From here on softplus(x) is x in float32: it errs by e^-x < 5e-8."""
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
    first, last = (min(max(end, low), high) for end in arriving[0])
    return first, last


def _inside_clip(site: Site, arriving: Interval) -> bool:
    low, high = _bounds(site)
    return low <= arriving[0] and arriving[1] <= high


def _leaky_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    if arriving[0][0] >= 0 or site.node.real("alpha", 0.01) < 0:
        return _sloped_range(site, arriving)
    return -inf, max(arriving[0][1], 0.0)


def _sloped_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    """Of PRelu: training makes slopes that are below zero too."""
    return arriving[0] if arriving[0][0] >= 0 else (-inf, inf)


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


def _line_above(low: float, gain: float = 1.0) -> Callable[[Site], Line]:
    def line(site: Site) -> Line:
        return Line(low, gain=gain)

    return line


def _clip_line(site: Site) -> Line:
    return Line(*_bounds(site))


def _mirrored(site: Site) -> float:
    """f(x) = x s(x) with s(x) + s(-x) = 1, and softplus: their odd part is x / 2."""
    return 1.0


def _leaky_mirror(site: Site) -> float:
    """ONNX holds the slope in float32, and so do runtimes."""
    return 1.0 + float(np.float32(site.node.real("alpha", 0.01)))


def _scales(site: Site) -> frozenset[Keeps]:
    return frozenset({Keeps.SCALES})


def _selu_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    alpha, gamma = site.node.real("alpha", 1.6732632), site.node.real("gamma", 1.0507009)
    return (min(-alpha * gamma, 0.0) if gamma > 0 else -inf), inf


def _selu_line(site: Site) -> Line:
    return Line(0.0, gain=site.node.real("gamma", 1.0507009))


def _elu_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    return min(-site.node.real("alpha", 1.0), 0.0), inf


def _celu_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    alpha = site.node.real("alpha", 1.0)
    return (-alpha if alpha > 0 else -inf), inf


def _above_threshold(site: Site, arriving: Sequence[Interval]) -> Interval:
    return min(site.node.real("alpha", 1.0), 0.0), inf


def activation(
    low: float,
    high: float,
    matching: dict[str, Attribute] | None = None,
    at_zero: bool = True,
    doc: str = "",
    line: Callable[[Site], Line | None] = no_line,
    mirror: Callable[[Site], float] = no_mirror,
    near_zero: bool = False,
) -> Rule:
    """A rule for a function with outputs in [low, high] that is the identity nowhere; `at_zero`: f(0) = 0."""

    def output_range(site: Site, arriving: Sequence[Interval]) -> Interval:
        return low, high

    return Rule(
        tie=_tie_same,
        range=output_range,
        matching=matching or {},
        keeps_zero=at_zero,
        doc=doc,
        line=line,
        mirror=mirror,
        near_zero=near_zero,
    )


RELU = Rule(
    tie=_tie_same,
    identity=_above_zero,
    range=_relu_range,
    keeps_zero=True,
    keeps=_scales,
    line=_line_above(0.0),
    mirror=_mirrored,
    doc="the identity on values >= 0",
)
LEAKY_RELU = Rule(
    tie=_tie_same,
    identity=_above_zero,
    range=_leaky_range,
    matching={"alpha": 0.01},
    keeps_zero=True,
    keeps=_scales,
    line=_line_above(0.0),
    mirror=_leaky_mirror,
    doc="the identity on values >= 0",
)
PRELU = Rule(
    tie=_tie_slopes,
    slots={1: Slot(Kind.SLOPE, (Role.PRODUCE,))},
    identity=_always,
    range=_sloped_range,
    keeps_zero=True,
    cost=output_cost,
    doc="the identity with a slope of 1",
)
CLIP = Rule(
    tie=_tie_same, identity=_inside_clip, range=_clip_range, line=_clip_line, doc="the identity inside its bounds"
)
DROPOUT = Rule(
    tie=_tie_same,
    identity=_always,
    range=same_range,
    keeps_zero=True,
    keeps=keeps_every,
    doc="the identity outside training",
)
CAST = Rule(tie=_tie_same, range=same_range, matching={"to": 1}, keeps_zero=True)
ABS = activation(0.0, inf)
TRUTH = Rule(tie=_tie_same, doc="part of a mask")
SIN = activation(-1.0, 1.0)
COS = activation(-1.0, 1.0, at_zero=False)
ROUNDING = activation(-inf, inf)
NEG = activation(-inf, inf)
SIGMOID = activation(0.0, 1.0, at_zero=False)
HARD_SIGMOID = activation(0.0, 1.0, {"alpha": 0.2, "beta": 0.5}, at_zero=False)
TANH = activation(-1.0, 1.0, near_zero=True, doc="almost the identity on small numbers")
ERF = activation(-1.0, 1.0)
SOFTSIGN = activation(-1.0, 1.0)
SOFTPLUS = activation(0.0, inf, at_zero=False, line=_line_above(_SOFTPLUS_IS_STRAIGHT), mirror=_mirrored)
EXP = activation(0.0, inf, at_zero=False)
LOG = activation(-inf, inf, at_zero=False)
SQRT = activation(0.0, inf)
RECIPROCAL = activation(-inf, inf, at_zero=False)
ELU = Rule(tie=_tie_same, range=_elu_range, matching={"alpha": 1.0}, keeps_zero=True, line=_line_above(0.0))
CELU = Rule(tie=_tie_same, range=_celu_range, matching={"alpha": 1.0}, keeps_zero=True, line=_line_above(0.0))
SELU = Rule(
    tie=_tie_same,
    range=_selu_range,
    matching={"alpha": 1.6732632, "gamma": 1.0507009},
    keeps_zero=True,
    line=_selu_line,
)
THRESHOLDED_RELU = Rule(tie=_tie_same, range=_above_threshold, matching={"alpha": 1.0}, keeps_zero=True)
GELU = activation(_DEEPEST_GELU, inf, {"approximate": "none"}, line=_line_above(_GELU_IS_STRAIGHT), mirror=_mirrored)
HARD_SWISH = activation(_DEEPEST_HARD_SWISH, inf, line=_line_above(3.0), mirror=_mirrored)
MISH = activation(_DEEPEST_MISH, inf)
