"""Two members side by side: what they share, what each has alone and how it would be inserted, or why they part.

Where they have a mother, each op of hers stands in both; what is between is inserted when a member is hatched. Where
they have none, the longest common part stands in her place (`graphs.mothers.parting`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Shape
from mnx.graphs.mothers.kernels import window
from mnx.graphs.mothers.mother import embed, mother_of
from mnx.graphs.mothers.parting import Pair, pairs_of, parting
from mnx.graphs.ops.axes import is_fixed
from mnx.graphs.trees.structure import Op, Parallel, Series, Structure, Tangle, batch_axes, ops_of, size_text


@dataclass(frozen=True)
class Side:
    """An op as one network has it: the sizes of its channel axes (of all where none can change), its kernel.

    A size is `n` or `2n` where it is the batch, or a multiple of it.
    """

    node: str
    op: str
    widths: tuple[int | str, ...]
    kernel: Shape
    parameters: int


@dataclass(frozen=True)
class Row:
    """A place of the two networks.

    Attributes:
        depth: how many sections it stands in.
        join: whether it ends a section.
        left: the op of the left network, None where it has none there.
        right: likewise.
        common: what their mother has there, or would have.
        how: what becomes of an op that is alone: 'identity', 'coded', 'zero', 'free' or 'join' (see `matching.How`).
        reason: why the two ops do not match, or why one that is alone cannot be inserted.
    """

    depth: int
    join: bool
    left: Side | None
    right: Side | None
    common: Side | None
    how: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Difference:
    """Two networks compared. `mother` is the number of trained parameters of theirs, None where they have none.

    `reason` says then where they part, and why.
    """

    left: str
    right: str
    parameters: tuple[int, int]
    mother: int | None
    reason: str
    rows: tuple[Row, ...]

    @property
    def shares(self) -> tuple[float, float] | None:
        """The mother's share of either network."""
        if self.mother is None:
            return None
        return self.mother / max(1, self.parameters[0]), self.mother / max(1, self.parameters[1])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "shares": self.shares}


def difference(left: tuple[Model, Structure], right: tuple[Model, Structure]) -> Difference:
    """Two members compared, each as `graphs.mothers.mother.stand_in` gives it."""
    one, other = left[1], right[1]
    counts = one.parameter_count, other.parameter_count
    try:
        _, mother = mother_of([left, right], "mother")
        rows = tuple(_grown(mother, one, other))
    except GraphError as error:
        rows = tuple(_parted(pairs_of(one, other), 0))
        return Difference(one.name, other.name, counts, None, parting(one, other) or str(error), rows)
    return Difference(one.name, other.name, counts, mother.parameter_count, "", rows)


def _grown(mother: Structure, left: Structure, right: Structure) -> Iterator[Row]:
    """The mother's ops in order, each behind what only one member has before it."""
    lefts, rights = _Member(mother, left), _Member(mother, right)
    for depth, join, op in _walk(mother.series, 0):
        yield from _alone(lefts.before.get(op.name, ()), rights.before.get(op.name, ()))
        depth, join = max((depth, join), lefts.place[op.name], rights.place[op.name])
        yield Row(depth, join, _side(lefts.match[op.name]), _side(rights.match[op.name]), _side(op))
    yield from _alone(lefts.before.get("", ()), rights.before.get("", ()))


@dataclass(frozen=True)
class _Single:
    """An op that only one member has, where it stands in it, and how it is inserted."""

    depth: int
    join: bool
    op: Op
    how: str


class _Member:
    """A member as it is grown from its mother, by the names of her nodes."""

    def __init__(self, mother: Structure, member: Structure) -> None:
        alignment, _ = embed(mother, member)
        self.match = {mine.name: theirs for mine, theirs in alignment.matches}
        names = {theirs.name: mine.name for mine, theirs in alignment.matches}
        how = {op.name: how.value for op, how in alignment.inserted}
        self.place: dict[str, tuple[int, bool]] = {}
        self.before: dict[str, list[_Single]] = {}
        waiting: list[_Single] = []
        for depth, join, op in _walk(member.series, 0):
            if op.name in names:
                self.place[names[op.name]] = depth, join
                self.before[names[op.name]], waiting = waiting, []
            else:
                waiting.append(_Single(depth, join, op, how.get(op.name, "")))
        self.before[""] = waiting


def _alone(lefts: Iterable[_Single], rights: Iterable[_Single]) -> Iterator[Row]:
    for each in lefts:
        yield Row(each.depth, each.join, _side(each.op), None, None, each.how)
    for each in rights:
        yield Row(each.depth, each.join, None, _side(each.op), None, each.how)


def _parted(pairs: Sequence[Pair], depth: int) -> Iterator[Row]:
    """The longest common part and what stands between, an op a row."""
    for pair in pairs:
        if pair.left is None or pair.right is None:
            yield from _single(pair, depth)
        elif pair.reason:
            yield Row(depth, False, _last(pair.left), _last(pair.right), None, "", pair.reason)
        elif isinstance(pair.left, Tangle) and isinstance(pair.right, Tangle):
            for one, other in zip(pair.left.ops, pair.right.ops, strict=True):
                yield _both(one, other, depth, False)
        else:
            for branch in pair.inside:
                yield from _parted(branch, depth + 1)
            joined = isinstance(pair.left, Parallel)
            yield _both(_end(pair.left), _end(pair.right), depth, joined)


def _single(pair: Pair, depth: int) -> Iterator[Row]:
    unit = pair.left if pair.right is None else pair.right
    if unit is None:
        return
    how = "" if pair.reason else "identity" if isinstance(unit, Op) else "section"
    for inner, join, op in _walk((unit,), depth):
        last = op is _end(unit)
        side = _side(op)
        left, right = (side, None) if pair.right is None else (None, side)
        yield Row(inner, join, left, right, None, how if last else "", pair.reason if last else "")


def _both(left: Op, right: Op, depth: int, join: bool) -> Row:
    one, other = _side(left), _side(right)
    widths = tuple(map(size_text, map(min, _widths(left), _widths(right))))
    kernel = tuple(map(min, one.kernel, other.kernel))
    return Row(depth, join, one, other, replace(one, node="", widths=widths, kernel=kernel, parameters=0))


def _walk(series: Series, depth: int) -> Iterator[tuple[int, bool, Op]]:
    """Every op with the number of sections it stands in, and whether it ends one."""
    for unit in series:
        if isinstance(unit, Parallel):
            for branch in unit.branches:
                yield from _walk(branch, depth + 1)
            yield depth, True, unit.join
        else:
            yield from ((depth, False, op) for op in ops_of((unit,)))


def _end(unit: Op | Parallel | Tangle) -> Op:
    return list(ops_of((unit,)))[-1]


def _last(unit: Op | Parallel | Tangle) -> Side:
    """A unit by its last op, its parameters those of all its ops."""
    total = sum(_side(op).parameters for op in ops_of((unit,)))
    return replace(_side(_end(unit)), parameters=total)


def _side(op: Op) -> Side:
    found = window(op)
    count = sum(prod(parameter.shape) for parameter in op.parameters if parameter.kind.trained)
    return Side(op.name, op.op, tuple(map(size_text, _widths(op))), found.size if found else (), count)


def _widths(op: Op) -> Shape:
    shape = op.site.outputs[0]
    return (
        tuple(size for size, axis in zip(shape, op.output, strict=True) if not is_fixed(axis))
        or shape[batch_axes(shape) :]
    )
