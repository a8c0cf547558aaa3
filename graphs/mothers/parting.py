"""Where two networks part: what they have in common in order, and what stands between them and a mother.

Unlike in `align`, any unit may be passed over here: the longest common part is found first, as in a comparison of
texts, and every unit that only one side has is then asked whether it could be made the identity where it stands. The
first that cannot is where the two part. Ask it of networks without a mother: hers need not be the longest common part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, permutations

from mnx.graphs.mothers.exchanges import gate_at, norm_at
from mnx.graphs.mothers.matching import fixed_width, insertable, mismatch
from mnx.graphs.mothers.passages import bend, gated_range, is_gated, passages, run_at
from mnx.graphs.ops.axes import Axes, is_fixed
from mnx.graphs.ops.rule import ANY, Interval, never
from mnx.graphs.trees.structure import Op, Parallel, Series, Structure, Tangle, Unit

_PASSABLE = {
    "Concat": "where one lets through what arrives and the others make channels of their own",
    "Mul": "where one is a sigmoid whose last layer can be zero, and a linear layer stands next to it",
}
"""Joins other than Add whose sections are passed over, and when."""
ORDERS = 24
"""How many orders of the branches of a commutative join are tried."""


@dataclass(frozen=True)
class Pair:
    """A place of two networks.

    Attributes:
        left: the unit there, None where only the right one has one.
        right: likewise.
        inside: of two sections that match, the pairs of each two branches.
        reason: why the two do not match, or why a single one cannot be passed over; '' where they do, or it can.
    """

    left: Unit | None
    right: Unit | None
    inside: tuple[tuple[Pair, ...], ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class _Spot:
    """What arrives at a unit."""

    axes: Axes
    range: Interval


def pairs_of(left: Structure, right: Structure) -> tuple[Pair, ...]:
    """The longest common part of two networks, and what stands between."""
    start = _Spot(left.input, ANY), _Spot(right.input, ANY)
    return _Comparison().pairs(left.series, right.series, *start)


def parting(left: Structure, right: Structure) -> str:
    """The first place where two networks part, and why; '' where each unit matches or can be passed over."""
    mine, theirs = _ports_text(left), _ports_text(right)
    if mine != theirs:
        return f"their inputs differ: {left.name} takes {mine}, {right.name} {theirs}"
    for pair in flat(pairs_of(left, right)):
        if pair.reason and pair.left is not None and pair.right is not None:
            return f"{words(pair.left)} of {left.name} and {words(pair.right)} of {right.name}: {pair.reason}"
        for unit, name, other in ((pair.left, left.name, right.name), (pair.right, right.name, left.name)):
            if pair.reason and unit is not None:
                return f"{words(unit)} of {name} has no match in {other}: {pair.reason}"
    return ""


def flat(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """All pairs, those inside two sections before the sections themselves."""
    for pair in pairs:
        for branch in pair.inside:
            yield from flat(branch)
        yield pair


def words(unit: Unit) -> str:
    """`node 'conv1' (Conv)`, or the section or tangle that ends there."""
    if isinstance(unit, Op):
        return f"node '{unit.name}' ({unit.op})"
    last = unit.join if isinstance(unit, Parallel) else unit.ops[-1]
    return f"the {'section' if isinstance(unit, Parallel) else 'tangle'} before node '{last.name}' ({last.op})"


def obstacle(unit: Unit, arriving: Interval, axes: Axes) -> str:
    """Why a unit cannot be passed over where values in an interval arrive, along these axes; '' where it can."""
    if insertable(unit, arriving, axes) is not None:
        return ""
    if isinstance(unit, Tangle):
        return "its ops are no tree of branches, so that it is never passed over"
    if isinstance(unit, Parallel):
        if is_gated(unit):
            return "x * sigmoid(x) cannot be the identity"
        if unit.join.op in _PASSABLE:
            return f"branches that {unit.join.op} joins are passed over only {_PASSABLE[unit.join.op]}"
        if unit.join.op != "Add":
            return f"branches that {unit.join.op} joins are never passed over; those of an Add are, set to zero"
        if _sizes(unit.input) != _sizes(unit.output):
            return "the section changes sizes, so that nothing passes it unchanged"
        return "no branch lets through what arrives while the others can be set to zero"
    if unit.rule.identity is never:
        return f"{unit.op} cannot be the identity"
    if not unit.rule.identity(unit.site, arriving):
        if _sizes(unit.input) != _sizes(unit.output):
            return f"{unit.op} changes sizes here, so that it cannot be the identity"
        low, high = arriving
        where = "everything that may arrive" if arriving == ANY else f"values from {low:g} to {high:g}"
        return f"{unit.op} is not the identity on {where}"
    return f"{unit.op} could be the identity, but not with the width that arrives here"


def unlike(left: Unit, right: Unit) -> str:
    """Why two units do not match, '' where they may."""
    if isinstance(left, Op) and isinstance(right, Op):
        return mismatch(left, right)
    if isinstance(left, Parallel) and isinstance(right, Parallel):
        joined = left.join.op == right.join.op == "Concat"
        if len(left.branches) != len(right.branches) and not joined:
            return f"{len(left.branches)} branches are not {len(right.branches)}"
        reason = mismatch(left.join, right.join)
        return f"their joins differ: {reason}" if reason else ""
    if isinstance(left, Tangle) and isinstance(right, Tangle):
        same = left.wiring == right.wiring and not any(map(mismatch, left.ops, right.ops))
        return "" if same else "tangles match only where all their ops do"
    return f"{_words(left)} {'are' if isinstance(left, Parallel) else 'is'} not {_words(right)}"


class _Comparison:
    """How many ops of two units match, each pair compared once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[int, tuple[Series, ...]] | None] = {}

    def pairs(self, left: Series, right: Series, start: _Spot, other: _Spot) -> tuple[Pair, ...]:
        """The longest common part of two series, early matches first, and what stands between."""
        spots, others = _spots(left, start), _spots(right, other)
        best = self._table(left, right)
        found: list[Pair] = []
        i = j = begin = other_begin = 0

        def close() -> None:
            here, there = spots[begin], others[other_begin]
            mine = _judged(left, begin, i, _Spot(there.axes, here.range))
            theirs = _judged(right, other_begin, j, _Spot(here.axes, there.range))
            found.extend(_apart(mine, theirs))

        while i < len(left) and j < len(right):
            match = self._match(left[i], right[j])
            if match is not None and match[0] + best[i + 1][j + 1] == best[i][j]:
                close()
                found.append(self._matched(left[i], right[j], match[1], spots[i], others[j]))
                i, j = i + 1, j + 1
                begin, other_begin = i, j
            elif best[i + 1][j] == best[i][j]:
                i += 1
            else:
                j += 1
        i, j = len(left), len(right)
        close()
        return tuple(found)

    def _matched(self, left: Unit, right: Unit, branches: tuple[Series, ...], spot: _Spot, other: _Spot) -> Pair:
        if not isinstance(left, Parallel):
            return Pair(left, right)
        inside = zip(left.branches, branches, strict=False)
        return Pair(left, right, tuple(self.pairs(one, two, spot, other) for one, two in inside))

    def _table(self, left: Series, right: Series) -> list[list[int]]:
        """[i][j]: how many ops of left[i:] and right[j:] match."""
        best: list[list[int]] = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
        for i in reversed(range(len(left))):
            for j in reversed(range(len(right))):
                best[i][j] = max(best[i + 1][j], best[i][j + 1])
                match = self._match(left[i], right[j])
                if match is not None:
                    best[i][j] = max(best[i][j], match[0] + best[i + 1][j + 1])
        return best

    def _match(self, left: Unit, right: Unit) -> tuple[int, tuple[Series, ...]] | None:
        """How many ops of two units match, and the right one's branches in the order of the left's; None: no match."""
        key = (id(left), id(right))
        if key not in self._known:
            self._known[key] = self._compared(left, right)
        return self._known[key]

    def _compared(self, left: Unit, right: Unit) -> tuple[int, tuple[Series, ...]] | None:
        if unlike(left, right):
            return None
        if isinstance(left, Op) and isinstance(right, Op):
            return 1, ()
        if not (isinstance(left, Parallel) and isinstance(right, Parallel)):
            return len(left.ops) if isinstance(left, Tangle) else 1, ()
        orders = islice(permutations(right.branches), ORDERS) if left.join.rule.commutative else [right.branches]
        scored = [(self._branches(left.branches, order), order) for order in orders]
        score, order = max(scored, key=lambda each: each[0])
        return score + 1, tuple(order)

    def _branches(self, left: Sequence[Series], right: Sequence[Series]) -> int:
        return sum(self._table(one, other)[0][0] for one, other in zip(left, right, strict=False))


