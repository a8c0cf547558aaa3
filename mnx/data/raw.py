"""Data as a source holds it, before it is split and fitted to the members' inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from mnx.data.rows import Raw, taken
from mnx.data.split import stratified
from mnx.errors import MnxError
from mnx.graphs.model import Array

Layout: TypeAlias = Literal["NCHW", "NHWC"]
Inputs: TypeAlias = "Raw | tuple[Raw, ...]"
"""The examples of the members' only input, or those of all their inputs in order."""

Tell: TypeAlias = Callable[[int, int], None]
"""Hears how much of how much is read, of data that take long."""

TEST_SHARE = 0.2
"""The share of the examples that becomes the test part where the source has none of its own."""

BLOCK = 1 << 22
"""Elements looked at in one go, to keep temporary copies of large arrays small."""


@dataclass(frozen=True, eq=False)
class RawData:
    """A training and a test part as read: x of shape (n, ...), integers or floats; y numbers of shape (n,) or (n, k).

    `layout` says where the channels of x are, None where the source does not know. `levels` is the largest value that
    an integer x can take (16 for digits), None for what the dtype or the data say. Where mnx has split one file in two,
    `numbers` are the places of both parts' examples in it, which errors name.
    """

    name: str
    x_train: Inputs
    y_train: Array
    x_test: Inputs
    y_test: Array
    layout: Layout | None = None
    levels: int | None = None
    numbers: tuple[Array, Array] | None = None


def silent(done: int, total: int) -> None:
    """Nobody hears."""


def inputs_of(x: Inputs) -> tuple[Raw, ...]:
    """The arrays of all inputs."""
    return x if isinstance(x, tuple) else (x,)


def require_examples(x: Inputs, y: Array, where: str) -> None:
    """Refuse what are no examples with targets.

    Raises:
        MnxError: they are not numbers, are empty or of different lengths.
    """
    several = len(inputs_of(x)) > 1
    for place, each in enumerate(inputs_of(x), start=1):
        name = f"x of input {place}" if several else "x"
        if each.dtype.kind not in "buif":
            raise MnxError(f"{where}: {name} has dtype {each.dtype}; give numbers (uint8 or float32)")
        if each.ndim < 1 or each.size == 0:
            raise MnxError(
                f"{where}: {name} has shape {each.shape}; give at least one example, with the examples along axis 0"
            )
        if y.ndim < 1 or len(each) != len(y):
            raise MnxError(f"{where}: {name} has {len(each)} examples, y has {len(y) if y.ndim else 'no'} labels")


def split_by_seed(
    name: str, x: Inputs, y: Array, seed: int, where: str, layout: Layout | None = None, levels: int | None = None
) -> RawData:
    """Raw data from examples without a test part: a fifth of them, chosen by `seed`, becomes it.

    Stratified where the targets are integers, one an example.

    Raises:
        MnxError: as `require_examples`, or there are fewer than two examples.
    """
    require_examples(x, y, where)
    if len(y) < 2:
        raise MnxError(f"{where}: one example cannot be split into a training and a test part")
    train, test = stratified(strata(y), max(1, round(len(y) * TEST_SHARE)), seed, "test")
    first, second = (tuple(taken(each, rows) for each in inputs_of(x)) for rows in (train, test))
    several = isinstance(x, tuple)
    parts = (first if several else first[0], y[train], second if several else second[0], y[test])
    return RawData(name, *parts, layout, levels, numbers=(train, test))


def strata(y: Array) -> Array:
    """What a split keeps the shares of: classes (n,) where targets are integers, one an example; else one class."""
    one = y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)
    return y.reshape(-1) if one and y.dtype.kind in "bui" else np.zeros(len(y), np.int64)


def blocks(x: Raw) -> Iterator[tuple[int, Array]]:
    """Views of consecutive examples of `x`, each with the index of its first."""
    rows = max(1, BLOCK * len(x) // x.size)
    for start in range(0, len(x), rows):
        yield start, np.asarray(x[start : start + rows])
