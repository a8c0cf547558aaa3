"""Alignment of two structure trees: which units match, which units only one of them has.

Dynamic programming over the two series, recursing into branches. A state is (units taken on the left, on the right,
range of the value that arrives); its score is the number of shared parameters, then the number of matched units, then
how early they stand, so that ties go to equal positions. A unit that only one side has may be passed over only where it
can be made the identity on what arrives: an op by its rule, a residual section by zeroing its branches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import permutations
from math import prod

import numpy as np

from mnx.graphs.axes import Axes, Axis, Part
from mnx.graphs.errors import GraphError
from mnx.graphs.kernels import common_window, window
from mnx.graphs.ops.rule import ANY, Interval
from mnx.graphs.structure import Op, Parallel, Series, Structure, Unit, ops_of


class How(str, Enum):
    """What becomes of an op that only one side has."""

    IDENTITY = "identity"
    ZERO = "zero"
    FREE = "free"
    JOIN = "join"


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


def align(left: Structure, right: Structure, keep_left: bool = False) -> Alignment:
    """The best alignment of two networks.

    Args:
        left: the (candidate) mother.
        right: a member.
        keep_left: every unit of the left side must match, as when a member is hatched from a finished mother.

    Raises:
        GraphError: the two have nothing in common: no alignment exists.
    """
    if left.input != right.input:
        raise GraphError(f"{left.name} and {right.name} take different inputs")
    found = _align_series(
        left.series,
        right.series,
        Place(left.input_value, left.input),
        Place(right.input_value, right.input),
        ANY,
        keep_left,
    )
    if found is None:
        raise GraphError(
            f"{left.name} and {right.name} share no mother: they differ where neither can be made the identity"
        )
    return found


def _align_series(
    left: Series, right: Series, start: Place, other_start: Place, arriving: Interval, keep_left: bool
) -> Alignment | None:
    places = [start, *(Place(unit.value, unit.output) for unit in left)]
    others = [other_start, *(Place(unit.value, unit.output) for unit in right)]
    table: dict[tuple[int, int], dict[Interval, _Path]] = {
        (0, 0): {arriving: _Path((0, 0, 0), Alignment(range=arriving), None)}
    }
    for i in range(len(left) + 1):
        for j in range(len(right) + 1):
            for at, path in table.get((i, j), {}).items():
                for (di, dj), step, units in _steps(left, right, places, others, i, j, at, keep_left):
                    score = (
                        path.score[0] + step.shared,
                        path.score[1] + units,
                        path.score[2] - (i + j if units else 0),
                    )
                    cell = table.setdefault((i + di, j + dj), {})
                    best = cell.get(step.range)
                    if best is None or score > best.score:
                        cell[step.range] = _Path(score, step, path)
            if (i, j) != (len(left), len(right)):
                table.pop((i, j), None)
    final = table.get((len(left), len(right)), {})
    if not final:
        return None
    return max(final.values(), key=lambda path: path.score).steps()


def _steps(
    left: Series,
    right: Series,
    places: list[Place],
    others: list[Place],
    i: int,
    j: int,
    at: Interval,
    keep_left: bool,
) -> Iterator[tuple[tuple[int, int], Alignment, int]]:
    """The ways on from a state: match both next units, or pass over one of them."""
    if i < len(left) and j < len(right):
        matched = _match(left[i], right[j], places[i], others[j], at, keep_left)
        if matched is not None:
            yield (1, 1), matched, 1
    if i < len(left) and not keep_left:
        ops = insertable(left[i], at, others[j].axes)
        if ops is not None:
            yield (1, 0), Alignment(only_left=(Insertion(left[i], places[i], ops, others[j]),), range=at), 0
    if j < len(right):
        ops = insertable(right[j], at, places[i].axes)
        if ops is not None:
            yield (0, 1), Alignment(only_right=(Insertion(right[j], others[j], ops, places[i]),), range=at), 0


def _match(left: Unit, right: Unit, place: Place, other: Place, at: Interval, keep_left: bool) -> Alignment | None:
    if isinstance(left, Op) and isinstance(right, Op):
        return _match_ops(left, right, [at])
    if isinstance(left, Parallel) and isinstance(right, Parallel):
        return _match_parallels(left, right, place, other, at, keep_left)
    return None


def _match_parallels(
    left: Parallel, right: Parallel, place: Place, other: Place, at: Interval, keep_left: bool
) -> Alignment | None:
    if mismatch(left.join, right.join) or len(left.branches) != len(right.branches):
        return None
    best: Alignment | None = None
    orders = permutations(right.branches) if left.join.rule.commutative else iter([right.branches])
    for order in orders:
        parts = [
            _align_series(mine, theirs, place, other, at, keep_left)
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
        if best is None or (whole.shared, len(whole.matches)) > (best.shared, len(best.matches)):
            best = whole
    return best


def _match_ops(left: Op, right: Op, arriving: list[Interval]) -> Alignment | None:
    if mismatch(left, right):
        return None
    return Alignment(matches=((left, right),), shared=_shared(left, right), range=left.rule.range(left.site, arriving))


def mismatch(left: Op, right: Op) -> str:
    """Why two ops cannot match, '' where they can: all but width, kernel size and bias must agree."""
    if left.op != right.op:
        return f"{left.op} is not {right.op}"
    for (key, one), (_, other) in zip(left.matching, right.matching, strict=True):
        if one != other:
            return f"{key} {one} is not {other}"
    for one_constant, other_constant in zip(left.site.constants, right.site.constants, strict=False):
        if (one_constant is None) != (other_constant is None) or not np.array_equal(
            one_constant if one_constant is not None else 0, other_constant if other_constant is not None else 0
        ):
            return "their constants differ"
    if [len(axes) for axes in (left.output, left.input)] != [len(axes) for axes in (right.output, right.input)]:
        return "their values have different ranks"
    if left.shape[1:] != right.shape[1:]:
        return f"output sizes {left.shape[1:]} and {right.shape[1:]} differ"
    if not all(alike(one, other) for one, other in zip(left.output, right.output, strict=True)):
        return "their widths are built differently"
    if window(left) is not None and common_window(left, right) is None:
        return "neither kernel fits inside the other at the same place"
    return ""


def alike(left: Axis, right: Axis) -> bool:
    """Whether one growth map can lead from one axis to the other: same parts, fixed ones of the same width."""
    return len(left) == len(right) and all(
        (a.group is None) == (b.group is None) and (a.outer, a.inner) == (b.outer, b.inner)
        for a, b in zip(left, right, strict=True)
    )


def _shared(left: Op, right: Op) -> int:
    theirs = {parameter.slot: parameter for parameter in right.parameters}
    return sum(
        prod(min(a, b) for a, b in zip(mine.shape, theirs[mine.slot].shape, strict=True))
        for mine in left.parameters
        if mine.kind.trained and mine.slot in theirs
    )


def insertable(unit: Unit, arriving: Interval, axes: Axes) -> tuple[tuple[Op, How], ...] | None:
    """How each op of a unit is set so that the unit passes on what arrives, or None where it cannot."""
    if isinstance(unit, Op):
        return ((unit, How.IDENTITY),) if _passes(unit, arriving, axes) else None
    if unit.join.op != "Add":
        return None
    for through in range(len(unit.branches)):
        passing = _passing_branch(unit.branches[through], arriving, axes)
        if passing is None:
            continue
        others = [_zeroed_branch(branch) for k, branch in enumerate(unit.branches) if k != through]
        known = [other for other in others if other is not None]
        if len(known) == len(others):
            return (*passing, *(pair for other in known for pair in other), (unit.join, How.JOIN))
    return None


def _passes(op: Op, arriving: Interval, axes: Axes) -> bool:
    if not op.rule.identity(op.site, arriving) or len(op.output) != len(axes) or op.input[2:] != op.output[2:]:
        return False
    if not _is_fixed(axes[1]):
        return alike(op.output[1], axes[1])
    if _is_fixed(op.output[1]):
        return op.site.outputs[0][1] == _fixed_width(axes[1])
    return op.site.outputs[0][1] >= _fixed_width(axes[1]) and op.output[1] == (Part(op.output[1][0].group),)


def _passing_branch(branch: Series, arriving: Interval, axes: Axes) -> tuple[tuple[Op, How], ...] | None:
    found: list[tuple[Op, How]] = []
    for unit in branch:
        ops = insertable(unit, arriving, axes)
        if ops is None:
            return None
        found.extend(ops)
    return tuple(found)


def _zeroed_branch(branch: Series) -> tuple[tuple[Op, How], ...] | None:
    """The last linear op of the branch gives zeros; what stands before it may be anything."""
    if not branch or not isinstance(branch[-1], Op) or not branch[-1].rule.linear or not branch[-1].parameters:
        return None
    from_before = [(op, How.FREE) for op in ops_of(branch[:-1])]
    return (*from_before, (branch[-1], How.ZERO))


def _is_fixed(axis: Axis) -> bool:
    return all(part.group is None for part in axis)


def _fixed_width(axis: Axis) -> int:
    return sum(part.outer * part.inner for part in axis)
