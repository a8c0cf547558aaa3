"""The draws that columns are shared by: how large they are, and the parts of a weight that they are drawn for."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import numpy as np

from mnx.graphs.model import Array
from mnx.graphs.mothers.carve import fan_in
from mnx.graphs.ops.rule import Role
from mnx.graphs.trees.structure import Op, Parameter

_BLOCK = 1 << 19
"""So many numbers are worked on at a time."""

_UNIT = np.float32(sqrt(12))
"""What brings uniform numbers from an interval of length 1 to variance 1."""


def draw_size(op: Op, parameter: Parameter, value: Array) -> Array:
    """The width of the interval of draws: their standard deviation is that of the mother's row.

    So shares that cancel do not drown it in rounding. The result has the rank of `value`, and size 1 on all axes but
    those of rows.

    Weight decay makes the rows before a normalisation far smaller than a fresh initialisation. Rows of nearly
    nothing get a thousandth of a fresh one's size, so that copies differ even there.
    """
    start = sqrt(2.0 / fan_in(op, parameter))
    rows = tuple(axis for axis, role in enumerate(parameter.roles) if role is not Role.PRODUCE)
    axis = next((axis for axis in range(2) if axis not in rows), 0)
    parts = [value[block] for block in blocks(value, 1 - axis)] if axis not in rows else [value]
    squares = [np.mean(np.square(part), axis=rows, keepdims=True, dtype=np.float64) for part in parts]
    size = np.sqrt(np.concatenate(squares, axis=axis))
    return _UNIT * np.asarray(np.clip(size, 1e-3 * start, start), dtype=np.float32)


def blocks(value: Array, axis: int) -> Iterator[tuple[slice, ...]]:
    """A value in parts that fit into a processor's cache, each whole along `axis`."""
    other = 1 if axis == 0 else 0
    if value.ndim < 2:
        yield (slice(None),)
        return
    step = max(1, _BLOCK * value.shape[other] // max(1, value.size))
    for start in range(0, value.shape[other], step):
        yield (slice(None),) * other + (slice(start, start + step),)


def matching(scale: Array, block: tuple[slice, ...]) -> tuple[slice, ...]:
    """The part of a scale that belongs to a block; it is whole along axes on which it does not depend."""
    return tuple(slice(None) if size == 1 else part for size, part in zip(scale.shape, block, strict=False))


def uniform(random: np.random.Generator, value: Array, axis: int, count: int, scale: Array) -> Array:
    """Uniform numbers, float32, between -scale / 2 and scale / 2, in the shape of `value` but `count` along `axis`."""
    shape = list(value.shape)
    shape[axis] = count
    draws = random.random(shape, dtype=np.float32)
    draws -= np.float32(0.5)
    draws *= scale
    return draws
