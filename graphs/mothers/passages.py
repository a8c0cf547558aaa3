"""Inserted layers whose activation is no identity on what arrives, and how they are undone behind it.

What arrives, h, is passed through an inserted linear layer, coded so that the activation f does no harm, and decoded by
the next layer that sums over its channels:

    pair      v+ = f(h), v- = f(-h)           h = (v+ - v-) / c          where f(x) - f(-x) = c x (GELU, SiLU, ReLU)
    shift     v = f(h + b)                    h = v / gain - b           where f is a straight line on all h + b
    small     v = f(s h)                      h = v / s                  where f(x) = x (1 + O(x^2)) (tanh)

A pair needs two channels for one. Between code and decoding only such ops may stand as keep sums (pair), constants
(shift) or factors (small) channel by channel; a shift cannot pass a convolution with zeros around its image.
Net2Net (Chen et al., ICLR 2016) asks for f(f(x)) = f(x) instead; LEMON (Wang et al., ICLR 2024) knows such pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mnx.graphs.mothers.kernels import window
from mnx.graphs.ops.axes import Axis
from mnx.graphs.ops.rule import ANY, Interval, Keeps, Kind, Line, Role
from mnx.graphs.trees.structure import Op, Parallel, Series, Unit

SILU_IS_STRAIGHT = 17.0
"""From here on x sigmoid(x) is x in float32: it errs by x e^-x < 8e-7."""
DEEPEST_SILU = -0.27847
SMALL = 1e-3
"""The largest number that `small` lets into the activation: it errs there by SMALL^2 / 3 of itself."""


@dataclass(frozen=True)
class Passage:
    """How one inserted layer passes on what arrives.

    Attributes:
        kind: 'pair', 'shift' or 'small'.
        group: the channel group of the inserted layer, whose values are coded.
        signs: of the copies of every channel that arrives.
        gain: h = gain * sum of sign * v + offset. Of `small` it is 1 over what the layer multiplies by, found by
            measuring how large h gets.
        shift: b; the offset is -b.
        linear: the node of the inserted linear layer.
        coding: the nodes whose parameters carry signs and shift: a normalisation, or the layer and its bias.
        settling: the nodes behind that decode.
    """

    kind: str
    group: int
    signs: tuple[int, ...]
    gain: float
    shift: float
    linear: str
    coding: tuple[str, ...]
    settling: tuple[str, ...]

    @property
    def copies(self) -> int:
        """How many channels every channel that arrives takes."""
        return len(self.signs)


@dataclass(frozen=True)
class Bend:
    """An activation: where it is straight, its odd part, whether it is nearly the identity around 0."""

    line: Line | None
    mirror: float
    near_zero: bool


def bend(unit: Unit) -> Bend | None:
    """What is known of a unit as an activation; None where it is none, or is the identity on its own values (ReLU)."""
    if isinstance(unit, Op):
        rule = unit.rule
        if unit.parameters or len(unit.reads) != 1 or rule.identity(unit.site, rule.range(unit.site, [ANY])):
            return None
        found = Bend(rule.line(unit.site), rule.mirror(unit.site), rule.near_zero)
        return found if found.line is not None or found.mirror or found.near_zero else None
    if is_gated(unit):
        plain = len(gate_of(unit)) == 1
        return Bend(Line(SILU_IS_STRAIGHT) if plain else None, 1.0, False)
    return None


def is_gated(unit: Unit) -> bool:
    """Whether a section is x s(x) with s a sigmoid of x or of a number times x: SiLU, quick GELU."""
    if not isinstance(unit, Parallel) or unit.join.op != "Mul" or unit.join.parameters or len(unit.branches) != 2:
        return False
    gate = gate_of(unit)
    if min(map(len, unit.branches)) != 0 or not gate or not all(isinstance(each, Op) for each in gate):
        return False
    *before, last = (each for each in gate if isinstance(each, Op))
    scaled = all(op.op == "Mul" and not op.parameters and _one_number(op) for op in before)
    return last.op == "Sigmoid" and len(before) < 2 and scaled


def gate_of(unit: Unit) -> Series:
    """The longer branch of a section."""
    return max(unit.branches, key=len) if isinstance(unit, Parallel) else ()


def gated_range(unit: Unit) -> Interval | None:
    """The range of a SiLU, None of other units."""
    return (DEEPEST_SILU, float("inf")) if is_gated(unit) and len(gate_of(unit)) == 1 else None


def _one_number(op: Op) -> bool:
    return any(constant is not None and constant.size == 1 for constant in op.site.constants)


@dataclass(frozen=True)
class Run:
    """An inserted layer: a linear op, normalisation and bias behind it, and its activation."""

    linear: Op
    between: tuple[Op, ...]
    activation: Unit

    @property
    def units(self) -> Series:
        """All of it, in order."""
        return (self.linear, *self.between, self.activation)


def run_at(series: Series, place: int) -> Run | None:
    """The layer that begins at a place of a series, None where none does."""
    first = series[place]
    if not isinstance(first, Op) or not _makes_channels(first):
        return None
    between: list[Op] = []
    for unit in series[place + 1 :]:
        if bend(unit) is not None:
            return Run(first, tuple(between), unit)
        if not isinstance(unit, Op) or not _may_stand_between(unit) or len(between) == 2:
            return None
        between.append(unit)
    return None


def _makes_channels(op: Op) -> bool:
    kinds = {parameter.kind for parameter in op.parameters}
    summing = any(Role.CONTRACT in parameter.roles for parameter in op.parameters)
    return op.rule.linear and Kind.WEIGHT in kinds and summing and len(op.reads) == 1


def _may_stand_between(op: Op) -> bool:
    return op.op == "BatchNormalization" or (op.op == "Add" and bool(op.parameters))


def passages(series: Series, place: int, run: Run, arriving: Interval, even: frozenset[int]) -> Iterator[Passage]:
    """The ways in which a layer passes on values in an interval, the exact ones first.

    Args:
        series: the series in which the run stands.
        place: where it begins.
        run: the layer.
        arriving: the range of what arrives.
        even: groups over whose channels a mean is taken: they are never coded.
    """
    group, found = own_group(run.linear), bend(run.activation)
    if group is None or found is None or group in even:
        return
    coding = _coding(run)
    rest = series[place + len(run.units) :]
    plain = Passage("", group, (1,), 1.0, 0.0, run.linear.name, tuple(op.name for op in coding), ())
    if found.mirror:
        yield from _settled(replace(plain, kind="pair", signs=(1, -1), gain=1 / found.mirror), rest, Keeps.ADDS)
    if found.line is not None and arriving[0] > float("-inf"):
        shift = float(max(0.0, np.ceil(8 * (found.line.low - arriving[0])) / 8))
        if arriving[1] + shift <= found.line.high and _has_shift(coding[-1]):
            yield from _settled(replace(plain, kind="shift", gain=1 / found.line.gain, shift=shift), rest, Keeps.MOVES)
    if found.near_zero:
        yield from _settled(replace(plain, kind="small"), rest, Keeps.SCALES)


def own_group(op: Op) -> int | None:
    """The channel group that a linear op makes and does not read; None where its output is built otherwise."""
    groups = {part.group for axis in op.output for part in axis if part.group is not None}
    read = {part.group for axis in op.input for part in axis}
    return groups.pop() if len(groups) == 1 and not groups & read else None


def _coding(run: Run) -> tuple[Op, ...]:
    norms = [op for op in run.between if op.op == "BatchNormalization"]
    return (norms[-1], *run.between[run.between.index(norms[-1]) + 1 :]) if norms else (run.linear, *run.between)


def _has_shift(op: Op) -> bool:
    return any(parameter.kind in (Kind.BIAS, Kind.SHIFT) for parameter in op.parameters)


def _settled(passage: Passage, rest: Series, keeps: Keeps) -> Iterator[Passage]:
    found = _settling(passage, rest, keeps)
    if found:
        yield replace(passage, settling=found)


def _settling(passage: Passage, series: Series, keeps: Keeps) -> tuple[str, ...]:
    """The nodes that decode on every path from here, () where some path has none."""
    for place, unit in enumerate(series):
        if isinstance(unit, Parallel):
            found = [_settling(passage, branch, keeps) for branch in unit.branches]
            return tuple(name for names in found for name in names) if all(found) else ()
        if not isinstance(unit, Op):
            return ()
        if any(_reads(axis, passage.group) for parameter in unit.parameters for axis in parameter.axes):
            return (unit.name,) if _decodes(passage, unit, series[place + 1 : place + 2]) else ()
        if len(unit.reads) != 1 or unit.parameters or keeps not in unit.rule.keeps(unit.site):
            return ()
        if not any(_reads(axis, passage.group) for axis in unit.output):
            return ()
    return ()


def _reads(axis: Axis, group: int) -> bool:
    return any(part.group == group for part in axis)


def _decodes(passage: Passage, op: Op, behind: Series) -> bool:
    """Whether an op that has a parameter along the coded channels can undo the code."""
    if op.op == "BatchNormalization":
        return passage.kind == "shift" and passage.gain == 1
    summed = [
        axis
        for parameter in op.parameters
        for axis, role in zip(parameter.axes, parameter.roles, strict=True)
        if role is Role.CONTRACT and parameter.kind is Kind.WEIGHT
    ]
    if not op.rule.linear or not any(_reads(axis, passage.group) for axis in summed):
        return False
    if not passage.shift:
        return True
    found = window(op)
    if found is not None and any((*found.begins, *found.ends)):
        return False
    return _has_shift(op) or any(isinstance(unit, Op) and unit.op == "BatchNormalization" for unit in behind)