def _judged(series: Series, begin: int, end: int, at: _Spot) -> list[tuple[Unit, str]]:
    """Each unit that one side has alone, with its obstacle; `at` is what arrives, along the other side's axes.

    What is passed over leaves it as it is; behind what cannot be, the network goes on with values of its own.
    """
    found: list[tuple[Unit, str]] = []
    place = begin
    while place < end:
        units, reason = _passed(series, place, end, at)
        found += [*((unit, "") for unit in units[:-1]), (units[-1], reason)]
        if reason:
            at = _Spot(units[-1].output, _range(units[-1], at.range))
        place += len(units)
    return found


def _passed(series: Series, place: int, end: int, at: _Spot) -> tuple[Series, str]:
    """The units that are passed over together from here, and the obstacle of the last one; '' where there is none."""
    unit = series[place]
    run = run_at(series, place)
    if run is not None and place + len(run.units) <= end and obstacle(run.activation, at.range, at.axes):
        before = [obstacle(each, at.range, at.axes) for each in run.units[:-1]]
        if not any(before):
            ways = any(True for _ in passages(series, place, run, at.range, frozenset()))
            return run.units, "" if ways else _uncoded(run.activation, at)
    reason = obstacle(unit, at.range, at.axes)
    if reason and gate_at(series, place) is not None:
        return (unit,), ""
    if not reason and place + 1 < end and norm_at(series, place + 1) is not None:
        return (unit, series[place + 1]), ""
    return (unit,), reason


