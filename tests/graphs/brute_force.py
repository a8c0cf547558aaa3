"""The largest mother of two small networks by trying every alignment: an oracle for the search of `align`.

It knows what may match and what may be passed over (no tangles), and nothing of promised widths: an alignment is judged
by the network that is carved along it.
"""

from collections.abc import Iterator
from itertools import permutations

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.mothers.alignment import Alignment, Insertion, Place
from mnx.graphs.mothers.carve import carve
from mnx.graphs.mothers.correspondence import correspond
from mnx.graphs.mothers.matching import groups_beside, insertable, mismatch
from mnx.graphs.mothers.mother import size
from mnx.graphs.ops.rule import ANY, Interval
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op, Parallel, Series, Structure

Found = tuple[Alignment, Interval]


def largest(left: tuple[Model, Structure], right: Structure) -> Structure | None:
    """The largest mother of two networks, None where they have none."""
    model, structure = left
    mothers: dict[object, Structure] = {}
    start = Place(structure.input_value, structure.input), Place(right.input_value, right.input)
    for alignment, _ in alignments(structure.series, right.series, *start, ANY):
        try:
            found = correspond(alignment, structure, right)
        except GraphError:
            continue
        kept = tuple(mine.name for mine, _ in alignment.matches)
        key = kept, tuple(sorted(found.width.items())), tuple(sorted(found.windows.items(), key=str))
        if key not in mothers:
            widths = {group: found.width[name] for group, name in found.left_class.items()}
            carved = carve(model, structure, alignment.only_left, widths, found.windows, alignment.branches_left)
            mothers[key] = describe(carved)
    return max(mothers.values(), key=size, default=None)


def alignments(left: Series, right: Series, place: Place, other: Place, at: Interval) -> Iterator[Found]:
    """Every alignment of two series, and the range of what it gives."""
    if not left and not right:
        yield Alignment(), at
    if left and right:
        mine, theirs = left[0], right[0]
        for first, reached in _matches(mine, theirs, place, other, at):
            after = Place(mine.value, mine.output), Place(theirs.value, theirs.output)
            yield from _with(first, alignments(left[1:], right[1:], *after, reached))
    if left and (ops := insertable(left[0], at, other.axes)) is not None and not groups_beside(left[0], ops):
        first = Alignment(only_left=(Insertion(left[0], place, ops, other),))
        yield from _with(first, alignments(left[1:], right, Place(left[0].value, left[0].output), other, at))
    if right and (ops := insertable(right[0], at, place.axes)) is not None and not groups_beside(right[0], ops):
        first = Alignment(only_right=(Insertion(right[0], other, ops, place),))
        yield from _with(first, alignments(left, right[1:], place, Place(right[0].value, right[0].output), at))


def _matches(mine: object, theirs: object, place: Place, other: Place, at: Interval) -> Iterator[Found]:
    if isinstance(mine, Op) and isinstance(theirs, Op) and not mismatch(mine, theirs):
        yield Alignment(matches=((mine, theirs),)), mine.rule.range(mine.site, [at])
    if isinstance(mine, Parallel) and isinstance(theirs, Parallel) and not mismatch(mine.join, theirs.join):
        orders = permutations(theirs.branches) if mine.join.rule.commutative else [theirs.branches]
        for order in orders:
            for found, ranges in _branches(mine.branches, tuple(order), place, other, at):
                joined = Alignment(matches=((mine.join, theirs.join),))
                yield _sum(found, joined), mine.join.rule.range(mine.join.site, ranges)


def _branches(
    left: tuple[Series, ...], right: tuple[Series, ...], place: Place, other: Place, at: Interval
) -> Iterator[tuple[Alignment, list[Interval]]]:
    if len(left) != len(right):
        return
    if not left:
        yield Alignment(), []
        return
    for first, reached in alignments(left[0], right[0], place, other, at):
        for rest, ranges in _branches(left[1:], right[1:], place, other, at):
            yield _sum(first, rest), [reached, *ranges]


def _with(first: Alignment, following: Iterator[Found]) -> Iterator[Found]:
    for rest, at in following:
        yield _sum(first, rest), at


def _sum(one: Alignment, other: Alignment) -> Alignment:
    return Alignment(one.matches + other.matches, one.only_left + other.only_left, one.only_right + other.only_right)
