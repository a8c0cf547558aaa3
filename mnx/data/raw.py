"""Data as a source holds it, before it is split and fitted to the members' input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from mnx.data.split import stratified
from mnx.errors import MnxError
from mnx.graphs.model import Array

Layout: TypeAlias = Literal["NCHW", "NHWC"]

TEST_SHARE = 0.2
"""The share of the examples that becomes the test part where the source has none of its own."""

BLOCK = 1 << 22
"""Elements looked at in one go, to keep temporary copies of large arrays small."""


@dataclass(frozen=True, eq=False)
class RawData:
    """A training and a test part as read: x of shape (n, ...), integers or floats, y integers of shape (n,).

    `layout` says where the channels of x are, None where the source does not know. `levels` is the largest value that
    an integer x can take (16 for digits), None for what the dtype or the data say.
    """

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    layout: Layout | None = None
    levels: int | None = None


def examples(x: Array, y: Array, where: str) -> tuple[Array, Array]:
    """`x` and `y` as numbers of shape (n, ...) and int64 labels of shape (n,).

    Raises:
        MnxError: they are not numbers, are empty or of different lengths, or y holds anything but one class a row.
    """
    if x.dtype.kind not in "buif":
        raise MnxError(f"{where}: x has dtype {x.dtype}; give numbers (uint8 or float32)")
    if x.ndim < 2 or x.size == 0:
        raise MnxError(f"{where}: x has shape {x.shape}; give at least one example, with the examples along axis 0")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise MnxError(f"{where}: y has shape {y.shape}; give one class a row, shape (n,); y.argmax(1) undoes one-hot")
    if y.dtype.kind not in "ui":
        raise MnxError(f"{where}: y has dtype {y.dtype}; classes are integers from 0: y.astype(int)")
    if len(x) != len(y):
        raise MnxError(f"{where}: x has {len(x)} examples, y has {len(y)} labels")
    return x, y.astype(np.int64)


def split_by_seed(
    name: str, x: Array, y: Array, seed: int, where: str, layout: Layout | None = None, levels: int | None = None
) -> RawData:
    """Raw data from examples without a test part: a stratified fifth of them, chosen by `seed`, becomes it.

    Raises:
        MnxError: as `examples`, or there are fewer than two examples.
    """
    x, y = examples(x, y, where)
    if len(y) < 2:
        raise MnxError(f"{where}: one example cannot be split into a training and a test part")
    train, test = stratified(y, max(1, round(len(y) * TEST_SHARE)), seed, "test")
    return RawData(name, x[train], y[train], x[test], y[test], layout, levels)


def blocks(x: Array) -> Iterator[tuple[int, Array]]:
    """Views of consecutive examples of `x`, each with the index of its first."""
    rows = max(1, BLOCK * len(x) // x.size)
    for start in range(0, len(x), rows):
        yield start, x[start : start + rows]
