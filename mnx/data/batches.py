"""The order in which an epoch visits the examples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mnx.errors import MnxError
from mnx.graphs.model import Array


def batches(n: int, size: int, seed: int, epoch: int) -> Iterator[Array]:
    """Index arrays of shape (size,) that together visit `n` shuffled examples, the same for the same seed and epoch.

    An incomplete last batch is dropped, because BatchNormalization does badly on a handful of examples; only where
    all examples together are fewer than `size` do they form one smaller batch.

    Raises:
        MnxError: there are no examples, or the batch size is not positive.
    """
    if n < 1 or size < 1:
        raise MnxError(f"cannot draw batches of {size} from {n} examples; both must be at least 1")
    order = np.random.default_rng([seed, epoch]).permutation(n)
    size = min(size, n)
    return (order[start : start + size] for start in range(0, n - size + 1, size))
