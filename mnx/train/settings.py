"""What an engine must know of a training step beside the network, and the error of a step that went wrong."""

from __future__ import annotations

from dataclasses import dataclass

from mnx.errors import MnxError

MOMENTUM = "momentum/"
"""What stands before a parameter's name where an engine's state holds its momentum."""


class Diverged(MnxError):
    """The loss of a step is not a finite number."""

    def __init__(self, model: str, step: int, loss: float) -> None:
        super().__init__(
            f"training {model} diverged: the loss of step {step} is {loss}; lower the learning rate, clip gradients, "
            "or look for examples that are not finite"
        )
        self.step = step


@dataclass(frozen=True)
class StepSettings:
    """How a step turns gradients into new weights; the learning rate comes with every step.

    The update is that of torch.optim.SGD with dampening 0 behind torch.nn.utils.clip_grad_norm_, except that only
    weights decay (`Kind.WEIGHT`), never biases, scales and shifts.

    Attributes:
        momentum: of the moving sum of gradients, in [0, 1).
        nesterov: look ahead by one step of momentum.
        weight_decay: times the weight is added to its gradient.
        clip_norm: the largest norm that the gradients together may have, before decay; None for any.
        label_smoothing: the share of the target that is spread evenly over all classes, in [0, 1).

    Raises:
        MnxError: a number is out of its range.
    """

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    clip_norm: float | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("momentum", "label_smoothing"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise MnxError(f"{name} = {value}: give a number in [0, 1)")
        if not 0 <= self.weight_decay < float("inf"):
            raise MnxError(f"weight_decay = {self.weight_decay}: give a finite number, 0 or more")
        if self.clip_norm is not None and not 0 < self.clip_norm < float("inf"):
            raise MnxError(f"clip_norm = {self.clip_norm}: give a finite number above 0, or none")
        if self.nesterov and self.momentum == 0:
            raise MnxError("nesterov = true needs a momentum above 0")
