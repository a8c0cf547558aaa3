"""Ops that take or add elements: Slice, Gather, Expand, Pad.

The ends of a Slice embed widths and change with them. The target of an Expand embeds none: in canonical form it has a 1
for every axis that stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import inf

import numpy as np

from mnx.graphs.errors import UnsupportedOp
from mnx.graphs.model import Array, Attribute
from mnx.graphs.ops.axes import Axes, Ties, fixed, is_fixed
from mnx.graphs.ops.rule import Interval, Kind, Rewritten, Role, Rule, Site, Slot, Widths, keeps_every, same_range


def _tie_slice(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Whole parts of a sum, or one of several equal pieces; what is cut otherwise is fixed."""
    result = list(axes[0])
    for start, stop, axis, step in _cuts(site):
        if start == 0 and stop == site.shapes[0][axis] and step == 1:
            continue
        if step == 1:
            result[axis] = ties.taken(result[axis], start, stop)
        else:
            ties.fix(result[axis])
            result[axis] = fixed(site.outputs[0][axis])
    return tuple(result)


def _cuts(site: Site) -> list[tuple[int, int, int, int]]:
    """(start, stop, axis, step) of a Slice, counted from the front."""
    if any(constant is None for constant in site.constants[1:]):
        raise UnsupportedOp(f"{site.where} is cut at places that are computed, which has no rule")
    starts, ends, *rest = (list(map(int, _array(constant))) for constant in site.constants[1:])
    axes = rest[0] if rest else list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    found = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = site.shapes[0][axis]
        places = range(size)[start:end:step]
        found.append((places.start, places.stop, axis % len(site.shapes[0]), step))
    return found


def _array(constant: Array | None) -> Array:
    return np.array([], dtype=np.int64) if constant is None else constant


def _rewrite_slice(site: Site, widths: Widths) -> Rewritten:
    """A whole number of pieces stands in front: start and end move with the width of the axis that is cut."""
    starts, ends = [], []
    for start, stop, axis, _ in _cuts(site):
        old, new = site.shapes[0][axis], widths.of(widths.inputs[0][axis])
        length = widths.of(widths.output[axis])
        if is_fixed(widths.inputs[0][axis]) or old == new:
            starts.append(start)
            ends.append(stop)
            continue
        before = _before(widths, axis, start)
        starts.append(before)
        ends.append(before + length)
    return Rewritten(constants={1: np.array(starts, dtype=np.int64), 2: np.array(ends, dtype=np.int64)})


def _before(widths: Widths, axis: int, start: int) -> int:
    """The new width of what stands before old place `start` of an axis."""
    cut, place, moved = widths.inputs[0][axis], 0, 0
    for part in cut:
        size = widths.old((part,))
        if place + size <= start:
            place, moved = place + size, moved + widths.of((part,))
        elif place < start:
            return moved + (start - place) * widths.of((part,)) // size
    return moved


