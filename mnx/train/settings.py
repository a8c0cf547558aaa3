"""What an engine must know of a training step beside the network, and the error of a step that went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mnx.errors import MnxError

WEIGHT = "weight/"
"""What stands before a parameter's or statistic's name in an engine's state."""
MOMENTUM = "momentum/"
"""What stands before a parameter's name where an engine's state holds its momentum, or AdamW's first moment."""
SQUARE = "square/"
"""Likewise before AdamW's second moment."""
AVERAGE = "average/"
"""Likewise before a moving average of weights and statistics."""
STEP: Final = "step"
"""The name of the number of steps done in an engine's state."""


class Diverged(MnxError):
    """A training has gone where there are no finite numbers."""

    def __init__(self, model: str, what: str, stage: str = "") -> None:
        again = f" (mnx train --force --set {stage}.lr=...)" if stage in ("mothers", "members") else ""
        super().__init__(
            f"training {model} diverged: {what}; lower the learning rate{again}, clip gradients, or look for examples "
            "that are not finite"
        )
        self.model, self.what = model, what

    def at(self, stage: str, epoch: int, batch: int, batches: int) -> Diverged:
        """The same with the place in the run and in the data."""
        return Diverged(self.model, f"{self.what}, at batch {batch} of {batches} of epoch {epoch}", stage)


Outcome: TypeAlias = "tuple[float, float] | Diverged"
"""What a step gave: the mean loss and the sum of scores, or that the loss was not finite."""


@dataclass(frozen=True)
class StepSettings:
    """How a step turns examples into gradients, and gradients into new weights; the learning rate comes every step.

    Attributes:
        task: what is predicted, see `losses.TASKS`.
        loss: see `losses.LOSSES`.
        label_smoothing: the share of the target that is spread evenly over all classes, in [0, 1).
        class_weights: what the loss of each class is multiplied by, as torch's `weight`; empty for 1.
        temperature: that distillation divides logits by.
        distillation: the teacher's share of the loss.
        optimiser: 'sgd' or 'adamw', as torch's; only weights decay (`Kind.WEIGHT`, `Kind.TABLE`), never biases, scales
            and shifts.
        momentum: of the moving sum of gradients; AdamW's first beta.
        nesterov: look ahead by one step of momentum; SGD only.
        beta2: of AdamW's moving mean of squares.
        epsilon: that AdamW adds to its root.
        weight_decay: SGD adds so many times the weight to its gradient; AdamW multiplies the weight by 1 - lr * decay.
        clip_norm: the largest norm that the gradients together may have, before decay; None for any.
        average: the most by which a moving average keeps its old value, in [0, 1); 0 for none.
        accumulate: in so many parts is a batch taken, whose gradients add up to the step's.
        frozen_norm: normalise with the running statistics, which stay as they are.
        mixup: whether examples and their targets are mixed in pairs.

    Raises:
        MnxError: a number is out of its range.
    """

    task: str = "classes"
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()
    temperature: float = 4.0
    distillation: float = 0.9
    optimiser: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None
    average: float = 0.0
    accumulate: int = 1
    frozen_norm: bool = False
    mixup: bool = False

    def __post_init__(self) -> None:
        for name, (legal, words) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not legal(value):
                raise MnxError(f"{name} = {value}: give {words}")
        if self.nesterov and self.momentum == 0:
            raise MnxError("nesterov = true needs a momentum above 0")


OPTIMISERS = ("sgd", "adamw")

_SHARE: tuple[Callable[[Any], bool], str] = (lambda value: 0 <= value < 1, "a number in [0, 1)")

RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "label_smoothing": _SHARE,
    "class_weights": (
        lambda value: all(0 <= number < float("inf") for number in value) and (not value or max(value) > 0),
        "a finite number, 0 or more, for every class, not all 0",
    ),
    "temperature": (lambda value: 0 < value < float("inf"), "a finite number above 0"),
    "distillation": (lambda value: 0 <= value <= 1, "a number in [0, 1]"),
    "optimiser": (lambda value: value in OPTIMISERS, " or ".join(OPTIMISERS)),
    "momentum": _SHARE,
    "beta2": _SHARE,
    "epsilon": (lambda value: 1e-30 <= value < 1, "a number in [1e-30, 1)"),
    "weight_decay": (lambda value: 0 <= value < float("inf"), "a finite number, 0 or more"),
    "clip_norm": (lambda value: 0 < value < float("inf"), "a finite number above 0, or none"),
    "average": _SHARE,
    "accumulate": (lambda value: value >= 1, "a whole number, 1 or more"),
}
"""Legal values, and how to say so."""
