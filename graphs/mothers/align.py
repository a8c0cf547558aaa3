"""Alignment of two structure trees: which units match, which units only one of them has.

Dynamic programming over the two series, recursing into branches. A state is (units taken on the left, on the right,
range of the value that arrives, promised widths); its score is the number of the mother's parameters and of matched
ops, then how many of them have one name and how early they stand, so that ties go to equal names and positions. A
unit that only one side has may be passed over only where it lets through what arrives (`matching`, `passages`,
`exchanges`), and only where it is as wide as promised (`promises`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, permutations
from typing import NamedTuple, TypeAlias

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Shape
from mnx.graphs.mothers.alignment import Alignment, Branch, Insertion, Place
from mnx.graphs.mothers.best_path import Path, Score, bounded, keep, thinned
from mnx.graphs.mothers.exchanges import Exchange, Ops, gate_at, norm_at
from mnx.graphs.mothers.kernels import Window, common_window, window
from mnx.graphs.mothers.matching import (
    NONE,
    Groups,
    How,
    alike,
    fixed_width,
    groups_beside,
    insertable,
    mismatch,
    trimmed,
)
from mnx.graphs.mothers.parting import parting
from mnx.graphs.mothers.passages import gated_range, passages, run_at
from mnx.graphs.mothers.promises import Meeting, Offers, Pair, Promises, groups_of, lacks_bias, meeting, passing
from mnx.graphs.ops.axes import Axes
from mnx.graphs.ops.rule import ANY, Interval
from mnx.graphs.suggest import listed
from mnx.graphs.trees.structure import Op, Parallel, Series, Structure, Tangle, Unit, ops_of

_MANY_BRANCHES = 5
"""With more branches than this, those of a commutative join match in the given order alone."""

_MOST_CHOICES = 24
"""How many ways to leave branches of a Concat out are tried."""

_MOST_STATES = 48
"""How many states are kept at one place."""

_MOST_ALIKE = 3
"""How many states are kept at one place that differ only in which channels stand beside what passes."""

_ROUNDS = 4
"""How often at most the search begins again because a match has asked for lower promises."""


class _State(NamedTuple):
    """What arrives at a place, and what is promised of the groups that are met again behind it."""

    range: Interval
    promises: Promises


_Step: TypeAlias = "Path[Alignment]"
_Cell: TypeAlias = "dict[_State, _Step]"
_Live: TypeAlias = tuple[frozenset[int], frozenset[int]]
_Passed: TypeAlias = tuple[tuple[tuple[Op, How], ...], tuple[Pair, ...], Groups]
_NOWHERE: frozenset[int] = frozenset()


@dataclass(frozen=True)
class _Spot:
    """Where two units or series stand: the values that arrive, and the groups of either side met behind them."""

    place: Place
    other: Place
    live: _Live


def align(left: Structure, right: Structure, keep_left: bool = False) -> Alignment:
    """The alignment of two networks that leads to the largest mother.

    Args:
        left: the (candidate) mother.
        right: a member.
        keep_left: every unit of the left side must match, as when a member is hatched from a finished mother.

    Raises:
        GraphError: the two have nothing in common: no alignment exists.
    """
    inputs = _inputs(left, right)
    if inputs[0] != inputs[1]:
        raise GraphError(f"{left.name} and {right.name} take different inputs: {_ports(left)} and {_ports(right)}")
    outputs = _outputs(left, right)
    if outputs[0] != outputs[1]:
        raise GraphError(
            f"{left.name} and {right.name} give different outputs: {_sizes(outputs[0])} and {_sizes(outputs[1])}"
        )
    found = _Search(left, right, keep_left, False).best()
    if found is None:
        if keep_left and (alone := _alone_on_the_left(left, right)):
            raise GraphError(f"{right.name} cannot be grown from {left.name}: it lacks her {alone}")
        reason = parting(left, right) or "they differ where neither can be made the identity, or is too narrow for it"
        raise GraphError(f"{left.name} and {right.name} share no mother: {reason}")
    return _alignment(found)


def _alone_on_the_left(left: Structure, right: Structure) -> str:
    """The units that the left network has and the right one lacks, '' where they share no mother at all."""
    found = _Search(left, right, False, False).best()
    insertions = _alignment(found).only_left if found is not None else ()
    names = [op.name for each in insertions for op in ops_of((each.unit,)) if op.parameters]
    if not names:
        return ""
    shown = listed([f"'{name}'" for name in names], 3)
    return f"{'layer' if len(names) == 1 else 'layers'} {shown}"


def embedding(mother: Structure, member: Structure) -> Alignment | None:
    """The alignment of a finished mother that keeps all her units, widths and kernels, None where there is none."""
    if any(one != other for one, other in (_inputs(mother, member), _outputs(mother, member))):
        return None
    found = _Search(mother, member, True, True).best()
    return None if found is None else _alignment(found)


def _inputs(left: Structure, right: Structure) -> list[list[tuple[str, Shape]]]:
    return [[(port.dtype, port.shape) for port in structure.ports] for structure in (left, right)]


def _outputs(left: Structure, right: Structure) -> list[Axes]:
    return [list(structure.ops())[-1].output for structure in (left, right)]


def _alignment(found: _Step) -> Alignment:
    steps = list(found.steps())
    return Alignment(
        tuple(match for step in steps for match in step.matches),
        tuple(insertion for step in steps for insertion in step.only_left),
        tuple(insertion for step in steps for insertion in step.only_right),
        tuple(branch for step in steps for branch in step.branches_left),
        tuple(branch for step in steps for branch in step.branches_right),
        found.score.shared,
    )


class _Search:
    """One search for the best alignment; what is asked twice of the same two units is found once."""

    def __init__(self, left: Structure, right: Structure, keep_left: bool, keep_widths: bool) -> None:
        self._left, self._right = left, right
        self._keep_left, self._keep_widths = keep_left, keep_widths
        self._offers = Offers(left, right, keep_widths)
        self._owner: dict[str, str] = {}
        for op in left.ops():
            for parameter in op.parameters:
                self._owner.setdefault(parameter.name, op.name)
        self._meetings: dict[tuple[int, int, Groups, Groups], Meeting | None] = {}
        self._passing: dict[tuple[int, Interval, int, bool, Groups], _Passed | None] = {}
        self._windows: dict[int, Window | None] = {}
        self._numbers: dict[Axes, int] = {}
        self._known: dict[tuple[int, Groups], int] = {}
        self._groups: dict[int, frozenset[int]] = {}

    def best(self) -> _Step | None:
        """The best path from input to output; a later search, with lower promises, may find a better one."""
        found: list[_Step] = []
        for _ in range(_ROUNDS):
            asked = self._offers.asked
            found += self._whole()
            if self._offers.asked == asked:
                break
        if not found and not self._keep_widths:
            self._offers.all_widths()
            found += self._whole()
        return max(found, key=lambda path: path.score, default=None)

    def _whole(self) -> list[_Step]:
        left, right = self._left, self._right
        spot = _Spot(Place(left.input_value, left.input), Place(right.input_value, right.input), (_NOWHERE, _NOWHERE))
        return list(self._series(left.series, right.series, spot, _State(ANY, Promises())).values())

    def _series(self, left: Series, right: Series, spot: _Spot, start: _State) -> _Cell:
        """The best path through two series to every state behind them."""
        places = [spot.place, *(Place(unit.value, unit.output) for unit in left)]
        others = [spot.other, *(Place(unit.value, unit.output) for unit in right)]
        lives = self._lives(left, spot.live[0]), self._lives(right, spot.live[1])
        table: dict[tuple[int, int], _Cell] = {(0, 0): {start: Path(Score())}}

        def go(i: int, j: int, after: _State, step: _Step, early: int, before: _Step) -> None:
            state = _State(after.range, after.promises.among(lives[0][i], lives[1][j]))
            path = Path(before.score.plus(step.score, early), step.step, step.inside, before)
            keep(table.setdefault((i, j), {}), state, path)

        for i in range(len(left) + 1):
            for j in range(len(right) + 1):
                if i == len(left) and j == len(right):
                    break
                cell = thinned(table.pop((i, j), {}), _MOST_ALIKE, _alike)
                cell = bounded(cell, _MOST_STATES, lambda state: state.promises.total)
                for at, path in cell.items():
                    if i < len(left) and j < len(right):
                        here = _Spot(places[i], others[j], (lives[0][i + 1], lives[1][j + 1]))
                        for after, step in self._match(left, right, i, j, here, at):
                            go(i + 1, j + 1, after, step, -(i + j), path)
                    if i < len(left) and not self._keep_left:
                        for length, after, step in self._pass(left, i, places, others[j], at, True):
                            go(i + length, j, after, step, 0, path)
                    if j < len(right):
                        for length, after, step in self._pass(right, j, others, places[i], at, False):
                            go(i, j + length, after, step, 0, path)
        return table.get((len(left), len(right)), {})

    def _pass(
        self, series: Series, at: int, places: Sequence[Place], arriving: Place, state: _State, left: bool
    ) -> Iterator[tuple[int, _State, _Step]]:
        """Pass over a unit of one side, or a layer in code, where what arrives gets through as wide as promised."""
        for after, insertion in self._over(series[at], places[at], arriving, state, left):
            yield 1, after, Path(Score(), _alone((insertion,), left))
        yield from self._with_exchange(series, at, places, arriving, state, left)
        run = run_at(series, at)
        if run is None or self._passed(run.activation, state, arriving.axes, left) is not None:
            return
        even = (self._left, self._right)[not left].even
        for way in passages(series, at, run, state.range, even):
            found: list[tuple[_State, tuple[Insertion, ...]]] = [(state, ())]
            for number, unit in enumerate(run.units[:-1]):
                found = [
                    (after, (*so_far, insertion))
                    for before, so_far in found
                    for after, insertion in self._over(unit, places[at + number], arriving, before, left)
                ]
            last = len(run.units) - 1
            ops = tuple((op, How.CODED) for op in ops_of((run.activation,)))
            coded = Insertion(run.activation, places[at + last], ops, arriving, NONE, way)
            for after, so_far in found:
                if self._offers.holds(after.promises, way.group, way.copies, 0 if left else 1):
                    yield len(run.units), after, Path(Score(), _alone((*so_far, coded), left))

    def _with_exchange(
        self, series: Series, at: int, places: Sequence[Place], arriving: Place, state: _State, left: bool
    ) -> Iterator[tuple[int, _State, _Step]]:
        """Pass over a gate, or over a residual section and the normalisation behind its sum."""
        gate = gate_at(series, at)
        if gate is not None and self._passed(series[at], state, arriving.axes, left) is None:
            for after, insertion in self._exchanged(series[at], places[at], arriving, state, left, gate):
                yield 1, after, Path(Score(), _alone((insertion,), left))
        norm = norm_at(series, at + 1) if at + 1 < len(series) else None
        if norm is not None:
            for middle, section in self._over(series[at], places[at], arriving, state, left):
                for after, insertion in self._exchanged(series[at + 1], places[at + 1], arriving, middle, left, norm):
                    yield 2, after, Path(Score(), _alone((section, insertion), left))

    def _exchanged(
        self, unit: Unit, before: Place, arriving: Place, at: _State, left: bool, found: tuple[Ops, Exchange]
    ) -> Iterator[tuple[_State, Insertion]]:
        ops, exchange = found
        here, there = at.promises.new if left else at.promises.new[::-1]
        value = trimmed(unit.output, here)
        axes = trimmed(arriving.axes, there)
        if len(value) == len(axes) and all(map(alike, value[1:], axes[1:])):
            pairs = passing(unit, (), axes, left, here)
            for after in self._offers.tied(at.promises, pairs, ask=False):
                yield _State(at.range, after), Insertion(unit, before, ops, arriving, exchange=exchange)

    def _over(
        self, unit: Unit, before: Place, arriving: Place, at: _State, left: bool
    ) -> Iterator[tuple[_State, Insertion]]:
        found = self._passed(unit, at, arriving.axes, left)
        if found is not None:
            ops, pairs, beside = found
            promises = self._offers.empty(at.promises, beside, 0 if left else 1) if beside else at.promises
            if promises is not None:
                for after in self._offers.tied(promises, pairs, ask=False):
                    yield _State(at.range, after), Insertion(unit, before, ops, arriving, beside)

    def _passed(self, unit: Unit, at: _State, axes: Axes, left: bool) -> _Passed | None:
        """How a unit passes on what arrives, what that ties, and what stands beside it; None where it cannot."""
        here, there = at.promises.new if left else at.promises.new[::-1]
        mine = here & self._met_by(unit) if here else here
        key = id(unit), at.range, self._number(axes, there), left, mine
        if key not in self._passing:
            axes = trimmed(axes, there)
            ops = insertable(unit, at.range, axes, mine)
            self._passing[key] = None
            if ops is not None:
                beside = groups_beside(unit, ops)
                self._passing[key] = ops, passing(unit, ops, axes, left, mine | beside), beside
        return self._passing[key]

    def _number(self, axes: Axes, new: Groups) -> int:
        """The number of an expression of axes without new groups, the same for equal ones."""
        key = id(axes), new
        if key not in self._known:
            self._known[key] = self._numbers.setdefault(trimmed(axes, new), len(self._numbers))
        return self._known[key]

    def _match(
        self, left: Series, right: Series, i: int, j: int, spot: _Spot, at: _State
    ) -> Iterator[tuple[_State, _Step]]:
        mine, theirs = left[i], right[j]
        if isinstance(mine, Op) and isinstance(theirs, Op):
            normalises = i > 0 and mine.op == "BatchNormalization" and lacks_bias(left[i - 1])
            yield from self._match_ops(mine, theirs, [at.range], at.promises, normalises)
        elif isinstance(mine, Parallel) and isinstance(theirs, Parallel):
            yield from self._match_parallels(mine, theirs, spot, at)
        elif isinstance(mine, Tangle) and isinstance(theirs, Tangle) and mine.wiring == theirs.wiring:
            yield from self._match_tangles(mine, theirs, at)

    def _match_tangles(self, left: Tangle, right: Tangle, at: _State) -> Iterator[tuple[_State, _Step]]:
        """Op by op, each with what those before have promised."""
        ends: _Cell = {at: Path(Score())}
        for mine, theirs in zip(left.ops, right.ops, strict=True):
            reached, ends = ends, {}
            for state, path in reached.items():
                for after, step in self._match_ops(mine, theirs, [ANY] * len(mine.reads), state.promises):
                    keep(ends, after, Path(path.score.plus(step.score), step.step, before=path))
        yield from ((_State(ANY, state.promises), Path(path.score, None, path)) for state, path in ends.items())

    def _match_ops(
        self, left: Op, right: Op, arriving: Sequence[Interval], promises: Promises, normalises: bool = False
    ) -> Iterator[tuple[_State, _Step]]:
        found = self._meeting(left, right, promises, normalises)
        if found is not None:
            reached, step = left.rule.range(left.site, arriving), Alignment(matches=((left, right),))
            for after in self._offers.tied(promises, found.pairs, ask=True):
                named = int(left.name == right.name)
                yield _State(reached, after), Path(Score(found.reach, found.count(after), 1, named), step)

    def _match_parallels(
        self, left: Parallel, right: Parallel, spot: _Spot, at: _State
    ) -> Iterator[tuple[_State, _Step]]:
        """Branch by branch, each with what those before have promised, then the join; in the best order."""
        best: _Cell = {}
        if left.join.op != right.join.op:
            return
        for mine, theirs, promises, alone in self._orders(left, right, at.promises):
            ends: dict[tuple[Promises, tuple[Interval, ...]], _Step] = {(promises, ()): Path(Score(), alone)}
            for index, (branch, other) in enumerate(zip(mine, theirs, strict=True)):
                later = (*mine[index + 1 :], (left.join,)), (*theirs[index + 1 :], (right.join,))
                live = self._met(later[0]) | spot.live[0], self._met(later[1]) | spot.live[1]
                inner, reached = _Spot(spot.place, spot.other, live), ends
                ends = {}
                for (known, ranges), path in reached.items():
                    for end, inside in self._series(branch, other, inner, _State(at.range, known)).items():
                        both = Path(path.score.plus(inside.score), None, inside, path)
                        keep(ends, (end.promises, (*ranges, end.range)), both)
            bounds = gated_range(left)
            for (known, ranges), path in ends.items():
                for after, step in self._match_ops(left.join, right.join, ranges, known):
                    state = after if bounds is None else _State(bounds, after.promises)
                    keep(best, state, Path(path.score.plus(step.score), step.step, path))
        yield from best.items()

    def _orders(
        self, left: Parallel, right: Parallel, promises: Promises
    ) -> Iterator[tuple[tuple[Series, ...], tuple[Series, ...], Promises, Alignment | None]]:
        """The branches of both sides that may meet, in order, and what the others of a Concat make beside them."""
        count = len(left.branches) - len(right.branches)
        if not count:
            for order in _reorderings(left, right):
                yield left.branches, order, promises, None
        elif left.join.op == right.join.op == "Concat" and (count < 0 or not self._keep_left):
            more, fewer = (left, right) if count > 0 else (right, left)
            for kept in islice(combinations(range(len(more.branches)), len(fewer.branches)), _MOST_CHOICES):
                alone = _branches_beside(more, kept)
                beside = NONE.union(*(branch.beside for branch in alone)) if alone else NONE
                after = self._offers.empty(promises, beside, 0 if count > 0 else 1) if beside else None
                if alone is not None and after is not None:
                    chosen = tuple(more.branches[place] for place in kept)
                    step = Alignment(branches_left=alone) if count > 0 else Alignment(branches_right=alone)
                    yield (chosen, right.branches, after, step) if count > 0 else (left.branches, chosen, after, step)

    def _meeting(self, left: Op, right: Op, promises: Promises, normalises: bool = False) -> Meeting | None:
        """What two ops tie and count, None where they cannot match."""
        mine, theirs = promises.new
        new = (mine & self._met_by(left), theirs & self._met_by(right)) if mine or theirs else (NONE, NONE)
        key = id(left), id(right), *new
        if key not in self._meetings:
            self._meetings[key] = None
            if not mismatch(left, right, new):
                shape = self._window(left)
                kernel = None if shape is None else common_window(left, right)
                if not self._keep_widths or kernel == shape:
                    self._meetings[key] = meeting(left, right, self._owner, normalises, kernel, new)
        return self._meetings[key]

    def _window(self, op: Op) -> Window | None:
        if id(op) not in self._windows:
            self._windows[id(op)] = window(op)
        return self._windows[id(op)]

    def _lives(self, series: Series, behind: frozenset[int]) -> list[frozenset[int]]:
        """The groups that are met from each place of a series on."""
        found = [behind]
        for unit in reversed(series):
            found.append(found[-1] | self._met_by(unit))
        return found[::-1]

    def _met(self, several: Sequence[Series]) -> frozenset[int]:
        return _NOWHERE.union(*(self._met_by(unit) for series in several for unit in series))

    def _met_by(self, unit: Unit) -> frozenset[int]:
        if id(unit) not in self._groups:
            self._groups[id(unit)] = groups_of(unit)
        return self._groups[id(unit)]


def _alike(state: _State) -> tuple[Interval, tuple[tuple[int, int], ...], int, int] | None:
    """What is equal of states that differ only in which groups carry nothing; None of those where all carry something.

    Of a dense block with many layers, any may be left out: there are more choices than can be followed.
    """
    (left, right), promises = state.promises.new, state.promises
    if not (left or right):
        return None
    return state.range, tuple(item for item in promises.left if item[1]), len(left), len(right)


def _alone(insertions: tuple[Insertion, ...], left: bool) -> Alignment:
    return Alignment(only_left=insertions) if left else Alignment(only_right=insertions)


def _reorderings(left: Parallel, right: Parallel) -> Iterator[tuple[Series, ...]]:
    """The orders in which the right branches may meet the left ones; with many branches, the given one alone."""
    if left.join.rule.commutative and len(right.branches) <= _MANY_BRANCHES:
        return permutations(right.branches)
    return iter([right.branches])


def _branches_beside(unit: Parallel, kept: Sequence[int]) -> tuple[Branch, ...] | None:
    """The branches of a Concat that are not kept; None where one gives no groups of its own."""
    along = unit.join.site.axis(1)
    parts = [{part.group for part in unit.join.operands[read][along]} for read in unit.join.reads]
    staying = {group for place in kept for group in parts[place]}
    found = []
    for place, (branch, groups) in enumerate(zip(unit.branches, parts, strict=True)):
        if place not in kept:
            if None in groups or groups & staying:
                return None
            made = frozenset(group for group in groups if group is not None)
            found.append(Branch(unit.join, unit.join.reads[place], branch, made))
    return tuple(found)


def _ports(structure: Structure) -> str:
    return ", ".join(f"{' x '.join(map(str, port.shape))} of {port.dtype}" for port in structure.ports)


def _sizes(axes: Axes) -> str:
    return " x ".join(str(fixed_width(axis)) for axis in axes[1:])
