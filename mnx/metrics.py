"""Scores of predictions, for every task.

task            predictions (n, width)      targets                     scores, the first the one that decides
classes         softmax: probabilities      classes (n,)                accuracy, NLL, ECE
distribution    softmax: probabilities      shares of classes (n, C)    the same: the largest share is the class
binary          sigmoid: probability        0 or 1 (n,)                 accuracy, NLL, average precision
labels          sigmoid: probabilities      0 or 1 (n, C)               the same, over all labels
numbers         as they are                 numbers (n, k)              R2, RMSE, MAE
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np

from mnx.graphs.interface import PLAIN, SIGMOID, SOFTMAX
from mnx.graphs.model import Array

BINS = 15
"""Bins of the expected calibration error (Guo et al. 2017)."""

ACTIVATIONS: Mapping[str, str] = {
    "classes": SOFTMAX,
    "distribution": SOFTMAX,
    "binary": SIGMOID,
    "labels": SIGMOID,
    "numbers": PLAIN,
}
"""Task -> what makes predictions of a network's outputs."""


@dataclass(frozen=True)
class ClassScores:
    """Accuracy in [0, 1], mean negative log-likelihood in nats, expected calibration error in [0, 1]."""

    accuracy: float
    nll: float
    ece: float


@dataclass(frozen=True)
class LabelScores:
    """Accuracy over all labels, mean negative log-likelihood of one in nats, mean average precision of the labels."""

    accuracy: float
    nll: float
    average_precision: float


@dataclass(frozen=True)
class NumberScores:
    """R2, the share of variance explained (mean over outputs); root mean squared error; mean absolute error."""

    r2: float
    rmse: float
    mae: float


Scores: TypeAlias = ClassScores | LabelScores | NumberScores


HEADLINES: Mapping[str, str] = {task: "r2" if task == "numbers" else "accuracy" for task in ACTIVATIONS}
"""Task -> the name of the score that decides; higher is better."""


def headline(found: Scores) -> tuple[str, float]:
    """The name and value of the score that decides; higher is better."""
    return ("r2", found.r2) if isinstance(found, NumberScores) else ("accuracy", found.accuracy)


def softmax(logits: Array) -> Array:
    """Probabilities (n, classes) in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def sigmoid(logits: Array) -> Array:
    """Probabilities of yes, in float64, of logits of any size."""
    small = np.exp(-np.abs(logits.astype(np.float64)))
    return np.asarray(np.where(logits >= 0, 1, small) / (1 + small))


def predictions(task: str, outputs: Array) -> Array:
    """What a network's outputs (n, width) say, in float64."""
    if ACTIVATIONS[task] == PLAIN:
        return outputs.astype(np.float64)
    return softmax(outputs) if ACTIVATIONS[task] == SOFTMAX else sigmoid(outputs)


def scores(predicted: Array, y: Array, task: str = "classes") -> Scores:
    """The scores of one network, or of an ensemble, from what it says (see `predictions`) and the targets."""
    if task == "numbers":
        wrong = predicted - y
        return NumberScores(explained(predicted, y), float(np.sqrt((wrong**2).mean())), float(np.abs(wrong).mean()))
    right = float(_right(task, predicted, y).mean())
    if ACTIVATIONS[task] == SOFTMAX:
        shares = y if y.ndim > 1 else np.eye(predicted.shape[1])[y]
        nll = -float((shares * _log(predicted)).sum(axis=1).mean())
        return ClassScores(right, nll, calibration_error(predicted, _labels(y)))
    said = _rows(y)
    nll = -float((said * _log(predicted) + (1 - said) * _log(1 - predicted)).mean())
    return LabelScores(right, nll, average_precision(predicted, said))


def mean_square(task: str, y: Array) -> float | None:
    """How far numbers lie from their mean, squared, mean over all; None of other targets, or of numbers all alike."""
    return (float(np.var(y, axis=0, dtype=np.float64).mean()) or None) if task == "numbers" else None


def training_score(mean: float, spread: float | None) -> float:
    """The score of training steps, of the mean of what a step gives: accuracy, or the share of `mean_square` explained.

    Args:
        mean: over examples, of `mnx.train.losses.SCORE`.
        spread: `mean_square` of the training targets.
    """
    return mean if spread is None else 1 - mean / spread


