"""Integers are scaled and standardised by channel, floats are left alone, and a scaling can be kept and used again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mnx.data import raw
from mnx.data.layout import AS_IS, TO_FIRST, Arrangement, arrangement
from mnx.data.scaling import Scaling, apply, fitted
from mnx.errors import MnxError

COLOURS = np.random.default_rng(0).integers(0, 256, (50, 6, 7, 3)).astype(np.uint8) // np.array([1, 2, 5], np.uint8)


def made(x: np.ndarray, shape: tuple[int, ...], levels: int | None = None) -> Scaling:
    return fitted(x, arrangement(x.shape[1:], shape, None, "x"), shape, levels)


def test_integers_are_standardised_by_channel() -> None:
    scaling = made(COLOURS, (3, 6, 7))
    unit = COLOURS / 255
    assert scaling.levels == 255
    np.testing.assert_allclose(scaling.mean, unit.mean((0, 1, 2)))
    np.testing.assert_allclose(scaling.std, unit.std((0, 1, 2)))
    expected = ((unit - unit.mean((0, 1, 2))) / unit.std((0, 1, 2))).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(apply(scaling, COLOURS), expected, atol=1e-5)


def test_moments_taken_in_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(COLOURS, (3, 6, 7))
    monkeypatch.setattr(raw, "BLOCK", 300)
    parts = made(COLOURS, (3, 6, 7))
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.std, whole.std, rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "levels", "expected"),
    [
        (np.array([[0, 16], [4, 8]], np.uint8), 16, 16),
        (np.array([[0, 16], [4, 8]], np.uint8), None, 255),
        (np.array([[0, 4000], [4, 8]], np.uint16), None, 4000),
        (np.array([[-300, 200], [4, 8]], np.int64), None, 255),
        (np.array([[True, False], [True, True]]), None, 255),
    ],
)
def test_every_integer_dtype_is_standardised(x: np.ndarray, levels: int | None, expected: int) -> None:
    scaling = made(x, (2,), levels)
    assert scaling.levels == expected
    result = apply(scaling, x)
    assert result.mean() == pytest.approx(0, abs=1e-6)
    assert result.std() == pytest.approx(1, abs=1e-6)


def test_a_constant_channel_becomes_zero() -> None:
    x = COLOURS.copy()
    x[..., 1] = 7
    result = apply(made(x, (3, 6, 7)), x)
    np.testing.assert_allclose(result[:, 1], 0, atol=1e-6)


def test_floats_are_taken_as_they_are() -> None:
    x = np.linspace(-5, 5, 24).reshape(2, 12)
    result = apply(made(x, (12,)), x)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, x.astype(np.float32))


def test_a_scaling_survives_json() -> None:
    for x, shape in ((COLOURS, (3, 6, 7)), (COLOURS.astype(np.float32), (126,))):
        scaling = made(x, shape)
        again = Scaling.from_json(json.loads(json.dumps(scaling.to_json())))
        assert again == scaling
        np.testing.assert_array_equal(apply(again, x), apply(scaling, x))


def test_a_document_with_other_fields_is_refused() -> None:
    document = made(COLOURS, (3, 6, 7)).to_json()
    del document["std"]
    with pytest.raises(MnxError, match="not a scaling of this version of mnx: gamma, std missing or unknown"):
        Scaling.from_json({**document, "gamma": 1})


def test_apply_leaves_its_argument_alone_and_takes_any_number_of_examples() -> None:
    before = COLOURS.copy()
    scaling = made(COLOURS, (6, 7, 3))
    assert apply(scaling, COLOURS[:0]).shape == (0, 6, 7, 3)
    apply(scaling, COLOURS)
    np.testing.assert_array_equal(COLOURS, before)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (COLOURS.transpose(0, 3, 1, 2), r"examples of shape \(3, 6, 7\) do not fit the scaling.*made for \(6, 7, 3\)"),
        (COLOURS / 255, "dtype float64 do not fit the scaling, which was made for integers from 0 to 255"),
    ],
)
def test_apply_refuses_what_differs_from_the_training_data(x: np.ndarray, message: str) -> None:
    with pytest.raises(MnxError, match=message):
        apply(made(COLOURS, (3, 6, 7)), x)


def test_apply_refuses_integers_where_training_saw_floats() -> None:
    with pytest.raises(MnxError, match=r"dtype uint8 .* floats, taken as they are"):
        apply(made(COLOURS / 255, (3, 6, 7)), COLOURS)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32])
@pytest.mark.parametrize("layout", [AS_IS, TO_FIRST])
def test_mean_and_deviation_are_numpy_s_whatever_the_integers(dtype: type, layout: tuple[int, ...]) -> None:
    limits = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(limits.min, limits.max, (50, 3, 4, 3), dtype=dtype, endpoint=True)
    found = fitted(x, Arrangement(layout, 0), (3, 4, 3), 100)
    wide = np.moveaxis(x, 3 if layout == TO_FIRST else 1, 0).reshape(3, -1).astype(np.float64)
    assert found.mean == pytest.approx((wide.mean(axis=1) / 100).tolist(), rel=1e-12, abs=1e-9)
    assert found.std == pytest.approx((wide.std(axis=1) / 100).tolist(), rel=1e-12)
