"""Axes as expressions over channel groups, and the unification that ties them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from mnx.graphs.axes import Axis, Part, Ties, fixed, repeated
from mnx.graphs.errors import GraphError


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


def test_sums_of_different_parts_cannot_be_tied() -> None:
    ties = Ties()
    a, b, c, d = (ties.group(size) for size in (2, 3, 3, 2))
    with pytest.raises(GraphError, match="ties axes of widths 2 and 3"):
        ties.same(a + b, c + d, "here")
    with pytest.raises(GraphError, match="built differently"):
        ties.same(repeated(ties.group(2), 6), repeated(ties.group(3), 4), "here")


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