def _uncoded(activation: Unit, at: _Spot) -> str:
    """Why the activation of an inserted layer can neither be the identity nor be undone behind it."""
    known = bend(activation)
    reasons = []
    if known is not None and known.mirror:
        reasons.append("pairs, f(h) - f(-h), do not pass what follows before the next layer")
    if known is not None and known.line is not None:
        bounded = at.range[0] > float("-inf")
        shifted = "shifted values do not pass what follows, or the zeros around an image"
        reasons.append(shifted if bounded else "what arrives has no lower bound to be shifted by")
    reason = obstacle(activation, at.range, at.axes)
    return f"{reason}, nor can it be undone behind: {'; '.join(reasons)}" if reasons else reason


def _apart(mine: Sequence[tuple[Unit, str]], theirs: Sequence[tuple[Unit, str]]) -> Iterator[Pair]:
    """What only one side has between two matches; units that stand in each other's way side by side."""
    partners = _partners(mine, theirs)
    rights = iter(enumerate(theirs))
    for place, (unit, reason) in enumerate(mine):
        if place not in partners:
            yield Pair(unit, None, reason=reason)
            continue
        for number, (other, their_reason) in rights:
            if number == partners[place]:
                yield Pair(unit, other, reason=unlike(unit, other) or reason or their_reason)
                break
            yield Pair(None, other, reason=their_reason)
    yield from (Pair(None, other, reason=their_reason) for _, (other, their_reason) in rights)


def _partners(mine: Sequence[tuple[Unit, str]], theirs: Sequence[tuple[Unit, str]]) -> dict[int, int]:
    """Places of units that stand in each other's way, in order: two with obstacles, or one with another like it."""
    found: dict[int, int] = {}
    begin = 0
    for place, (unit, reason) in enumerate(mine):
        for number in range(begin, len(theirs)):
            other, their_reason = theirs[number]
            if (reason and their_reason) or ((reason or their_reason) and _kind(unit) == _kind(other)):
                found[place], begin = number, number + 1
                break
    return found


def _spots(series: Series, start: _Spot) -> list[_Spot]:
    """What arrives at each unit, and what the last one gives."""
    found = [start]
    for unit in series:
        found.append(_Spot(unit.output, _range(unit, found[-1].range)))
    return found


def _range(unit: Unit, arriving: Interval) -> Interval:
    if isinstance(unit, Tangle):
        return ANY
    if isinstance(unit, Op):
        return unit.rule.range(unit.site, [arriving])
    ranges = []
    for branch in unit.branches:
        at = arriving
        for each in branch:
            at = _range(each, at)
        ranges.append(at)
    bounds = gated_range(unit)
    return bounds if bounds is not None else unit.join.rule.range(unit.join.site, ranges)


def _ports_text(structure: Structure) -> str:
    return " and ".join(f"{port.dtype} {'x'.join(map(str, port.shape))}" for port in structure.ports)


def _sizes(axes: Axes) -> list[int | None]:
    """The axes that never change, None for those that may."""
    return [fixed_width(axis) if is_fixed(axis) else None for axis in axes]


def _words(unit: Unit) -> str:
    if isinstance(unit, Parallel):
        return f"{len(unit.branches)} branches joined by {unit.join.op}"
    return unit.op if isinstance(unit, Op) else "a tangle of ops"


def _kind(unit: Unit) -> str:
    if isinstance(unit, Op):
        return unit.op
    return f"a section of {len(unit.branches)} branches" if isinstance(unit, Parallel) else "a tangle of ops"
