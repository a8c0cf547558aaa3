"""Columns that contract over a grown axis: the shares of one old column add up to it.

Random shares (LEMON, ICLR 2024): W'_j = R_j - (sum of R over the copies - W) / c with R drawn at the size of the
mother's row, at most that of a fresh initialisation (see `growing`). They sum to W exactly and break the symmetry of
the copies, which equal shares W / c would keep. A fresh column is zero; the shares of fresh ones that repeat one
another add up to zero.
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.growth.maps import GrowthMap, taken
from mnx.graphs.model import Array


def copied(growth: GrowthMap) -> GrowthMap:
    """The channels that share with others, those of one old channel together."""
    order = np.argsort(growth, kind="stable")
    _, which, counts = np.unique(growth[order], return_inverse=True, return_counts=True)
    return order[counts[which] > 1]


def shared(weight: Array, axis: int, growth: GrowthMap, draws: Array | None) -> Array:
    """Split the columns of `weight` along `axis` among their copies.

    Args:
        weight: float array, `axis` of the old width.
        axis: the axis that is summed over.
        growth: map of the grown axis, new -> old.
        draws: of the result's shape, but along `axis` for the `copied` channels alone, in their order; None for equal
            shares.
    """
    result = taken(weight, axis, growth)
    among = copied(growth)
    if not len(among):
        return result
    _, starts, counts = np.unique(growth[among], return_index=True, return_counts=True)
    columns = np.moveaxis(result, axis, 0)
    whole = columns[among[starts]].astype(np.float64)
    count = counts.reshape(-1, *[1] * (weight.ndim - 1))
    if draws is None:
        columns[among] = np.repeat(whole / count, counts, axis=0)
    else:
        own = np.moveaxis(draws, axis, 0).astype(np.float64)
        excess = (np.add.reduceat(own, starts, axis=0) - whole) / count
        own -= np.repeat(excess, counts, axis=0)
        columns[among] = own
    return result


def placed(weight: Array, axes: tuple[int, ...], sizes: tuple[int, ...], offsets: tuple[int, ...]) -> Array:
    """A small kernel inside a larger one of the given sizes along `axes`, zeros around."""
    shape = list(weight.shape)
    inside = [slice(None)] * weight.ndim
    for axis, size, offset in zip(axes, sizes, offsets, strict=True):
        inside[axis] = slice(offset, offset + weight.shape[axis])
        shape[axis] = size
    if tuple(shape) == weight.shape:
        return weight
    result = np.zeros(shape, dtype=weight.dtype)
    result[tuple(inside)] = weight
    return result
