"""Promised widths: what an alignment in the making holds of channel groups, so that it counts what is true.

Every group of either network that a value so far has met promises a width: that of the mother's channels it carries.
Groups that meet promise the same. New channels are promised when a matched op makes them, at most the lesser of the two
widths, and counted at once. Whatever is passed over later must be wide enough for the promise; for a narrower one, less
must have been promised. What is worth promising is the least width of the layers that may be passed over next, one
after the other: `narrowings`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from mnx.graphs.mothers.kernels import Window, window
from mnx.graphs.mothers.matching import NONE, Groups, How, groups_beside, insertable, trimmed
from mnx.graphs.mothers.passages import passages, run_at
from mnx.graphs.ops.axes import Axes, Axis, Part, is_fixed, width_of
from mnx.graphs.ops.rule import Interval, Kind, Role
from mnx.graphs.trees.centred import rigid
from mnx.graphs.trees.structure import Op, Parallel, Series, Structure, Tangle, Unit, ops_of

_EASIEST: Interval = (0.0, 0.0)
"""A range on which whatever can be the identity anywhere is."""

Pair = tuple[Part, Part]


class Promises(NamedTuple):
    """Group -> promised width, of either side, as sorted items."""

    left: tuple[tuple[int, int], ...] = ()
    right: tuple[tuple[int, int], ...] = ()

    def among(self, left: Collection[int], right: Collection[int]) -> Promises:
        """The promises of these groups only: the others are never met again."""
        return Promises(
            tuple(item for item in self.left if item[0] in left), tuple(item for item in self.right if item[0] in right)
        )

    @property
    def new(self) -> tuple[Groups, Groups]:
        """The groups of either side that are promised to carry nothing."""
        left, right = (frozenset(group for group, width in side if not width) for side in self)
        return left, right

    @property
    def total(self) -> int:
        """The sum of what is promised."""
        return sum(width for _, width in self.left) + sum(width for _, width in self.right)


@dataclass(frozen=True)
class Meeting:
    """Two ops that match: the parts of axes that are tied, and what the mother's op has there.

    A parameter is a factor, of fixed axes and kernel sizes, times the widths of the left op's axes.
    """

    pairs: tuple[Pair, ...]
    parameters: tuple[tuple[int, tuple[Axis, ...]], ...]
    reach: int

    def count(self, promises: Promises) -> int:
        """Trained parameters of the mother's op."""
        widths = dict(promises.left)
        return sum(factor * prod(width_of(axis, widths) for axis in axes) for factor, axes in self.parameters)


