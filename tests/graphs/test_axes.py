"""Axes as expressions over channel groups, and the unification that ties them."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.maps import axis_map, growth_map
from mnx.graphs.ops.axes import Axis, Part, Ties, fixed, repeated, width_of


def test_a_tie_makes_two_groups_one() -> None:
    ties = Ties()
    one, other, third = ties.group(4), ties.group(4), ties.group(4)
    ties.same(one, other, "here")
    ties.same(third, other, "here")
    assert ties.resolve(one) == ties.resolve(other) == ties.resolve(third)


def test_groups_that_never_meet_stay_apart() -> None:
    ties = Ties()
    one, other = ties.group(4), ties.group(4)
    assert ties.resolve(one) != ties.resolve(other)


def test_a_tie_of_different_widths_names_both_and_the_place() -> None:
    ties = Ties()
    with pytest.raises(GraphError, match=r"node 'add' \(Add\) ties axes of widths 4 and 5"):
        ties.same(ties.group(4), ties.group(5), "node 'add' (Add)")


def test_a_group_tied_to_a_fixed_width_is_fixed() -> None:
    ties = Ties()
    group, alike = ties.group(10), ties.group(10)
    ties.same(group, alike, "here")
    ties.same(fixed(10), alike, "here")
    assert ties.resolve(group) == fixed(10)


def test_a_group_can_be_a_sum_of_others() -> None:
    ties = Ties()
    one, other, whole = ties.group(2), ties.group(3), ties.group(5)
    ties.same(whole, one + other, "here")
    assert ties.resolve(whole) == one + other
    assert ties.resolve(repeated(whole, 7)) == repeated(one, 7) + repeated(other, 7)


def test_sums_are_tied_part_by_part() -> None:
    ties = Ties()
    a, b, c, d = (ties.group(size) for size in (2, 3, 2, 3))
    ties.same(a + b, c + d, "here")
    assert ties.resolve(a) == ties.resolve(c)
    assert ties.resolve(b) == ties.resolve(d)


def test_sums_that_no_tie_fits_become_fixed() -> None:
    ties = Ties()
    a, b, c, d = (ties.group(size) for size in (2, 3, 3, 2))
    ties.same(a + b, c + d, "here")
    assert [ties.resolve(axis) for axis in (a, b, c, d)] == [fixed(2), fixed(3), fixed(3), fixed(2)]
    one, other = ties.group(2), ties.group(3)
    ties.same(repeated(one, 6), repeated(other, 4), "here")
    assert (ties.resolve(one), ties.resolve(other)) == (fixed(2), fixed(3))


def test_a_product_is_tied_to_a_longer_one() -> None:
    ties = Ties()
    whole, heads = ties.group(12), ties.group(3)
    ties.same(repeated(whole, 5), repeated(heads, 20), "here")
    assert ties.resolve(whole) == (Part(heads[0].group, 1, 4),)


def test_channels_split_into_heads_whose_width_stays() -> None:
    ties = Ties()
    channels = ties.group(12)
    heads, width = ties.split(channels, (3, 4))
    assert (ties.width(heads), width) == (3, fixed(4))
    assert ties.resolve(channels) == repeated(heads, 4)


def test_a_joined_projection_splits_into_its_pieces_and_heads() -> None:
    ties = Ties()
    joined = ties.group(3 * 2 * 8)
    pieces, heads, width = ties.split(ties.merged([fixed(3), ties.group(2), fixed(8)]), (3, 2, 8))
    assert (pieces, ties.width(heads), width) == (fixed(3), 2, fixed(8))
    third = ties.taken(joined, 16, 32)
    assert ties.width(third) == 16
    assert ties.resolve(joined) == (Part(third[0].group, 3, 1),)


def test_whole_parts_of_a_sum_are_taken_as_they_are() -> None:
    ties = Ties()
    a, b, c = (ties.group(size) for size in (2, 3, 4))
    assert ties.taken(a + b + c, 2, 9) == b + c


def test_what_cuts_through_a_part_becomes_fixed() -> None:
    ties = Ties()
    a = ties.group(5)
    assert ties.taken(a, 1, 4) == fixed(3)
    assert ties.resolve(a) == fixed(5)


def test_a_shuffle_keeps_the_number_of_pieces() -> None:
    ties = Ties()
    a, b = ties.group(4), ties.group(4)
    pieces, rest = ties.split(a + b, (2, 4), free=1)
    assert pieces == fixed(2)
    assert ties.resolve(a) == ties.resolve(b) == ties.resolve(rest)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Axes as (outer, width, inner), width 0 for a fixed one, and the growth of each group's width."""
    axes = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=3))
    return axes, draw(st.lists(st.integers(1, 3), min_size=len(axes), max_size=len(axes)))


