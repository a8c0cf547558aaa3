"""Columns that contract over a grown axis: the shares of one old column add up to it.

Random shares (LEMON, ICLR 2024): W'_j = R_j - (sum of R over the copies - W) / c with R drawn at the size of the
mother's row, at most that of a fresh initialisation (see `hatch`). They sum to W exactly and break the symmetry of the
copies, which equal shares W / c would keep.
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.growth.maps import GrowthMap
from mnx.graphs.model import Array


def shared(weight: Array, axis: int, growth: GrowthMap, fresh: Array | None) -> Array:
    """Split the columns of `weight` along `axis` among their copies.

    Args:
        weight: float array, `axis` of the old width.
        axis: the axis that is summed over.
        growth: map of the grown axis, new -> old.
        fresh: draws of the result's shape, or None for equal shares.
    """
    old = np.moveaxis(weight, axis, 0).astype(np.float64)
    counts = np.bincount(growth, minlength=old.shape[0])
    copies = counts[growth].reshape(-1, *[1] * (old.ndim - 1))
    if fresh is None:
        result = old[growth] / copies
    else:
        draws = np.moveaxis(fresh, axis, 0).astype(np.float64)
        sums = np.zeros(old.shape)
        np.add.at(sums, growth, draws)
        result = np.where(copies == 1, old[growth], draws - (sums[growth] - old[growth]) / copies)
    return np.moveaxis(result, 0, axis).astype(weight.dtype)


def placed(weight: Array, axes: tuple[int, ...], sizes: tuple[int, ...], offsets: tuple[int, ...]) -> Array:
    """A small kernel inside a larger one of the given sizes along `axes`, zeros around."""
    shape = list(weight.shape)
    inside = [slice(None)] * weight.ndim
    for axis, size, offset in zip(axes, sizes, offsets, strict=True):
        inside[axis] = slice(offset, offset + weight.shape[axis])
        shape[axis] = size
    result = np.zeros(shape, dtype=weight.dtype)
    result[tuple(inside)] = weight
    return result