class Offers:
    """What may be promised of the groups of two networks.

    Args:
        left: the (candidate) mother.
        right: the member.
        whole: the left side keeps all its widths.
    """

    def __init__(self, left: Structure, right: Structure, whole: bool) -> None:
        self._widths = left.groups, right.groups
        self._even = rigid(left), rigid(right)
        self._means = left.even, right.even
        self._narrower = _sets(narrowings(left)), _sets(narrowings(right))
        self._whole = whole
        self.asked = 0
        """How many lower promises a match has asked for: with each, another search may find more."""

    def all_widths(self) -> None:
        """From now on any width of either network may be promised."""
        every = {width for widths in self._widths for width in widths.values()}
        self._narrower = _sets(dict.fromkeys(self._widths[0], every)), _sets(dict.fromkeys(self._widths[1], every))

    def empty(self, promises: Promises, groups: Groups, side: int) -> Promises | None:
        """The promises with nothing promised of these groups of a side; None where that cannot be kept."""
        known = dict(promises[side])
        if any(known.get(group, 0) for group in groups) or groups & self._means[side]:
            return None
        changed = tuple(sorted({**known, **dict.fromkeys(groups, 0)}.items()))
        return Promises(changed, promises.right) if side == 0 else Promises(promises.left, changed)

    def holds(self, promises: Promises, group: int, copies: int, side: int) -> bool:
        """Whether a group of a side has room for so many copies of what is promised of it."""
        return self._widths[side][group] >= copies * dict(promises[side])[group]

    def tied(self, promises: Promises, pairs: Sequence[Pair], ask: bool) -> list[Promises]:
        """Every way to promise the same of two parts that meet; none where what is promised cannot be kept.

        Args:
            promises: so far.
            pairs: parts of the left and the right side.
            ask: whether to note, where a promise is too high, what could be kept.
        """
        ways = [(dict(promises.left), dict(promises.right))]
        for one, other in pairs:
            if one.group is not None or other.group is not None:
                ways = [after for way in ways for after in self._tie(way, one, other, ask)]
        return [Promises(tuple(sorted(left.items())), tuple(sorted(right.items()))) for left, right in ways]

    def _tie(
        self, way: tuple[dict[int, int], dict[int, int]], one: Part, other: Part, ask: bool
    ) -> list[tuple[dict[int, int], dict[int, int]]]:
        left, right = way
        mine, theirs = _known(left, one, other), _known(right, other, one)
        if mine is not None and theirs is not None:
            if mine != theirs and ask:
                self._ask(one if mine > theirs else other, 0 if mine > theirs else 1, min(mine, theirs))
            return [way] if mine == theirs else []
        if mine is None and theirs is None:
            widths = self._offers(one.group, other.group)
        else:
            widths = [each for each in (mine, theirs) if each is not None]
        found = []
        for width in widths:
            if self._keeps(0, one, width) and self._keeps(1, other, width):
                if one.group is None or one.group in left:
                    found.append((left, _with(right, other.group, width)))
                elif other.group is None or other.group in right:
                    found.append((_with(left, one.group, width), right))
                else:
                    found.append((_with(left, one.group, width), _with(right, other.group, width)))
            elif ask:
                native = min(self._native(0, one, width), self._native(1, other, width))
                self._ask(one, 0, native)
                self._ask(other, 1, native)
        return found

    def _offers(self, one: int | None, other: int | None) -> list[int]:
        if one is None or other is None:
            return []
        most = self._largest(one, other, min(self._widths[0][one], self._widths[1][other]))
        if self._whole:
            return [self._widths[0][one]]
        lower = self._narrower[0].get(one, set()) | self._narrower[1].get(other, set())
        fitting = {self._largest(one, other, width) for width in lower if width < most}
        return [most, *sorted((width for width in fitting if width < most), reverse=True)]

    def _largest(self, one: int, other: int, most: int) -> int:
        """The largest width up to `most` that both groups can carry."""
        if one not in self._even[0] and other not in self._even[1]:
            return most
        return next(width for width in range(most, 0, -1) if self._fits(0, one, width) and self._fits(1, other, width))

    def _fits(self, side: int, group: int, width: int) -> bool:
        """Whether a group can carry so many channels: where a mean is taken, a whole number of times each."""
        native = self._widths[side][group]
        if not width:
            return False
        return native % width == 0 if group in self._even[side] else native >= width

    def _keeps(self, side: int, part: Part, width: int) -> bool:
        if part.group is None:
            return True
        if self._whole and side == 0:
            return self._widths[0][part.group] == width
        return self._fits(side, part.group, width)

    def _native(self, side: int, part: Part, width: int) -> int:
        """The largest width up to `width` that a part can carry."""
        if part.group is None:
            return width
        most = min(width, self._widths[side][part.group])
        return next(each for each in range(most, 0, -1) if self._fits(side, part.group, each))

    def _ask(self, part: Part, side: int, width: int) -> None:
        if part.group is not None and not self._whole:
            lower = self._narrower[side].setdefault(part.group, set())
            if width not in lower:
                lower.add(width)
                self.asked += 1


def meeting(
    left: Op,
    right: Op,
    owner: Mapping[str, str],
    normalises: bool,
    kernel: Window | None,
    new: tuple[Groups, Groups] = (NONE, NONE),
) -> Meeting:
    """What two ops that match tie and count.

    Args:
        left: the mother's op.
        right: the member's.
        owner: parameter -> the first op that has it, so that a shared one is counted once.
        normalises: whether the left op stands behind one that leaves its bias out on its account. The bias is counted
            there all the same, and taken off here: where the normalisation is passed over, the mother has it.
        kernel: what their kernels have in common.
        new: groups of either side that carry nothing of what both have.
    """
    theirs = {parameter.slot: parameter for parameter in right.parameters}
    pairs = [pair for axes in _met(left.output, right.output, new) for pair in parts(*axes)]
    counted: list[tuple[int, tuple[Axis, ...]]] = []
    for mine in left.parameters:
        other = theirs.get(mine.slot, mine)
        if mine.slot in theirs:
            pairs += [pair for axes in _met(mine.axes, other.axes, new) for pair in parts(*axes)]
        if mine.kind.trained and owner[mine.name] == left.name:
            factor, axes = 1, []
            for axis, role, size, their_size in zip(mine.axes, mine.roles, mine.shape, other.shape, strict=True):
                if is_fixed(axis):
                    factor *= min(size, their_size) if role is Role.KERNEL else size
                else:
                    axes.append(axis)
            counted.append((factor, tuple(axes)))
    if lacks_bias(left):
        counted.append((1, (left.parameters[0].axes[0],)))
    if normalises:
        counted.append((-1, (left.output[1],)))
    return Meeting(tuple(dict.fromkeys(pairs)), tuple(counted), _reach(kernel))


def _met(left: Axes, right: Axes, new: tuple[Groups, Groups]) -> Iterator[tuple[Axis, Axis]]:
    yield from zip(trimmed(left, new[0]), trimmed(right, new[1]), strict=True)


