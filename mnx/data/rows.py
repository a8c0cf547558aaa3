"""Some examples of an array that stays where it is, in a file: what data larger than memory are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from mnx.graphs.model import Array, Shape


@dataclass(frozen=True, eq=False)
class Rows:
    """The chosen examples of an array (n, ...), read when they are asked for.

    It answers as an array would: `len`, `shape`, `dtype`, `size`, and indices or slices of examples, which give arrays
    in memory. `numpy.asarray` reads all of them.
    """

    array: Array
    chosen: Array

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.chosen)

    @property
    def shape(self) -> Shape:
        """Of all chosen examples together."""
        return (len(self.chosen), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's own."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """The number of axes, examples included."""
        return self.array.ndim

    @property
    def size(self) -> int:
        """The number of numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all chosen examples."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, examples: Array | slice) -> Array:
        """These of the chosen examples, by index or slice; the file is read in its own order."""
        wanted = self.chosen[examples]
        if (wanted[1:] >= wanted[:-1]).all():
            return np.asarray(self.array[wanted])
        order = np.argsort(wanted, kind="stable")
        found = np.empty((len(wanted), *self.array.shape[1:]), self.dtype)
        found[order] = self.array[wanted[order]]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """All of them, in memory."""
        return self[:].astype(dtype or self.dtype, copy=False)


Raw: TypeAlias = "Array | Rows"
"""Examples as they were read, in memory or in a file."""


def taken(x: Raw, chosen: Array) -> Raw:
    """Some examples of an array: a copy of what is in memory, a view of what is in a file."""
    if isinstance(x, Rows):
        return Rows(x.array, x.chosen[chosen])
    return Rows(x, chosen) if isinstance(x, np.memmap) else x[chosen]
