"""Batches that can be learnt, for inputs of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Port(Protocol):
    """An input: its shape without the batch, and for integers how many values there are."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def high(self) -> int | None: ...


def batches(inputs: Sequence[Port], classes: int, count: int, size: int) -> list[tuple[tuple[Array, ...], Array]]:
    """Batches of examples around the centre of their class; of ids, with words that the class likes."""
    random = np.random.default_rng(0)
    found = []
    centres = [
        random.standard_normal((classes, *port.shape), np.float32)
        if port.high is None
        else random.integers(0, port.high, (classes, *port.shape))
        for port in inputs
    ]
    for _ in range(count):
        y = random.integers(0, classes, size)
        x: list[Array] = []
        for port, centre in zip(inputs, centres, strict=True):
            if port.high is None:
                x.append(centre[y] + random.standard_normal((size, *port.shape), np.float32))
            elif port.high == 2:
                x.append(np.ones((size, *port.shape), np.int64))
            else:
                kept = random.random((size, *port.shape)) < 0.5
                x.append(np.where(kept, centre[y], random.integers(0, port.high, (size, *port.shape))))
        found.append((tuple(x), y))
    return found
