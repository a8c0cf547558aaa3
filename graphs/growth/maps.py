"""Growth maps: for one grown axis, which old channel each new channel repeats.

Invariant of all growth: T'[.., j, ..] = T[.., g(j), ..] for every activation axis with map g.
"""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import numpy as np
import numpy.typing as npt

from mnx.graphs.ops.axes import Axis

GrowthMap = npt.NDArray[np.int64]


def random_of(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and the names alone, never on the order of execution."""
    return np.random.default_rng((seed, *(crc32(name.encode()) for name in names)))


def growth_map(old: int, new: int, random: np.random.Generator) -> GrowthMap:
    """Every old channel once, in place, then repeats in random order, as evenly as can be.

    Shape (new,), values in [0, old). Requires new >= old >= 1.
    """
    repeats = [random.permutation(old) for _ in range(-(-(new - old) // old))]
    return np.concatenate([np.arange(old), *repeats])[:new].astype(np.int64)


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
    pieces = []
    start = 0
    for part in axis:
        if part.group is None:
            inner, old = np.arange(1), 1
        else:
            inner, old = maps[part.group], widths[part.group]
        blocks = np.arange(part.outer)[:, None, None] * old + inner[None, :, None]
        pieces.append((start + blocks * part.inner + np.arange(part.inner)).reshape(-1))
        start += part.outer * old * part.inner
    return np.concatenate(pieces).astype(np.int64)
