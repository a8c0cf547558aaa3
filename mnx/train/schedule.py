"""The one stopping rule: constant learning rate until validation accuracy is flat, then down to zero, then stop.

State is what the history of epochs says and nothing else, so that a resumed run decides as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnx.train.recipe import Recipe


@dataclass(frozen=True)
class Phase:
    """Where a network stands before its next epoch: the rate at its first and after its last step, or done."""

    first: float
    last: float
    done: bool = False

    def lr(self, step: int, steps: int) -> float:
        """The learning rate of step `step` of an epoch of `steps`."""
        return self.first + (self.last - self.first) * step / steps


def flat_since(accuracies: Sequence[float]) -> int:
    """Epochs since the best accuracy was first reached."""
    return len(accuracies) - 1 - accuracies.index(max(accuracies)) if accuracies else 0


def next_phase(recipe: Recipe, accuracies: Sequence[float], fresh: bool, anneal: bool) -> Phase:
    """What to do after epochs with these validation accuracies.

    Args:
        recipe: gives rates and lengths.
        accuracies: validation accuracy after each epoch so far.
        fresh: whether the network began with freshly drawn weights: its rate rises first, and it has a time of grace.
        anneal: whether the rate falls at the end (all but mothers).
    """
    epoch = len(accuracies)
    length = recipe.anneal if anneal else 0
    patience = recipe.patience if anneal else recipe.mother_patience
    rise, grace = (recipe.warmup, max(recipe.warmup, recipe.grace)) if fresh else (0, 0)
    start = constant_length(recipe, accuracies, recipe.epochs - length, patience, grace)
    if start is not None and epoch >= start:
        into = epoch - start
        if into >= length:
            return Phase(0.0, 0.0, done=True)
        return Phase(recipe.lr * (1 - into / length), recipe.lr * (1 - (into + 1) / length))
    if epoch < rise:
        return Phase(recipe.lr * (epoch / rise), recipe.lr * ((epoch + 1) / rise))
    return Phase(recipe.lr, recipe.lr)


def constant_length(recipe: Recipe, accuracies: Sequence[float], most: int, patience: int, grace: int) -> int | None:
    """After how many epochs the constant phase ended, None while it goes on. The first `grace` try no patience."""
    for epoch in range(1, len(accuracies) + 1):
        flat = min(flat_since(accuracies[:epoch]), epoch - grace)
        if epoch >= most or flat >= max(patience, recipe.patience_share * epoch):
            return epoch
    return None
