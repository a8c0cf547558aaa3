"""Real examples for certificates: named batches of a data set."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from mnx.data.dataset import Dataset
from mnx.graphs.probes import Probe

TRAINING = "training"
VALIDATION = "validation"


def real(data: Dataset, seed: int, count: int) -> dict[str, Probe]:
    """At most `count` examples of the training part and of the validation part, (n, *input), drawn with the seed."""
    found = {}
    for name, x in ((TRAINING, data.x_train), (VALIDATION, data.x_validation)):
        random = np.random.default_rng((seed, crc32(name.encode())))
        chosen = np.sort(random.permutation(len(x))[:count])
        made = f"{len(chosen)} of {len(x)} {name} examples of {data.name} ({data.fingerprint}), drawn with seed {seed}"
        found[name] = Probe(x[chosen], made)
    return found