def validation_score(task: str, outputs: Array, y: Array) -> tuple[float, float]:
    """The score that decides (accuracy, or R2 of numbers), and the mean loss, of raw outputs (n, width)."""
    if task == "numbers":
        return explained(outputs, y), float(((outputs.astype(np.float64) - y) ** 2).mean())
    score = float(_right(task, predictions(task, outputs), y).mean())
    logits = outputs.astype(np.float64)
    if ACTIVATIONS[task] == SIGMOID:
        return score, float((np.logaddexp(0, logits) - _rows(y) * logits).mean())
    shifted = logits - logits.max(axis=1, keepdims=True)
    likelihood = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    each = likelihood[np.arange(len(y)), y] if y.ndim == 1 else (y * likelihood).sum(axis=1)
    return score, -float(each.mean())


def calibration_error(probabilities: Array, y: Array) -> float:
    """Mean gap between confidence and accuracy over `BINS` bins of equal width, weighted by their examples."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == y
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).sum() for b in np.unique(bins)]
    return float(sum(gaps) / len(y))


def average_precision(probabilities: Array, y: Array) -> float:
    """Mean over labels of the sum of precision times gain in recall, from the surest yes down; equal ones count as one.

    Labels that no example has are left out; 0 where that leaves none.

    Args:
        probabilities: of yes, (n, labels).
        y: 0 or 1, likewise.
    """
    found = []
    for share, said in zip(probabilities.T, y.T, strict=True):
        if not said.any():
            continue
        order = np.argsort(-share, kind="stable")
        hits = np.cumsum(said[order])
        last = np.flatnonzero(np.append(np.diff(share[order]) != 0, True))
        gains = np.diff(hits[last], prepend=0) / hits[-1]
        found.append(float((gains * hits[last] / (last + 1)).sum()))
    return float(np.mean(found)) if found else 0.0


def explained(predicted: Array, y: Array) -> float:
    """R2: mean over outputs of 1 - squared error / variance. Outputs that never change are left out; 0 of only such."""
    left = ((y.astype(np.float64) - predicted) ** 2).sum(axis=0)
    whole = ((y - y.mean(axis=0, dtype=np.float64)) ** 2).sum(axis=0)
    varying = whole > 0
    return float((1 - left[varying] / whole[varying]).mean()) if varying.any() else 0.0


def disagreement(members: Sequence[Array], task: str = "classes") -> float:
    """Mean share of examples, or of their labels, that two members decide differently; 0 for a single one.

    Of numbers it is the root mean squared difference of two members, mean over pairs.
    """
    if task == "numbers":
        pairs = [float(np.sqrt(((a - b) ** 2).mean())) for a, b in combinations(members, 2)]
    else:
        decided = [_decided(task, member) for member in members]
        pairs = [float((a != b).mean()) for a, b in combinations(decided, 2)]
    return sum(pairs) / len(pairs) if pairs else 0.0


def oracle_accuracy(members: Sequence[Array], y: Array, task: str = "classes") -> float | None:
    """Share of examples, or of their labels, that at least one member gets right; None of numbers."""
    if task == "numbers":
        return None
    return float(np.any([_right(task, member, y) for member in members], axis=0).mean())


def _decided(task: str, predicted: Array) -> Array:
    """The class, or yes or no to each label."""
    return predicted.argmax(axis=1) if ACTIVATIONS[task] == SOFTMAX else predicted > 0.5


def _right(task: str, predicted: Array, y: Array) -> Array:
    wanted = _labels(y) if ACTIVATIONS[task] == SOFTMAX else _rows(y) > 0.5
    return np.asarray(_decided(task, predicted) == wanted)


def _labels(y: Array) -> Array:
    """Classes (n,) of classes or of shares of them."""
    return y if y.ndim == 1 else np.asarray(y.argmax(axis=1))


def _rows(y: Array) -> Array:
    """Labels (n, width)."""
    return y if y.ndim == 2 else y[:, None]


def _log(share: Array) -> Array:
    return np.asarray(np.log(np.maximum(share, np.finfo(np.float64).tiny)))