@given(tensors(), st.integers(0, 2**31))
@examples(200)
def test_the_map_of_a_merged_axis_is_that_of_the_tensor(
    case: tuple[list[tuple[int, int, int]], list[int]], seed: int
) -> None:
    """Growing each axis and then flattening is flattening and then growing."""
    ties = Ties()
    axes = [
        (Part(ties.group(width)[0].group, outer, inner),) if width else fixed(outer * inner)
        for outer, width, inner in case[0]
    ]
    merged = ties.resolve(ties.merged(axes))
    axes = [ties.resolve(axis) for axis in axes]
    random = np.random.default_rng(seed)
    widths = dict(ties.sizes)
    maps = {
        group: growth_map(width, width * times, random)
        for (group, width), times in zip(widths.items(), case[1], strict=False)
    }
    x = np.arange(np.prod([width_of(axis, widths) for axis in axes])).reshape([width_of(axis, widths) for axis in axes])
    grown = x
    for place, axis in enumerate(axes):
        grown = np.take(grown, axis_map(axis, maps, widths), axis=place)
    assert np.array_equal(grown.reshape(-1), x.reshape(-1)[axis_map(merged, maps, widths)])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 3), st.integers(1, 3), st.integers(1, 3))
@examples(200)
def test_split_and_merge_undo_each_other(sizes: list[int], choice: int, outer: int, inner: int) -> None:
    """Whether the fixed factors have axes of their own or lie inside the first and last."""
    for wanted in ([outer, *sizes, inner], [outer * sizes[0], *sizes[1:], inner]):
        ties = Ties({"here": choice})
        axis: Axis = (Part(ties.group(prod(sizes))[0].group, outer, inner),)
        parts = ties.split(axis, wanted, where="here")
        assert [ties.width(part) for part in parts] == wanted
        assert ties.resolve(ties.merged(parts)) == ties.resolve(axis)


def test_a_choice_that_is_fixed_later_is_made_anew() -> None:
    ties = Ties()
    pieces, heads, width = ties.split(ties.group(48), (3, 2, 8), where="here")
    assert (heads, width) == (fixed(2), fixed(8))
    assert ties.retry() is None
    ties.fix(pieces)
    assert ties.retry() == {"here": 1}
    again = Ties({"here": 1})
    pieces, heads, width = again.split(again.group(48), (3, 2, 8), where="here")
    assert (pieces, width) == (fixed(3), fixed(8))


@pytest.mark.parametrize("fixed_first", [True, False])
def test_sums_and_products_tied_to_a_fixed_width_become_fixed(fixed_first: bool) -> None:
    ties = Ties()
    one, other = ties.group(2), ties.group(3)
    pair = (fixed(22), repeated(one, 8) + repeated(other, 2))
    ties.same(*(pair if fixed_first else pair[::-1]), "here")
    assert ties.resolve(one) == fixed(2)
    assert ties.resolve(other) == fixed(3)


def test_repeating_a_fixed_axis_gives_a_fixed_axis() -> None:
    assert repeated(fixed(3), 49) == fixed(147)


def test_repeating_keeps_the_group_outermost() -> None:
    (part,) = repeated(repeated((Part(0),), 3), 5)
    assert part == Part(0, outer=1, inner=15)


groups = st.lists(st.sampled_from([2, 3]), min_size=2, max_size=12)
pairs = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20)


@given(groups, pairs)
@examples(100)
def test_ties_are_the_equivalence_that_they_span(sizes: list[int], wishes: list[tuple[int, int]]) -> None:
    ties = Ties()
    axes: list[Axis] = [ties.group(size) for size in sizes]
    classes = [{index} for index in range(len(sizes))]
    for a, b in wishes:
        a, b = a % len(sizes), b % len(sizes)
        if sizes[a] != sizes[b]:
            with pytest.raises(GraphError):
                ties.same(axes[a], axes[b], "here")
            continue
        ties.same(axes[a], axes[b], "here")
        joined = classes[a] | classes[b]
        for index in joined:
            classes[index] = joined
    for a in range(len(sizes)):
        assert ties.width(axes[a]) == sizes[a]
        for b in range(len(sizes)):
            assert (ties.resolve(axes[a]) == ties.resolve(axes[b])) == (b in classes[a])


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=4), st.integers(1, 6))
@examples(50)
def test_the_width_of_an_expression_does_not_change_when_it_is_resolved(
    parts: list[tuple[int, int]], inner: int
) -> None:
    ties = Ties()
    axis = tuple(part for size, times in parts for part in repeated(ties.group(size), times))
    whole = ties.group(ties.width(axis))
    ties.same(whole, axis, "here")
    assert ties.width(ties.resolve(repeated(whole, inner))) == ties.width(axis) * inner
