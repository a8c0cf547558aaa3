"""Stratified choice of examples: every class keeps its share, to within one example."""

from __future__ import annotations

import zlib

import numpy as np

from mnx.graphs.model import Array


def stratified(y: Array, count: int, seed: int, stage: str) -> tuple[Array, Array]:
    """Choose `count` of the examples; returns the sorted indices (rest, chosen).

    Systematic sampling: the examples are shuffled, sorted by class, and taken at equal distances. `stage` names the
    choice, so that two choices with one seed are independent of each other.

    Args:
        y: labels of shape (n,).
        count: how many to choose, between 1 and n.
        seed: the run's seed, not negative.
        stage: what the choice is for.
    """
    n = len(y)
    shuffled = np.random.default_rng([seed, zlib.crc32(stage.encode())]).permutation(n)
    by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
    chosen = np.zeros(n, dtype=bool)
    chosen[by_class[(2 * np.arange(count) + 1) * n // (2 * count)]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
