"""Growth maps, shares, kernel placement and insertions, each by its own algebra."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Array, examples

from mnx.graphs.growth.insert import channel_statistics, identity, zero
from mnx.graphs.growth.maps import axis_map, growth_map, random_of, run_length, taken
from mnx.graphs.growth.shares import copied, placed, shared
from mnx.graphs.ops.axes import Axis, Part, fixed
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op
from mnx.graphs.zoo.vgg import vgg

widths = st.tuples(st.integers(1, 9), st.integers(0, 30)).map(lambda drew: (drew[0], drew[0] + drew[1]))


@given(widths, st.integers(0, 99))
@examples(100)
def test_a_growth_map_keeps_every_channel_in_place_and_repeats_evenly(width: tuple[int, int], seed: int) -> None:
    old, new = width
    growth = growth_map(old, new, random_of(seed, "any"))
    assert growth.shape == (new,)
    np.testing.assert_array_equal(growth[:old], np.arange(old))
    counts = np.bincount(growth, minlength=old)
    assert len(counts) == old
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1


def test_which_channels_repeat_depends_on_the_seed_and_the_names() -> None:
    maps = [
        tuple(growth_map(50, 75, random_of(seed, *names))[50:])
        for seed, names in [(0, ("n", "a")), (0, ("n", "b")), (0, ("k", "a")), (1, ("n", "a"))]
    ]
    assert len(set(maps)) == 4
    assert maps[0] == tuple(growth_map(50, 75, random_of(0, "n", "a"))[50:])


@given(st.lists(st.tuples(widths, st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3), st.integers(0, 4))
@examples(60)
def test_the_map_of_an_axis_leads_every_new_element_to_its_old_one(
    parts: list[tuple[tuple[int, int], int, int]], size: int
) -> None:
    axis: Axis = tuple(Part(group, outer, inner) for group, (_, outer, inner) in enumerate(parts))
    axis += fixed(size) if size else ()
    maps = {group: growth_map(*width, random_of(0, f"{group}")) for group, (width, _, _) in enumerate(parts)}

    def labels(of_group: list[list[int]]) -> list[tuple[int, ...]]:
        """Elements of the axis in order as (part, outer, channel, inner)."""
        found = []
        for index, part in enumerate(axis):
            channels = [0] if part.group is None else of_group[part.group]
            found += [
                (index, o, channel, i) for o in range(part.outer) for channel in channels for i in range(part.inner)
            ]
        return found

    old = labels([list(range(width[0])) for width, _, _ in parts])
    new = labels([list(maps[group]) for group in range(len(parts))])
    growth = axis_map(axis, maps, {group: width[0] for group, (width, _, _) in enumerate(parts)})
    assert [old[place] for place in growth] == new


@given(st.lists(st.tuples(widths, st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3), st.booleans())
@examples(60)
def test_a_map_read_by_runs_leads_to_the_same_entries(
    parts: list[tuple[tuple[int, int], int, int]], fresh: bool
) -> None:
    axis: Axis = tuple(Part(group, outer, inner) for group, (_, outer, inner) in enumerate(parts))
    maps = {g: growth_map(*width, random_of(0, f"{g}"), float(fresh)) for g, (width, _, _) in enumerate(parts)}
    growth = axis_map(axis, maps, {group: width[0] for group, (width, _, _) in enumerate(parts)})
    old = sum(width[0] * outer * inner for width, outer, inner in parts)
    run, value = run_length(growth, old), np.arange(2.0 * old).reshape(2, old)
    if len(parts) == 1 and len(maps[0]) > 2:
        assert run % parts[0][2] == 0
    by_runs = taken(value.reshape(2, -1, run), 1, growth[::run] // run)
    np.testing.assert_array_equal(by_runs.reshape(2, -1), taken(value, 1, growth))


def test_what_no_map_changes_is_not_copied() -> None:
    value = np.ones((3, 2))
    assert taken(value, 0, np.arange(3)) is value
    assert taken(value, 0, np.array([0, 2, 1])) is not value


def sums_over_copies(shares: Array, growth: Array, old: int) -> Array:
    sums = np.zeros((old, *shares.shape[1:]), np.float64)
    np.add.at(sums, growth, shares.astype(np.float64))
    return sums


@given(widths, st.integers(0, 99), st.booleans())
@examples(100)
def test_shares_of_a_column_add_up_to_it(width: tuple[int, int], seed: int, equal: bool) -> None:
    old, new = width
    random = random_of(seed, "shares")
    growth = growth_map(old, new, random)
    weight, draws = random.uniform(-1, 1, (old, 2, 3)), random.uniform(-1, 1, (new, 2, 3))
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-6)):
        given_weight = weight.astype(dtype)
        shares = shared(given_weight, 0, growth, None if equal else draws[copied(growth)])
        assert shares.dtype == dtype
        np.testing.assert_allclose(sums_over_copies(shares, growth, old), given_weight, rtol=0, atol=tolerance)


@given(widths, st.integers(0, 2))
@examples(40)
def test_shares_split_any_axis(width: tuple[int, int], axis: int) -> None:
    old, new = width
    random = random_of(0, "axis")
    growth = growth_map(old, new, random)
    weight = np.moveaxis(random.normal(size=(old, 2, 3)), 0, axis)
    draws = np.moveaxis(random.normal(size=(len(copied(growth)), 2, 3)), 0, axis)
    first = shared(np.moveaxis(weight, axis, 0), 0, growth, np.moveaxis(draws, axis, 0))
    np.testing.assert_array_equal(np.moveaxis(shared(weight, axis, growth, draws), axis, 0), first)


def test_a_column_without_copies_stays_as_it_is_to_the_last_bit() -> None:
    random = random_of(0, "kept")
    weight, draws = (random.normal(size=(n, 4)).astype(np.float32) for n in (3, 2))
    shares = shared(weight, 0, np.array([0, 1, 2, 1]), draws)
    np.testing.assert_array_equal(shares[[0, 2]], weight[[0, 2]])


def test_random_shares_break_the_symmetry_of_the_copies_and_equal_ones_keep_it() -> None:
    random = random_of(0, "symmetry")
    weight, draws = (random.normal(size=(n, 4)) for n in (2, 6))
    growth = np.array([0, 1, 0, 1, 0, 1])
    assert len(np.unique(shared(weight, 0, growth, draws), axis=0)) == 6
    np.testing.assert_allclose(shared(weight, 0, growth, None), weight[growth] / 3)


def test_shares_are_as_large_as_fresh_draws() -> None:
    random = random_of(0, "large")
    growth = growth_map(100, 400, random)
    draws = random.normal(size=(400, 50))
    assert shared(np.zeros((100, 50)), 0, growth, draws).std() == pytest.approx((3 / 4) ** 0.5, rel=0.05)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(0, 2)
)
@examples(30)
def test_a_placed_kernel_has_zeros_around(size: tuple[int, int], start: tuple[int, int], after: int) -> None:
    weight = random_of(0, "kernel").normal(size=(2, 3, *size))
    sizes = (start[0] + size[0] + after, start[1] + size[1])
    grown = placed(weight, (2, 3), sizes, start)
    assert grown.shape == (2, 3, *sizes)
    np.testing.assert_array_equal(grown[:, :, start[0] : start[0] + size[0], start[1] :], weight)
    assert np.count_nonzero(grown) == weight.size


def op_called(name: str) -> Op:
    model = vgg("v", [[(3, 4)]], 3, (2, 4, 4), (5,), batch_norm=True)
    return next(op for op in describe(model).ops() if op.name == name)


def no_statistics() -> tuple[Array, Array]:
    raise AssertionError("statistics were asked for, which only a normalisation needs")


def test_an_identity_has_one_tap_per_channel_in_the_channels_of_the_mother() -> None:
    assert {slot: v.tolist() for slot, v in identity(op_called("head"), 2, no_statistics).items()} == {
        1: [[1.0, 0.0], [0.0, 1.0]],
        2: [0.0, 0.0],
    }
    assert identity(op_called("conv1_1"), 3, no_statistics)[1].shape == (3, 3, 1, 1)
    assert identity(op_called("relu1_1"), 3, no_statistics) == {}


def test_an_identity_norm_undoes_itself() -> None:
    mean, variance = np.array([1.0, -2.0]), np.array([0.5, 4.0])
    scale, shift, centre, spread = identity(op_called("norm1_1"), 2, lambda: (mean, variance)).values()
    x = random_of(0, "x").normal(size=(5, 2))
    np.testing.assert_allclose(scale * (x - centre) / np.sqrt(spread + 1e-5) + shift, x, atol=1e-6)


def test_a_dead_channel_gives_an_identity_norm_too() -> None:
    zeros = np.zeros(1)
    scale, shift, centre, spread = identity(op_called("norm1_1"), 1, lambda: (zeros, zeros)).values()
    assert scale == pytest.approx(np.sqrt(1e-5))
    assert (shift, centre, spread) == (0, 0, 0)


@pytest.mark.parametrize("name", ["conv1_1", "norm1_1", "head"])
def test_a_zeroed_op_gives_zeros_at_its_full_size(name: str) -> None:
    op = op_called(name)
    values = zero(op)
    for parameter in op.parameters:
        assert values[parameter.slot].shape == parameter.shape
        assert np.all(values[parameter.slot] == (1.0 if parameter.kind.value == "variance" else 0.0))


def test_statistics_are_those_of_batch_normalization() -> None:
    x = random_of(0, "x").normal(3.0, 2.0, (4, 3, 5, 5)).astype(np.float32)
    mean, variance = channel_statistics(x)
    rows = x.transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64)
    np.testing.assert_allclose(mean, rows.mean(axis=1))
    np.testing.assert_allclose(variance, ((rows.T - rows.mean(axis=1)) ** 2).mean(axis=0))
