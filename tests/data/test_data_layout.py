"""Axes of examples are arranged by their shapes, and what cannot be told apart is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnx.data.layout import arrangement, layout_of
from mnx.data.scaling import apply, fitted
from mnx.errors import MnxError

SIZES = st.integers(4, 9)


@given(count=st.integers(1, 4), channels=st.sampled_from((1, 3)), height=SIZES, width=SIZES, seed=st.integers(0, 99))
def test_nhwc_and_nchw_give_the_same_input_both_ways(
    count: int, channels: int, height: int, width: int, seed: int
) -> None:
    first = np.random.default_rng(seed).integers(0, 256, (count, channels, height, width)).astype(np.uint8)
    last = np.ascontiguousarray(first.transpose(0, 2, 3, 1))
    for shape in ((channels, height, width), (height, width, channels), (channels * height * width,)):
        results = []
        for x in (first, last):
            scaling = fitted(x, arrangement(x.shape[1:], shape, None, "x"), shape, None)
            result = apply(scaling, x)
            assert result.shape == (count, *shape)
            assert result.dtype == np.float32
            assert result.flags.c_contiguous
            results.append((result, scaling.mean, scaling.std))
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@given(x=st.integers(0, 99).map(lambda seed: np.random.default_rng(seed).random((2, 3, 4, 5), dtype=np.float32)))
def test_converting_floats_to_nhwc_and_back_changes_nothing(x: np.ndarray) -> None:
    last = apply(fitted(x, arrangement((3, 4, 5), (4, 5, 3), None, "x"), (4, 5, 3), None), x)
    np.testing.assert_array_equal(last, x.transpose(0, 2, 3, 1))
    back = apply(fitted(last, arrangement((4, 5, 3), (3, 4, 5), None, "x"), (3, 4, 5), None), last)
    np.testing.assert_array_equal(back, x)


def test_images_are_flattened_channel_by_channel() -> None:
    x = np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3)
    flat = apply(fitted(x, arrangement((4, 5, 3), (60,), None, "x"), (60,), None), x)
    np.testing.assert_array_equal(flat[:, :20], x[..., 0].reshape(2, 20))


@pytest.mark.parametrize("shape", [(1, 4, 5), (4, 5, 1), (4, 5), (20,)])
def test_grey_images_without_a_channel_axis_fit(shape: tuple[int, ...]) -> None:
    x = np.arange(40, dtype=np.float32).reshape(2, 4, 5)
    result = apply(fitted(x, arrangement((4, 5), shape, None, "x"), shape, None), x)
    np.testing.assert_array_equal(result, x.reshape(2, *shape))


def test_axes_beyond_images_must_be_equal() -> None:
    assert arrangement((2, 3, 4, 5), (2, 3, 4, 5), None, "x").channel_axis == 0
    with pytest.raises(MnxError, match=r"\(2, 3, 4, 5\) do not fit the members' input \(5, 2, 3, 4\)"):
        arrangement((2, 3, 4, 5), (5, 2, 3, 4), None, "x")


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((3, 32, 32), "NCHW"), ((32, 32, 3), "NHWC"), ((28, 28, 1), "NHWC"), ((3, 3, 3), "NCHW"), ((16, 8, 8), "NCHW")],
)
def test_an_input_is_nchw_unless_only_its_last_axis_looks_like_channels(shape: tuple[int, ...], layout: str) -> None:
    assert layout_of(shape) == layout


def test_a_layout_known_to_the_source_decides_where_shapes_do_not() -> None:
    assert arrangement((3, 3, 3), (3, 3, 3), "NHWC", "x").order == (2, 0, 1)
    assert arrangement((3, 3, 3), (3, 3, 3), "NCHW", "x").order == (0, 1, 2)
    assert arrangement((3, 4, 3), (36,), "NHWC", "x").order == (2, 0, 1)
    assert arrangement((3, 4, 3), (36,), "NCHW", "x").order == (0, 1, 2)


def test_a_known_layout_is_never_read_as_the_other_one() -> None:
    with pytest.raises(MnxError, match="do not fit"):
        arrangement((3, 5, 5), (5, 5, 3), "NHWC", "x")
    with pytest.raises(MnxError, match="do not fit"):
        arrangement((5, 5, 3), (3, 5, 5), "NCHW", "x")


@pytest.mark.parametrize(
    ("raw", "shape", "message"),
    [
        ((3, 3, 3), (3, 3, 3), r"x: examples of shape \(3, 3, 3\) fit the members' input \(3, 3, 3\) both as"),
        ((3, 5, 3), (45,), r"read as \(C, H, W\) and as \(H, W, C\).*\(45,\); give them flattened.*\(n, 45\)"),
        ((5, 5, 5), (125,), r"read as \(C, H, W\) and as \(H, W, C\)"),
        (
            (8, 8, 1),
            (3, 8, 8),
            r"\(8, 8, 1\) do not fit the members' input \(3, 8, 8\); give x of shape \(n, 3, 8, 8\) or",
        ),
        ((28, 28), (32, 32, 3), r"\(n, 32, 32, 3\) or \(n, 3, 32, 32\)"),
        ((64,), (1, 8, 8), r"\(64,\) do not fit"),
        ((4, 4), (15,), r"\(4, 4\) do not fit the members' input \(15,\); give x of shape \(n, 15\)"),
    ],
)
def test_a_misfit_names_both_shapes(raw: tuple[int, ...], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(MnxError, match=message):
        arrangement(raw, shape, None, "x")
