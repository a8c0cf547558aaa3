"""Growth maps: for one grown axis, which old channel each new channel repeats, or that it is fresh.

Invariant of all growth: T'[.., j, ..] = T[.., g(j), ..] for every activation axis with map g, wherever g(j) < old.
Channels with g(j) >= old are fresh; those of one number repeat one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import numpy as np
import numpy.typing as npt

from mnx.graphs.model import Array
from mnx.graphs.ops.axes import Axis

GrowthMap = npt.NDArray[np.int64]


def random_of(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and the names alone, never on the order of execution."""
    return np.random.default_rng((seed, *(crc32(name.encode()) for name in names)))


def growth_map(old: int, new: int, random: np.random.Generator, fresh: float = 0.0) -> GrowthMap:
    """Every old channel once, in place, then fresh ones, then repeats in random order, as evenly as can be.

    Shape (new,). Values below `old` are repeats. Requires new >= old.

    Args:
        old: the old width; from 0 on, all channels are fresh and none repeats another.
        new: the new width.
        random: which channels come first among the repeats.
        fresh: the share of the further channels that are fresh. Fresh ones come in twos that repeat one another, so
            that their shares of a column can cancel without being zero.
    """
    if not old:
        return np.arange(new, dtype=np.int64)
    made = round(fresh * (new - old))
    rest = new - old - made
    repeats = [random.permutation(old) for _ in range(-(-rest // old))]
    return np.concatenate([np.arange(old), old + np.arange(made) // 2, np.concatenate([*repeats, []])[:rest]]).astype(
        np.int64
    )


def map_with_means(old: int, new: int, random: np.random.Generator) -> GrowthMap:
    """Every old channel as often as fits in, then fresh ones that are all alike: those at the mean. Shape (new,)."""
    times = new // old
    repeats = [np.arange(old), *(random.permutation(old) for _ in range(times - 1))]
    return np.concatenate([*repeats, np.full(new - times * old, old)]).astype(np.int64)


def reordering(width: int, random: np.random.Generator) -> GrowthMap:
    """The channels of a group in another order: a growth map that repeats none. Shape (width,)."""
    return random.permutation(width).astype(np.int64)


def axis_map(axis: Axis, maps: Mapping[int, GrowthMap], widths: Mapping[int, int]) -> GrowthMap:
    """The map of a whole axis, part by part, from the maps of its groups.

    Args:
        axis: the grown axis.
        maps: group -> map.
        widths: group -> old width.
    """
    pieces: list[GrowthMap] = []
    start = 0
    beside = sum(part.outer * part.inner * (1 if part.group is None else widths[part.group]) for part in axis)
    for part in axis:
        if part.group is None:
            map_, old = np.arange(1), 1
        else:
            map_, old = maps[part.group], widths[part.group]
        known = map_ < old
        made = int(map_.max(initial=old - 1)) + 1 - old
        block = np.arange(part.outer)[:, None, None]
        inner = np.arange(part.inner)
        repeats = start + (block * old + map_[None, :, None]) * part.inner + inner
        fresh = beside + (block * made + (map_ - old)[None, :, None]) * part.inner + inner
        pieces.append(np.where(known[None, :, None], repeats, fresh).reshape(-1))
        start += part.outer * old * part.inner
        beside += part.outer * made * part.inner
    return np.concatenate(pieces).astype(np.int64)


def is_same(growth: GrowthMap, old: int) -> bool:
    """Whether a map of an axis of width `old` leaves it as it is."""
    return len(growth) == old and bool((growth == np.arange(old)).all())


def run_length(growth: GrowthMap, old: int) -> int:
    """How many neighbours a map of an axis of width `old` moves together: every run begins at a multiple of it.

    Behind a Flatten these are the places of a channel. A map is read by runs as `growth[::n] // n`.
    """
    starts = np.flatnonzero(np.diff(growth, prepend=-2) != 1)
    return int(np.gcd.reduce([old, len(growth), *starts, *growth[starts]]))


def taken(value: Array, axis: int, growth: GrowthMap, fresh: Array | float = 0.0) -> Array:
    """A value along a grown axis: old entries repeated by the map; the value itself where the map changes nothing.

    Args:
        value: the old value.
        axis: the axis that grows.
        growth: its map.
        fresh: what fresh entries are: a number, or a value with an entry along `axis` for each number of a fresh
            channel, in order; those that repeat one another take the same.
    """
    old = value.shape[axis]
    if is_same(growth, old):
        return value
    known = growth < old
    if known.all():
        return np.take(value, growth, axis=axis)
    made = np.flatnonzero(~known)
    result = np.take(value, np.where(known, growth, 0), axis=axis) if old else _empty(value, axis, len(growth))
    inside: list[slice | GrowthMap] = [slice(None)] * value.ndim
    inside[axis] = made
    if isinstance(fresh, float):
        result[tuple(inside)] = fresh
    else:
        _, which = np.unique(growth[made], return_inverse=True)
        result[tuple(inside)] = np.take(fresh, which, axis=axis)
    return result


def _empty(value: Array, axis: int, width: int) -> Array:
    shape = list(value.shape)
    shape[axis] = width
    return np.zeros(shape, value.dtype)
