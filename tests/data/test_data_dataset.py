"""A data set is loaded, checked, split and fitted to the members' input in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnx.data.dataset import Dataset, load
from mnx.data.scaling import apply
from mnx.data.sources import read
from mnx.errors import MnxError
from mnx.graphs.interface import Interface
from mnx.graphs.model import Port

DIGIT = Interface((Port("x", "float32", (1, 8, 8)),), 10)
PAIR = Interface((Port("x", "float32", (2,)),), 4)


def save(path: Path, x: np.ndarray, y: np.ndarray, **more: np.ndarray) -> str:
    parts: dict[str, Any] = {"x_train": x, "y_train": y, "x_test": x, "y_test": y, **more}
    np.savez(path / "a.npz", **parts)
    return str(path / "a.npz")


def plain(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(2 * n, dtype=np.float32).reshape(n, 2), np.arange(n) % 4


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8, 1), (64,)])
def test_digits_fit_every_member(shape: tuple[int, ...]) -> None:
    data = load("digits", Interface((Port("x", "float32", shape),), 10), 0)
    sizes = {"train": 1294, "validation": 144, "test": 359}
    for part, size in sizes.items():
        x, y = getattr(data, part).x(), getattr(data, part).y
        assert (x.shape, x.dtype, x.flags.c_contiguous) == ((size, *shape), np.float32, True)
        assert (y.shape, y.dtype) == ((size,), np.int64)
        assert set(np.unique(y)) == set(range(10))
    assert (data.name, data.classes, data.scalings[0].levels) == ("digits", 10, 16)
    assert data.train.x().mean() == pytest.approx(0, abs=1e-5)
    assert data.train.x().std() == pytest.approx(1, abs=1e-5)


def test_the_scaling_makes_the_inputs_of_raw_images() -> None:
    data = load("digits", DIGIT, 5)
    np.testing.assert_array_equal(apply(data.scalings[0], read("digits", DIGIT.inputs, 5).x_test), data.test.x())


def test_validation_is_stratified_and_taken_from_the_training_part(tmp_path: Path) -> None:
    x, y = plain()
    data = load(save(tmp_path, x, y, x_test=x + 1000), PAIR, 0, validation=0.2)
    assert np.bincount(data.validation.y).tolist() == [2] * 4
    assert sorted([*data.train.x()[:, 0], *data.validation.x()[:, 0]]) == x[:, 0].tolist()
    np.testing.assert_array_equal(data.train.x()[:, 0] // 2 % 4, data.train.y)
    np.testing.assert_array_equal(data.test.x(), x + 1000)


def test_a_limit_counts_the_validation_part_and_keeps_the_shares(tmp_path: Path) -> None:
    x, y = plain()
    spec = save(tmp_path, x, y)
    data = load(spec, PAIR, 0, validation=0.25, train_limit=16)
    assert np.bincount(data.train.y).tolist() == [3] * 4
    assert np.bincount(data.validation.y).tolist() == [1] * 4
    assert len(load(spec, PAIR, 0, train_limit=1000).train) == 36


def test_the_fingerprint_knows_the_data_and_the_split(tmp_path: Path) -> None:
    x, y = plain()
    spec = save(tmp_path, x, y)
    first = load(spec, PAIR, 0)
    assert load(spec, PAIR, 0).fingerprint == first.fingerprint
    assert len(first.fingerprint) == 16

    def others() -> list[Dataset]:
        settings = [load(spec, PAIR, 1), load(spec, PAIR, 0, 0.2), load(spec, PAIR, 0, train_limit=30)]
        changed = x.copy()
        changed[3, 1] += 1
        swapped = y.copy()
        swapped[0], swapped[1] = y[1], y[0]
        contents = [load(save(tmp_path, a, b), PAIR, 0) for a, b in ((changed, y), (x, swapped))]
        return [*settings, *contents]

    prints = [data.fingerprint for data in others()]
    assert len({first.fingerprint, *prints}) == 6


@pytest.mark.parametrize("seed", range(4))
def test_examples_of_a_file_that_mnx_splits_are_called_by_their_place_in_it(seed: int, tmp_path: Path) -> None:
    x, y = plain()
    file = tmp_path / "one.npz"
    bad = x.astype(np.float32)
    bad[7, 1] = np.nan
    np.savez(file, x=bad, y=y)
    with pytest.raises(MnxError, match=r"one\.npz: x holds nan in example 7; give finite"):
        load(str(file), PAIR, seed)
    labels = y.astype(np.int64)
    labels[5] = 99
    np.savez(file, x=x, y=labels)
    with pytest.raises(MnxError, match=r"one\.npz: label 99 of example 5 is out of range \(1 are\)"):
        load(str(file), PAIR, seed)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    x, y = plain()
    x = x.astype(np.float64)
    bad = x.copy()
    bad[7, 1] = value
    with pytest.raises(MnxError, match=rf"test part: x holds {value} in example 7; give finite".replace("+", r"\+")):
        load(save(tmp_path, x, y, x_test=bad), PAIR, 0)


@pytest.mark.parametrize("label", [-1, 4, 99])
def test_a_label_out_of_range_is_named(tmp_path: Path, label: int) -> None:
    x, y = plain()
    y[5] = label
    with pytest.raises(MnxError, match=rf"training part: label {label} of example 5 is out of range \(1 are\).* 4 cla"):
        load(save(tmp_path, x, y), PAIR, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_test": np.zeros(3, int)}, "test part: x has 40 examples, y has 3 labels"),
        ({"x_test": np.zeros((0, 2)), "y_test": np.zeros(0, int)}, r"test part: x has shape \(0, 2\); give at least"),
        ({"x_test": np.zeros((40, 3))}, r"float32 of shape \(2,\), test examples float64 of shape \(3,\); both must"),
        ({"x_test": np.zeros((40, 2), np.uint8)}, r"test examples uint8 of shape \(2,\); both must be of one kind"),
        ({"x_train": np.zeros((1, 2)), "y_train": np.zeros(1, int)}, "1 training examples are too few to hold out 10%"),
    ],
)
def test_parts_that_are_not_sound_are_refused(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(MnxError, match=message):
        load(save(tmp_path, *plain(), **change), PAIR, 0)


def test_data_that_do_not_fit_the_members_name_both_shapes() -> None:
    with pytest.raises(MnxError, match=r"digits: examples of shape \(8, 8, 1\) do not fit .* \(3, 32, 32\)"):
        load("digits", Interface((Port("x", "float32", (3, 32, 32)),), 10), 0)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(MnxError, match="seed -1 is negative"):
        load("digits", DIGIT, -1)
    for share in (0, 1, -0.5, float("nan")):
        with pytest.raises(MnxError, match=f"validation share must lie between 0 and 1, not be {share}"):
            load("digits", DIGIT, 0, validation=share)
    with pytest.raises(MnxError, match="a limit of 1 training examples leaves none to train on"):
        load("digits", DIGIT, 0, train_limit=1)
