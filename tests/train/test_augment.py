"""Draws depend on seed, epoch and example alone, are even, and mirror every image once in two epochs if asked to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnx.errors import MnxError
from mnx.train.augment import CROP, CUTOUT, MIRROR, Augmentation, draws, mixture

EVERYTHING = Augmentation(crop=4, mirror="random", cutout=8)
MANY = np.arange(20000)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": -1}, "augmentation: crop = -1: give a whole number of pixels"),
        ({"padding": "edge"}, "padding = edge: give reflect or zero"),
        ({"mirror": "sometimes"}, "mirror = sometimes: give off, random, alternating"),
        ({"cutout": -3}, "cutout = -3"),
        ({"mixup": -0.1}, "mixup = -0.1"),
        ({"mixup": float("nan")}, "mixup = nan: give a finite number, 0 for none"),
        ({"mixup": float("inf")}, "mixup = inf"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MnxError, match=message):
        Augmentation(**settings)


def test_an_example_draws_the_same_wherever_it_stands_in_its_batch() -> None:
    whole = draws(EVERYTHING, (32, 32), 7, 3, MANY)
    chosen = np.array([19, 4, 4, 19999, 0])
    for name, array in draws(EVERYTHING, (32, 32), 7, 3, chosen).items():
        np.testing.assert_array_equal(array, whole[name][chosen])


@pytest.mark.parametrize(("seed", "epoch"), [(8, 3), (7, 4), (3, 7), (7 + 2**33, 3)])
def test_another_seed_or_epoch_draws_otherwise(seed: int, epoch: int) -> None:
    first, other = (draws(EVERYTHING, (32, 32), *keys, MANY) for keys in ((7, 3), (seed, epoch)))
    assert np.mean(first[MIRROR] == other[MIRROR]) == pytest.approx(1 / 2, abs=0.02)
    assert np.mean(first[CROP] == other[CROP]) == pytest.approx(1 / 9, abs=0.02)
    assert np.mean(first[CUTOUT] == other[CUTOUT]) == pytest.approx(1 / 32, abs=0.01)


def test_all_that_can_be_drawn_is_drawn_equally_often_and_independently() -> None:
    found = draws(EVERYTHING, (16, 32), 0, 0, MANY)
    columns = {
        "down": (found[CROP][:, 0], range(-4, 5)),
        "right": (found[CROP][:, 1], range(-4, 5)),
        "mirrored": (found[MIRROR], range(2)),
        "row": (found[CUTOUT][:, 0], range(16)),
        "column": (found[CUTOUT][:, 1], range(32)),
    }
    for numbers, possible in columns.values():
        seen, counts = np.unique(numbers, return_counts=True)
        assert seen.tolist() == list(possible)
        share = 1 / len(possible)
        assert np.abs(counts / len(MANY) - share).max() < 5 * np.sqrt(share / len(MANY))
    together = np.corrcoef([numbers.astype(float) for numbers, _ in columns.values()])
    assert np.abs(together - np.eye(5)).max() < 0.04


@pytest.mark.parametrize("epoch", range(4))
def test_alternating_shows_every_image_once_each_way_in_two_epochs(epoch: int) -> None:
    alternating = Augmentation(mirror="alternating")
    one, two, three = (draws(alternating, (8, 8), 5, epoch + later, MANY)[MIRROR] for later in range(3))
    np.testing.assert_array_equal(one, ~two)
    np.testing.assert_array_equal(one, three)
    assert one.mean() == pytest.approx(1 / 2, abs=0.02)


def test_random_mirroring_keeps_no_such_promise() -> None:
    one, two = (draws(Augmentation(mirror="random"), (8, 8), 5, epoch, MANY)[MIRROR] for epoch in range(2))
    assert not np.array_equal(one, ~two)


def test_nothing_is_drawn_that_is_not_asked_for() -> None:
    assert draws(Augmentation(mixup=1), None, 0, 0, MANY) == {}
    assert set(draws(Augmentation(mirror="random"), (8, 8), 0, 0, MANY)) == {MIRROR}
    assert mixture(EVERYTHING, 0, 0, 0, MANY) is None


def test_partners_are_examples_of_the_batch_each_once() -> None:
    indices = np.array([30, 10, 20, 40, 70])
    found = mixture(Augmentation(mixup=0.2), 1, 2, 3, indices)
    again = mixture(Augmentation(mixup=0.2), 1, 2, 3, indices)
    assert found is not None
    assert again is not None
    assert sorted(found.partners) == sorted(indices)
    np.testing.assert_array_equal(found.partners, indices[found.places])
    np.testing.assert_array_equal(found.partners, again.partners)
    assert found.share == again.share == float(np.float32(found.share))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_are_those_of_the_beta_distribution(alpha: float) -> None:
    every = [mixture(Augmentation(mixup=alpha), 0, epoch, step, MANY[:2]) for epoch in range(40) for step in range(50)]
    shares = np.array([mixed.share for mixed in every if mixed is not None])
    assert len(set(shares)) > 1900 * min(1, alpha)
    assert shares.mean() == pytest.approx(1 / 2, abs=0.04)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
