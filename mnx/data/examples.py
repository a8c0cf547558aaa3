"""The named batches that certificates are measured on: those of any model, and real ones where there are data."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from mnx.data.dataset import Dataset
from mnx.graphs.model import Model
from mnx.graphs.probes import EXAMPLES, EXTREME, RANDOM, Probe, probes

TRAINING = "training"
VALIDATION = "validation"


def named_batches(model: Model, data: Dataset | None, seed: int, real: int, random: int = EXAMPLES) -> dict[str, Probe]:
    """Random and extreme inputs for a model; between them, where there are data, real ones of two parts of them.

    Args:
        model: a canonical model; arrays are as its body takes them, (n, *input shape).
        data: a data set that fits it.
        seed: of all that is drawn.
        real: at most so many examples of either part.
        random: so many random examples.
    """
    found = probes(model, seed, random)
    parts = {TRAINING: data.train, VALIDATION: data.validation} if data is not None else {}
    drawn = {}
    for name, part in parts.items():
        chosen = np.sort(np.random.default_rng((seed, crc32(name.encode()))).permutation(len(part))[:real])
        source = f"{data.name} ({data.fingerprint})" if data is not None else ""
        made = f"{len(chosen)} of {len(part)} {name} examples of {source}, drawn with seed {seed}"
        drawn[name] = Probe(part.x(chosen), made)
    return {RANDOM: found[RANDOM], **drawn, EXTREME: found[EXTREME]}
