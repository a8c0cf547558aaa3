"""Scores of a classifier and of an ensemble, from probabilities (n, classes) and classes (n,)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mnx.graphs.model import Array

BINS = 15
"""Bins of the expected calibration error (Guo et al. 2017)."""


@dataclass(frozen=True)
class Scores:
    """Accuracy in [0, 1], mean negative log-likelihood in nats, expected calibration error in [0, 1]."""

    accuracy: float
    nll: float
    ece: float


def softmax(logits: Array) -> Array:
    """Probabilities (n, classes) in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def scores(probabilities: Array, y: Array) -> Scores:
    """The scores of one classifier."""
    likelihood = probabilities[np.arange(len(y)), y]
    nll = float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean())
    return Scores(float((probabilities.argmax(axis=1) == y).mean()), nll, calibration_error(probabilities, y))


def calibration_error(probabilities: Array, y: Array) -> float:
    """Mean gap between confidence and accuracy over `BINS` bins of equal width, weighted by their examples."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == y
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).sum() for b in np.unique(bins)]
    return float(sum(gaps) / len(y))


def disagreement(members: Sequence[Array]) -> float:
    """Mean share of examples on which two members predict different classes; 0 for a single one."""
    predicted = [member.argmax(axis=1) for member in members]
    pairs = [float((a != b).mean()) for a, b in combinations(predicted, 2)]
    return sum(pairs) / len(pairs) if pairs else 0.0


def oracle_accuracy(members: Sequence[Array], y: Array) -> float:
    """Share of examples that at least one member gets right."""
    return float(np.any([member.argmax(axis=1) == y for member in members], axis=0).mean())