def _tie_gather(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """A table looked up by ids, or places of a value picked by constant numbers."""
    along = site.axis(0)
    if 0 in site.parameters:
        return (*axes[0][:along], *axes[1], *axes[0][along + 1 :])
    ties.fix(axes[0][along])
    picked = tuple(fixed(size) for size in site.shapes[1]) if not axes[1] else axes[1]
    return (*axes[0][:along], *picked, *axes[0][along + 1 :])


def _tie_expand(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Axes that keep their size stay; repeated ones are fixed."""
    offset = site.rank - len(site.shapes[0])
    return tuple(
        axes[0][place - offset] if place >= offset and site.shapes[0][place - offset] == size else fixed(size)
        for place, size in enumerate(site.outputs[0])
    )


def _tie_pad(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Zeros before and behind channels are channels too, as many as wanted; padded space is fixed."""
    result = []
    for place, axis in enumerate(axes[0]):
        before, after = _pads(site)[place]
        if (before, after) == (0, 0):
            result.append(axis)
        elif is_fixed(ties.resolve(axis)) or min(before, after) < 0 or not _pads_zeros(site):
            ties.fix(axis)
            result.append(fixed(site.outputs[0][place]))
        else:
            added = [ties.group(size) if size else () for size in (before, after)]
            result.append((*added[0], *ties.resolve(axis), *added[1]))
    return tuple(result)


def _pads(site: Site) -> list[tuple[int, int]]:
    """How much is added before and after each axis."""
    if len(site.constants) < 2 or site.constants[1] is None or (site.node.input(3) and site.constants[3] is None):
        raise UnsupportedOp(f"{site.where} has pads that are computed, which has no rule")
    rank = len(site.shapes[0])
    amounts = [int(amount) for amount in site.constants[1]]
    given = [int(axis) % rank for axis in _array(site.constants[3])] if site.node.input(3) else list(range(rank))
    found = dict(zip(given, zip(amounts[: len(given)], amounts[len(given) :], strict=True), strict=True))
    return [found.get(place, (0, 0)) for place in range(rank)]


def _pads_zeros(site: Site) -> bool:
    value = site.constants[2] if site.node.input(2) else None
    computed = bool(site.node.input(2)) and value is None
    return site.node.attributes.get("mode", "constant") == "constant" and not computed and not _array(value).any()


def _pad_signature(site: Site) -> tuple[tuple[str, Attribute], ...]:
    """Pads of space, and which sides of the channels have some."""
    return tuple(
        (f"axis {place}", f"{before}, {after}" if place > 1 else f"{bool(before)}, {bool(after)}")
        for place, (before, after) in enumerate(_pads(site))
        if before or after
    )


def _rewrite_pad(site: Site, widths: Widths) -> Rewritten:
    """Pads of a channel axis are the widths of its outermost parts."""
    amounts = _pads(site)
    for place, (before, after) in enumerate(amounts):
        made = widths.output[place]
        if (before or after) and not is_fixed(made):
            amounts[place] = (widths.of(made[:1]) if before else 0, widths.of(made[-1:]) if after else 0)
    if amounts == _pads(site):
        return Rewritten()
    given = _array(site.constants[3]) if site.node.input(3) else np.arange(len(amounts))
    kept = [amounts[int(axis)] for axis in given]
    return Rewritten(constants={1: np.array([*(b for b, _ in kept), *(a for _, a in kept)], dtype=np.int64)})


def _picked_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    return arriving[0] if arriving and not site.parameters else (-inf, inf)


def _padded_range(site: Site, arriving: Sequence[Interval]) -> Interval:
    """What arrives, and what is padded with where that is a number."""
    low, high = arriving[0]
    if site.node.attributes.get("mode", "constant") != "constant":
        return low, high
    value = site.constants[2] if site.node.input(2) else np.zeros(1)
    return (-inf, inf) if value is None else (min(low, float(value.min())), max(high, float(value.max())))


def _cut_signature(site: Site) -> tuple[tuple[str, Attribute], ...]:
    """Where it cuts, as shares of the axis: 1/3 to 2/3 for the keys of a joined projection."""
    return tuple(
        (f"axis {axis}", f"{Fraction(start, site.shapes[0][axis])} to {Fraction(stop, site.shapes[0][axis])} by {step}")
        for start, stop, axis, step in _cuts(site)
    )


def _gather_signature(site: Site) -> tuple[tuple[str, Attribute], ...]:
    return (("axis", site.axis(0)), ("looks up", "a table" if 0 in site.parameters else "a value"))


SLICE = Rule(
    tie=_tie_slice,
    range=same_range,
    keeps=keeps_every,
    signature=_cut_signature,
    rewrite=_rewrite_slice,
    derived=(1, 2),
    keeps_zero=True,
    doc="whole operands of a Concat, or equal pieces of an axis",
)
GATHER = Rule(
    tie=_tie_gather,
    slots={0: Slot(Kind.TABLE, (Role.FIXED, Role.PRODUCE), operand=True)},
    range=_picked_range,
    signature=_gather_signature,
    doc="an embedding table: its entries stay, their width grows",
)
EXPAND = Rule(
    tie=_tie_expand,
    slots={0: Slot(Kind.TABLE, (Role.PRODUCE,), operand=True)},
    range=_picked_range,
    derived=(1,),
    doc="a class token for every example",
)
PAD = Rule(
    tie=_tie_pad,
    range=_padded_range,
    matching={"mode": "constant"},
    signature=_pad_signature,
    rewrite=_rewrite_pad,
    derived=(1,),
    keeps_zero=True,
    doc="space stays as padded; zeros beside channels grow like channels",
)
