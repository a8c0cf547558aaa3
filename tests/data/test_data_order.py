"""Splits keep every class's share, and batches visit the examples in an order that seed and epoch decide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnx.data.batches import batches
from mnx.data.split import stratified
from mnx.errors import MnxError

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=60).map(np.array)


@given(y=LABELS, share=st.floats(0.01, 0.99), seed=st.integers(0, 2**40))
def test_a_split_is_a_partition_that_keeps_shares(y: np.ndarray, share: float, seed: int) -> None:
    count = max(1, round(share * len(y)))
    rest, chosen = stratified(y, count, seed, "test")
    assert len(chosen) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, chosen])), np.arange(len(y)))
    for label in np.unique(y):
        assert abs((y[chosen] == label).sum() - (y == label).sum() * count / len(y)) <= 1


def test_seed_and_stage_decide_a_split() -> None:
    y = np.arange(100) % 5
    splits = [stratified(y, 20, seed, stage)[1].tolist() for seed, stage in ((1, "test"), (2, "test"), (1, "limit"))]
    assert splits[0] == stratified(y, 20, 1, "test")[1].tolist()
    assert splits[0] != splits[1]
    assert splits[0] != splits[2]


@given(n=st.integers(1, 50), size=st.integers(1, 60), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_batches_are_full_and_disjoint(n: int, size: int, seed: int, epoch: int) -> None:
    drawn = list(batches(n, size, seed, epoch))
    assert [len(batch) for batch in drawn] == ([size] * (n // size) if n >= size else [n])
    visited = np.concatenate(drawn)
    assert len(set(visited.tolist())) == len(visited)
    assert visited.min() >= 0
    assert visited.max() < n


def test_seed_and_epoch_decide_the_order() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [int(index) for batch in batches(64, 16, seed, epoch) for index in batch]

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


@pytest.mark.parametrize(("n", "size"), [(0, 4), (4, 0), (4, -1)])
def test_batches_of_nothing_are_refused_when_asked_for(n: int, size: int) -> None:
    with pytest.raises(MnxError, match=f"batches of {size} from {n} examples"):
        batches(n, size, 0, 0)
