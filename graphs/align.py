"""Alignment of two structure trees: which units match, which units only one of them has.

Dynamic programming over the two series, recursing into branches. A state is (units taken on the left, on the right,
range of the value that arrives); its score is the number of shared parameters and of matched units, then how early they
stand, so that ties go to equal positions. A unit that only one side has may be passed over only where it
can be made the identity on what arrives: an op by its rule, a residual section by zeroing its branches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from mnx.graphs.axes import Axes
from mnx.graphs.errors import GraphError
from mnx.graphs.matching import How, fixed_width, insertable, mismatch, shared_parameters
from mnx.graphs.ops.rule import ANY, Interval
from mnx.graphs.structure import Op, Parallel, Series, Structure, Unit


@dataclass(frozen=True)
class Place:
    """A value that two networks share at one point of the alignment: its name and axes in one of them."""

    value: str
    axes: Axes


@dataclass(frozen=True)
class Insertion:
    """A unit that one side has alone, and the place on the other side where it would stand."""

    unit: Unit
    before: Place
    ops: tuple[tuple[Op, How], ...]
    arriving: Place


@dataclass(frozen=True)
class Alignment:
    """Matched ops (left, right) in execution order, and what only one side has."""

    matches: tuple[tuple[Op, Op], ...] = ()
    only_left: tuple[Insertion, ...] = ()
    only_right: tuple[Insertion, ...] = ()
    shared: int = 0
    range: Interval = ANY

    def __add__(self, other: Alignment) -> Alignment:
        return Alignment(
            self.matches + other.matches,
            self.only_left + other.only_left,
            self.only_right + other.only_right,
            self.shared + other.shared,
            other.range,
        )


Score = tuple[int, int, int]


@dataclass(frozen=True)
class _Aim:
    keep_left: bool
    goal: str

    def key(self, score: Score) -> Score:
        """The order in which scores are compared: shared parameters or matched units first, then early places."""
        shared, units, early = score
        return (shared, units, early) if self.goal == "parameters" else (units, shared, early)


@dataclass(frozen=True)
class _Path:
    """A partial alignment as a linked list: the last step and the path before it."""

    score: Score
    step: Alignment
    before: _Path | None

    def steps(self) -> Alignment:
        """The whole alignment up to here."""
        parts: list[Alignment] = []
        path: _Path | None = self
        while path is not None:
            parts.append(path.step)
            path = path.before
        parts.reverse()
        return Alignment(
            tuple(m for part in parts for m in part.matches),
            tuple(i for part in parts for i in part.only_left),
            tuple(i for part in parts for i in part.only_right),
            sum(part.shared for part in parts),
            parts[-1].range,
        )


GOALS = ("parameters", "units")
"""What an alignment puts first: shared parameters, or matched units (the paper's rule, position by position).
Parameters are counted before the mother's final widths are known, so that either goal may lead to the larger mother."""


def align(left: Structure, right: Structure, keep_left: bool = False, goal: str = "parameters") -> Alignment:
    """The best alignment of two networks.

    Args:
        left: the (candidate) mother.
        right: a member.
        keep_left: every unit of the left side must match, as when a member is hatched from a finished mother.
        goal: one of `GOALS`.

    Raises:
        GraphError: the two have nothing in common: no alignment exists.
    """
    if left.input != right.input:
        raise GraphError(
            f"{left.name} and {right.name} take different inputs: {_sizes(left.input)} and {_sizes(right.input)}"
        )
    outputs = [list(structure.ops())[-1].output for structure in (left, right)]
    if outputs[0] != outputs[1]:
        raise GraphError(
            f"{left.name} and {right.name} give different outputs: {_sizes(outputs[0])} and {_sizes(outputs[1])}"
        )
    found = _align_series(
        left.series,
        right.series,
        Place(left.input_value, left.input),
        Place(right.input_value, right.input),
        ANY,
        _Aim(keep_left, goal),
    )
    if found is None:
        raise GraphError(
            f"{left.name} and {right.name} share no mother: they differ where neither can be made the identity"
        )
    return found


def _align_series(
    left: Series, right: Series, start: Place, other_start: Place, arriving: Interval, aim: _Aim
) -> Alignment | None:
    places = [start, *(Place(unit.value, unit.output) for unit in left)]
    others = [other_start, *(Place(unit.value, unit.output) for unit in right)]
    table: dict[tuple[int, int], dict[Interval, _Path]] = {
        (0, 0): {arriving: _Path((0, 0, 0), Alignment(range=arriving), None)}
    }
    for i in range(len(left) + 1):
        for j in range(len(right) + 1):
            for at, path in table.get((i, j), {}).items():
                for (di, dj), step, units in _steps(left, right, places, others, i, j, at, aim):
                    score = (
                        path.score[0] + step.shared,
                        path.score[1] + units,
                        path.score[2] - (i + j if units else 0),
                    )
                    cell = table.setdefault((i + di, j + dj), {})
                    best = cell.get(step.range)
                    if best is None or aim.key(score) > aim.key(best.score):
                        cell[step.range] = _Path(score, step, path)
            if (i, j) != (len(left), len(right)):
                table.pop((i, j), None)
    final = table.get((len(left), len(right)), {})
    if not final:
        return None
    return max(final.values(), key=lambda path: aim.key(path.score)).steps()


def _steps(
    left: Series,
    right: Series,
    places: list[Place],
    others: list[Place],
    i: int,
    j: int,
    at: Interval,
    aim: _Aim,
) -> Iterator[tuple[tuple[int, int], Alignment, int]]:
    """The ways on from a state: match both next units, or pass over one of them."""
    if i < len(left) and j < len(right):
        matched = _match(left[i], right[j], places[i], others[j], at, aim)
        if matched is not None:
            yield (1, 1), matched, 1
    if i < len(left) and not aim.keep_left:
        ops = insertable(left[i], at, others[j].axes)
        if ops is not None:
            yield (1, 0), Alignment(only_left=(Insertion(left[i], places[i], ops, others[j]),), range=at), 0
    if j < len(right):
        ops = insertable(right[j], at, places[i].axes)
        if ops is not None:
            yield (0, 1), Alignment(only_right=(Insertion(right[j], others[j], ops, places[i]),), range=at), 0


def _match(left: Unit, right: Unit, place: Place, other: Place, at: Interval, aim: _Aim) -> Alignment | None:
    if isinstance(left, Op) and isinstance(right, Op):
        return _match_ops(left, right, [at])
    if isinstance(left, Parallel) and isinstance(right, Parallel):
        return _match_parallels(left, right, place, other, at, aim)
    return None


def _match_parallels(
    left: Parallel, right: Parallel, place: Place, other: Place, at: Interval, aim: _Aim
) -> Alignment | None:
    if mismatch(left.join, right.join) or len(left.branches) != len(right.branches):
        return None
    best: Alignment | None = None
    orders = permutations(right.branches) if left.join.rule.commutative else iter([right.branches])
    for order in orders:
        parts = [
            _align_series(mine, theirs, place, other, at, aim)
            for mine, theirs in zip(left.branches, order, strict=True)
        ]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            continue
        join = _match_ops(left.join, right.join, [part.range for part in known])
        if join is None:
            continue
        whole = known[0]
        for part in (*known[1:], join):
            whole = whole + part
        if best is None or aim.key((whole.shared, len(whole.matches), 0)) > aim.key(
            (best.shared, len(best.matches), 0)
        ):
            best = whole
    return best


def _match_ops(left: Op, right: Op, arriving: list[Interval]) -> Alignment | None:
    if mismatch(left, right):
        return None
    return Alignment(
        matches=((left, right),), shared=shared_parameters(left, right), range=left.rule.range(left.site, arriving)
    )


def _sizes(axes: Axes) -> str:
    return " x ".join(str(fixed_width(axis)) for axis in axes[1:])
