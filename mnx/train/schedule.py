"""Learning rates as functions of the step, and the stopping rule.

State is what the history of epochs says and nothing else, so that a resumed run decides as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mnx.train.recipe import CYCLIC, Recipe


@dataclass(frozen=True)
class Phase:
    """Where a network stands before its next epoch: the rate at its first and after its last step, or done.

    `curve` gives the rate at a share of the epoch; without one it is a line.
    """

    first: float
    last: float
    done: bool = False
    curve: Callable[[float], float] | None = field(default=None, compare=False, repr=False)

    def lr(self, step: int, steps: int) -> float:
        """The learning rate of step `step` of an epoch of `steps`."""
        if self.curve is not None:
            return self.curve(step / steps)
        return self.first + (self.last - self.first) * step / steps


DONE = Phase(0.0, 0.0, done=True)


def flat_since(scores: Sequence[float]) -> int:
    """Epochs since the best score was first reached."""
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def next_phase(recipe: Recipe, scores: Sequence[float], most: int | None = None) -> Phase:
    """What to do after epochs with these scores.

    Args:
        recipe: of the network's stage.
        scores: the watched score after each epoch so far.
        most: the most epochs that budgets allow; None for `recipe.epochs`.
    """
    most = recipe.epochs if most is None else min(most, recipe.epochs)
    if recipe.schedule == "plateau":
        return _plateau(recipe, scores, most)
    epoch = len(scores)
    if epoch >= most:
        return DONE
    shape = SHAPES[recipe.schedule]

    def rate(share: float) -> float:
        at = epoch + share
        rising = min(1.0, at / recipe.warmup) if recipe.warmup and recipe.schedule != "one-cycle" else 1.0
        return recipe.lr * rising * shape(recipe, at, most)

    return Phase(rate(0), rate(1 - 1e-12), curve=rate)


def _plateau(recipe: Recipe, scores: Sequence[float], most: int) -> Phase:
    epoch, length = len(scores), min(recipe.anneal, most // 2)
    start = constant_length(recipe, scores, most - length)
    if start is not None and epoch >= start:
        into = epoch - start
        if into >= length:
            return DONE
        return Phase(recipe.lr * (1 - into / length), recipe.lr * (1 - (into + 1) / length))
    if epoch < recipe.warmup:
        return Phase(recipe.lr * (epoch / recipe.warmup), recipe.lr * min(1.0, (epoch + 1) / recipe.warmup))
    return Phase(recipe.lr, recipe.lr)


def constant_length(recipe: Recipe, scores: Sequence[float], most: int) -> int | None:
    """After how many epochs the constant phase ended, None while it goes on. Grace and warm-up try no patience."""
    grace = max(math.ceil(recipe.warmup), recipe.grace)
    for epoch in range(1, len(scores) + 1):
        flat = min(flat_since(scores[:epoch]), epoch - grace)
        if epoch >= most or flat >= max(recipe.patience, recipe.patience_share * epoch):
            return epoch
    return None


def cycle_ends(recipe: Recipe, most: int) -> list[int]:
    """After which epochs a cycle ends, for schedules that have cycles."""
    if recipe.schedule not in CYCLIC:
        return []
    start = round(recipe.settle * most) if recipe.schedule == "triangles" else 0
    return [epoch for epoch in range(start + 1, most + 1) if epoch == most or (epoch - start) % recipe.cycle == 0]


def _one_cycle(recipe: Recipe, at: float, total: float) -> float:
    top = recipe.peak * total
    return at / top if at < top else (total - at) / (total - top) if total > top else 1.0


def _triangles(recipe: Recipe, at: float, total: float) -> float:
    start = round(recipe.settle * total)
    if at < start:
        return 1.0
    return max(0.01, 1 - (at - start) / recipe.cycle % 1)


SHAPES: Mapping[str, Callable[[Recipe, float, float], float]] = {
    "plateau": lambda recipe, at, total: 1.0,
    "constant": lambda recipe, at, total: 1.0,
    "linear": lambda recipe, at, total: 1 - at / total,
    "cosine": lambda recipe, at, total: (1 + math.cos(math.pi * at / total)) / 2,
    "one-cycle": _one_cycle,
    "step": lambda recipe, at, total: recipe.gamma ** sum(at >= share * total for share in recipe.milestones),
    "cycles": lambda recipe, at, total: (1 + math.cos(math.pi * (at / recipe.cycle % 1))) / 2,
    "triangles": _triangles,
}
"""(recipe, epochs done, epochs in all) -> the rate as a share of the highest. 'plateau' also looks at scores.

cycles: cosines from the highest rate to 0, a snapshot at the end of each (Loshchilov and Hutter 2017; Huang et al.
2017). triangles: the highest rate for `settle` of the time, then lines from it down to a hundredth of it (in the
spirit of fast geometric ensembling, Garipov et al. 2018). one-cycle: a triangle (Smith 2018; Jordan 2024).
"""