def reach(structure: Structure) -> int:
    """How far a network looks around: what its kernels read beside their centres, over all layers and axes of space."""
    return sum(_reach(window(op)) for op in structure.ops())


def _reach(kernel: Window | None) -> int:
    return 0 if kernel is None else sum((k - 1) * step for k, step in zip(kernel.size, kernel.dilations, strict=True))


def lacks_bias(op: Unit) -> bool:
    """Whether an op leaves out its bias, as before a normalisation."""
    if not isinstance(op, Op) or not op.parameters:
        return False
    slots = {parameter.slot for parameter in op.parameters}
    own = ((index, slot) for index, slot in op.rule.slots.items() if slot.roles == (Role.PRODUCE,))
    return any(slot.kind is Kind.BIAS and index not in slots for index, slot in own)


def groups_of(unit: Unit) -> frozenset[int]:
    """Every channel group that a unit meets."""
    axes = [a for op in ops_of((unit,)) for a in (op.output, *op.operands, *(p.axes for p in op.parameters))]
    return frozenset(group for each in axes for group in _groups(each))


def parts(one: Axis, other: Axis) -> Iterator[Pair]:
    """The parts of two axes that meet; none of two fixed axes."""
    if not (is_fixed(one) and is_fixed(other)):
        yield from zip(one, other, strict=False)


def passing(
    unit: Unit, ops: Sequence[tuple[Op, How]], arriving: Axes, left: bool, new: Groups = NONE
) -> tuple[Pair, ...]:
    """The parts that are tied where a unit of the left (or right) side passes on what arrives, given by the other.

    `new` are groups of its own side that carry nothing of it.
    """
    values = [axes for op, how in ops if how is How.IDENTITY for axes in (op.input, op.output)]
    pairs = [
        pair if left else (pair[1], pair[0])
        for axes in (*values, unit.output)
        for place, axis in zip(trimmed(axes[1:], new), arriving[1:], strict=True)
        for pair in parts(place, axis)
    ]
    return tuple(dict.fromkeys(pairs))


def narrowings(structure: Structure) -> dict[int, set[int]]:
    """Group -> lesser widths of layers that may be passed over directly behind a value that has its channels."""
    found: dict[int, set[int]] = {}
    _collect(structure.series, structure.input, structure.groups, found)
    return found


def _collect(series: Series, axes: Axes, widths: Mapping[int, int], found: dict[int, set[int]]) -> frozenset[int]:
    """The least widths behind the first value of a series; those behind the others are noted in `found`."""
    places = [axes, *(unit.output for unit in series)]
    behind: frozenset[int] = frozenset()
    for index in range(len(series), -1, -1):
        if index < len(series):
            halved = _halved(series, index, widths)
            behind = _behind(series[index], places[index], widths, behind, found) | halved
        for part in (part for axis in places[index] for part in axis):
            if part.group is not None:
                lower = {width for width in behind if width < widths[part.group]}
                found.setdefault(part.group, set()).update(lower)
    return behind


def _halved(series: Series, place: int, widths: Mapping[int, int]) -> frozenset[int]:
    """What a layer that begins here can pass on in pairs."""
    run = run_at(series, place)
    ways = passages(series, place, run, (0.0, 0.0), NONE) if run is not None else ()
    return frozenset(widths[way.group] // way.copies for way in ways if widths[way.group] >= way.copies > 1)


def _behind(
    unit: Unit, axes: Axes, widths: Mapping[int, int], behind: frozenset[int], found: dict[int, set[int]]
) -> frozenset[int]:
    """The least widths of what may be passed over from a unit on, given those behind it."""
    inside: frozenset[int] = frozenset()
    if isinstance(unit, Parallel):
        inside = inside.union(*(_collect(branch, axes, widths, found) for branch in unit.branches))
    ops = insertable(unit, _EASIEST, axes)
    if ops is not None and groups_beside(unit, ops):
        return inside | behind
    if ops is None:
        return inside | (behind if set(_groups(unit.output)) <= set(_groups(axes)) else frozenset())
    own = [widths[group] for op, how in ops if how is How.IDENTITY for group in _groups(op.output)]
    if not own or isinstance(unit, Tangle):
        return inside | behind
    least = min(own)
    return inside | {least} | {min(least, width) for width in behind}


def _groups(axes: Axes) -> list[int]:
    return [part.group for axis in axes for part in axis if part.group is not None]


def _sets(found: Mapping[int, Collection[int]]) -> dict[int, set[int]]:
    return {group: set(widths) for group, widths in found.items()}


def _known(promised: Mapping[int, int], part: Part, other: Part) -> int | None:
    """What is promised of a part; a fixed one promises as many of the other's as it holds."""
    if part.group is None:
        return part.outer * part.inner // (other.outer * other.inner)
    return promised.get(part.group)


def _with(promised: dict[int, int], group: int | None, width: int) -> dict[int, int]:
    return promised if group is None else {**promised, group: width}
