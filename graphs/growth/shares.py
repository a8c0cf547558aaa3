"""Columns that contract over a grown axis: the shares of one old column add up to it.

Random shares (LEMON, ICLR 2024): W'_j = R_j - (sum of R over the copies - W) / c with R drawn at the size of the
mother's row, at most that of a fresh initialisation (see `growing`). They sum to W exactly and break the symmetry of
the copies, which equal shares W / c would keep. A fresh column is zero; the shares of fresh ones that repeat one
another add up to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnx.graphs.growth.maps import GrowthMap, taken
from mnx.graphs.model import Array


@dataclass(frozen=True)
class _Copies:
    """Channels that share an old one, so many each: shape (copies, old channels)."""

    channels: GrowthMap

    @property
    def count(self) -> int:
        """How many copies each old channel has."""
        return len(self.channels)


def _sharing(growth: GrowthMap) -> list[_Copies]:
    """The channels that share with others, those of equally many copies together."""
    order = np.argsort(growth, kind="stable")
    _, starts, counts = np.unique(growth[order], return_index=True, return_counts=True)
    return [
        _Copies(order[starts[counts == count][None, :] + np.arange(count)[:, None]])
        for count in np.unique(counts)
        if count > 1
    ]


def copied(growth: GrowthMap) -> GrowthMap:
    """The channels that share with others: first copies, then second ones, and so on, for every number of copies."""
    return np.concatenate([copies.channels.reshape(-1) for copies in _sharing(growth)] or [np.arange(0)])


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
    start = 0
    for copies in _sharing(growth):
        first, *others = copies.channels
        whole, size = taken(weight, axis, growth[first]), len(first)
        if draws is None:
            shares = [whole / weight.dtype.type(copies.count)] * len(others)
        else:
            places = range(start, start + copies.count * size, size)
            own = [draws[_along(draws.ndim, axis, slice(place, place + size))] for place in places]
            excess = sum(own[1:], own[0]) - whole
            excess /= weight.dtype.type(copies.count)
            shares = [one - excess for one in own[1:]]
            start += copies.count * size
        for channels, share in zip(others, shares, strict=True):
            result[_along(result.ndim, axis, channels)] = share
            whole = whole - share
        result[_along(result.ndim, axis, first)] = whole
    return result


def _along(rank: int, axis: int, where: slice | GrowthMap) -> tuple[slice | GrowthMap, ...]:
    return tuple(where if place == axis else slice(None) for place in range(rank))


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
