"""The same training in torch: a canonical model interpreted op by op, and torch.optim.SGD with its own clipping."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor
from torch_ops import apply

from mnx.graphs.model import Array, Model
from mnx.graphs.ops.rule import Kind
from mnx.graphs.parameters import parameters
from mnx.train.settings import StepSettings


class Twin:
    """A model, its parameters and its optimiser in torch.

    `decayed` says which kinds decay, so that a test can break the twin. `average` holds the moving average.
    """

    def __init__(
        self, model: Model, settings: StepSettings, lr: float, decayed: frozenset[Kind] = frozenset({Kind.WEIGHT})
    ) -> None:
        kinds = parameters(model)
        self.model, self.settings, self.steps = model, settings, 0
        self.values = {name: torch.tensor(np.array(array)) for name, array in model.weights.items()}
        self.trained = [name for name, kind in kinds.items() if kind.trained]
        self.average = {name: self.values[name].clone() for name in kinds}
        for name in self.trained:
            self.values[name].requires_grad_()
        groups = [
            {
                "params": [self.values[name] for name in self.trained if (kinds[name] in decayed) == decays],
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for decays in (True, False)
        ]
        groups = [group for group in groups if group["params"]]
        self.optimiser: torch.optim.Optimizer
        if settings.optimiser == "adamw":
            betas = (settings.momentum, settings.beta2)
            self.optimiser = torch.optim.AdamW(groups, lr=lr, betas=betas, eps=settings.epsilon)
        else:
            self.optimiser = torch.optim.SGD(groups, lr, momentum=settings.momentum, nesterov=settings.nesterov)

    def step(
        self,
        x: Array | tuple[Array, ...],
        y: Array,
        lr: float,
        masks: Mapping[str, Array] | None = None,
        teacher: Array | None = None,
        mix: tuple[Array, float] | None = None,
    ) -> tuple[float, float]:
        """One step as the engine does it; masks by the name of the Dropout node."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.zero_grad()
        parts, total, score = self.settings.accumulate, 0.0, 0.0
        for part in range(parts):
            chosen = slice(part * len(y) // parts, (part + 1) * len(y) // parts)
            given = tuple(torch.tensor(each[chosen]) for each in (x if isinstance(x, tuple) else (x,)))
            outputs = run(self.model, self.values, given, masks or {})
            targets = torch.tensor(y[chosen])
            loss = loss_of(outputs, targets, self.settings, teacher, mix)
            (loss / parts).backward()  # type: ignore[no-untyped-call]
            total, score = total + float(loss.detach()) / parts, score + score_of(outputs, targets, self.settings.task)
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([self.values[name] for name in self.trained], self.settings.clip_norm)
        self.optimiser.step()
        keep = min(self.settings.average, (1 + self.steps) / (10 + self.steps))
        for name, average in self.average.items():
            average.mul_(keep).add_(self.values[name].detach(), alpha=1 - keep)
        self.steps += 1
        return total, score

    def weights(self) -> dict[str, Array]:
        """Parameters and statistics by name, or their moving average."""
        values = self.average if self.settings.average else self.values
        return {name: values[name].detach().numpy().copy() for name in parameters(self.model)}


def loss_of(
    outputs: Tensor,
    targets: Tensor,
    settings: StepSettings,
    teacher: Array | None = None,
    mix: tuple[Array, float] | None = None,
) -> Tensor:
    """The loss by torch's own functions."""
    if mix is not None:
        other, share = torch.tensor(mix[0]), mix[1]
        plain = dataclasses.replace(settings, mixup=False)
        if settings.task == "numbers":  # squares of a mixture, not a mixture of squares
            return loss_of(outputs, share * targets + (1 - share) * other, plain)
        return share * loss_of(outputs, targets, plain) + (1 - share) * loss_of(outputs, other, plain)
    weights = torch.tensor(settings.class_weights) if settings.class_weights else None
    if settings.loss in ("cross-entropy", "distillation"):
        loss = functional.cross_entropy(outputs, targets, weights, label_smoothing=settings.label_smoothing)
        if teacher is None:
            return loss
        warm = settings.temperature
        ours = functional.log_softmax(outputs / warm, 1)
        theirs = functional.log_softmax(torch.tensor(teacher) / warm, 1)
        divergence = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        return (1 - settings.distillation) * loss + settings.distillation * warm**2 * divergence
    targets = targets.reshape(outputs.shape).float()
    if settings.loss == "binary":
        return functional.binary_cross_entropy_with_logits(outputs, targets, weights)
    return {"mse": functional.mse_loss, "mae": functional.l1_loss}[settings.loss](outputs, targets)


def score_of(outputs: Tensor, targets: Tensor, task: str) -> float:
    """What the engine adds up over a batch."""
    if task in ("classes", "distribution"):
        labels = targets if task == "classes" else targets.argmax(1)
        return float((outputs.argmax(1) == labels).sum())
    targets = targets.reshape(outputs.shape).float()
    each = (outputs - targets) ** 2 if task == "numbers" else ((outputs > 0) == (targets > 0.5)).float()
    return float(each.detach().mean(1).sum())


def run(model: Model, weights: Mapping[str, Tensor], x: Sequence[Tensor], masks: Mapping[str, Array]) -> Tensor:
    """The outputs in training mode; running statistics move in place."""
    values = {**weights, **{port.name: given for port, given in zip(model.inputs, x, strict=True)}}
    for node in model.nodes:
        made = apply(node, [values.get(name) for name in node.inputs], masks)
        outputs = made if isinstance(made, tuple) else (made,)
        values |= {name: value for name, value in zip(node.outputs, outputs, strict=False) if name}
    return values[model.outputs[0].name]
