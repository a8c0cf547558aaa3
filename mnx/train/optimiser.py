"""The optimiser as nodes of the step graph: SGD and AdamW with clipping, averages and accumulation, as torch does them.

g <- sum of the gradients of a batch's parts, each divided by their number    only with accumulation
g <- g min(1, clip / (|g| + 1e-6))      |g| over all parameters; only with clipping

SGD:    g <- g + decay w                weights only
        b' = momentum b + g
        w' = w - lr (g + momentum b')   Nesterov
        w' = w - lr b'                  otherwise
AdamW:  m' = beta m + (1 - beta) g      (Loshchilov and Hutter 2019)
        v' = beta2 v + (1 - beta2) g^2
        w' = w (1 - lr decay) - lr / (1 - beta^t) m' / (sqrt(v') / sqrt(1 - beta2^t) + epsilon)

a' = k a + (1 - k) w'                   the moving average, of statistics too; k = min(average, (1 + t) / (10 + t))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mnx.graphs.builder import Builder
from mnx.graphs.model import Array
from mnx.graphs.ops.rule import Kind
from mnx.train.settings import AVERAGE, MOMENTUM, SQUARE, StepSettings

LR = "mnx:lr"
"""The input that takes the learning rate, a float32 scalar."""
PACE = "mnx:pace"
"""AdamW's: the input that takes lr / (1 - beta^t), a float32 scalar."""
ROOT = "mnx:root"
"""AdamW's: the input that takes sqrt(1 - beta2^t), a float32 scalar."""
KEEP = "mnx:keep"
"""The input that takes the share of its old value that the moving average keeps, a float32 scalar."""
LAST = "mnx:last"
"""The input that says whether this is the last part of a batch, a bool scalar; only with accumulation."""

DECAYING = frozenset({Kind.WEIGHT, Kind.TABLE})
"""The kinds of parameters that decay."""

_NORM_GUARD = 1e-6
"""What torch adds to the norm before it divides."""


def input_of(part: str, name: str) -> str:
    """The input that takes a part of a parameter's training state: `MOMENTUM`, `SQUARE` or `AVERAGE`."""
    return f"mnx:{part}{name}"


def sum_of(name: str) -> str:
    """The input that takes the sum of a parameter's gradients over the parts of a batch so far."""
    return f"mnx:sum/{name}"


def new(value: str) -> str:
    """The output that holds the new number of an input."""
    return f"{value}:new"


def parts_of(settings: StepSettings, kind: Kind) -> tuple[str, ...]:
    """What the training state holds of a parameter or statistic beside itself."""
    parts: tuple[str, ...] = ()
    if kind.trained:
        parts = (MOMENTUM, SQUARE) if settings.optimiser == "adamw" else (MOMENTUM,) if settings.momentum else ()
    return (*parts, AVERAGE) if settings.average else parts


def rates(settings: StepSettings, lr: float, step: int) -> dict[str, Array]:
    """What the graph takes of the host for step `step`, counted from 0."""
    found = {LR: lr}
    if settings.optimiser == "adamw":
        found[PACE] = lr / (1 - settings.momentum ** (step + 1))
        found[ROOT] = float(np.sqrt(1 - settings.beta2 ** (step + 1)))
    if settings.average:
        found[KEEP] = min(settings.average, (1 + step) / (10 + step))
    return {name: np.array(value, np.float32) for name, value in found.items()}


@dataclass
class _Update:
    """What is built: nodes, settings, constants that parameters share."""

    builder: Builder
    settings: StepSettings

    def number(self, name: str, value: float) -> str:
        """A constant, once."""
        key = f"mnx:{name}"
        if key not in self.builder.weights:
            self.builder.weight(name, np.array(value, np.float32))
        return key

    def made(self, old: str) -> str:
        """The value that holds the new number of an input: at once, or behind the last part of a batch."""
        return new(old) if self.settings.accumulate == 1 else f"{old}:made"

    def kept(self, value: str, gained: str, share: str, rest: str, output: str) -> str:
        """share * value + rest * gained."""
        kept, more = self.builder.add("Mul", value, share), self.builder.add("Mul", gained, rest)
        return self.builder.add("Add", kept, more, outputs=[output])


def optimiser(
    gradients: Mapping[str, str],
    kinds: Mapping[str, Kind],
    statistics: Mapping[str, str],
    settings: StepSettings,
) -> Builder:
    """The update of every parameter, as nodes and constants.

    Reads the parameters, their gradients, the inputs that `rates` names, and `input_of` every part of their state;
    makes `new` of each. With accumulation only the last part of a batch changes anything but the sums of gradients.

    Args:
        gradients: the value that holds a parameter's gradient, by parameter name.
        kinds: what each parameter and statistic is.
        statistics: the value that holds the new number of a statistic, by its name.
        settings: of the step.
    """
    update = _Update(Builder("mnx:"), settings)
    if settings.accumulate > 1:
        gradients = {name: _summed(update, name, gradient) for name, gradient in gradients.items()}
    if settings.clip_norm:
        share = _clip_share(update, list(gradients.values()), settings.clip_norm)
        gradients = {name: update.builder.add("Mul", gradient, share) for name, gradient in gradients.items()}
    step = _adamw if settings.optimiser == "adamw" else _sgd
    made: list[str] = []
    for name, gradient in gradients.items():
        made += step(update, name, gradient, bool(settings.weight_decay) and kinds[name] in DECAYING)
    if settings.average:
        rest = update.builder.add("Sub", update.number("one", 1), KEEP)
        for name in kinds:
            average, fresh = input_of(AVERAGE, name), update.made(name) if name in made else statistics[name]
            made.append(average)
            update.kept(average, fresh, KEEP, rest, update.made(average))
    for old in made if settings.accumulate > 1 else ():
        update.builder.add("Where", LAST, update.made(old), old, outputs=[new(old)])
    return update.builder


def _summed(update: _Update, name: str, gradient: str) -> str:
    """The sum of gradients with this part's; it goes on from zero behind the last part."""
    share = update.number("part", 1 / update.settings.accumulate)
    total = update.builder.add("Add", sum_of(name), update.builder.add("Mul", gradient, share))
    empty = update.builder.add("Mul", total, update.number("zero", 0))
    update.builder.add("Where", LAST, empty, total, outputs=[new(sum_of(name))])
    return total


def _sgd(update: _Update, name: str, gradient: str, decays: bool) -> list[str]:
    builder, settings = update.builder, update.settings
    if decays:
        gradient = builder.add("Add", gradient, builder.add("Mul", name, update.number("decay", settings.weight_decay)))
    made, move = [name], gradient
    if settings.momentum:
        momentum, share = input_of(MOMENTUM, name), update.number("momentum", settings.momentum)
        made.append(momentum)
        kept = builder.add("Mul", momentum, share)
        move = builder.add("Add", kept, gradient, outputs=[update.made(momentum)])
        if settings.nesterov:
            move = builder.add("Add", gradient, builder.add("Mul", move, share))
    builder.add("Sub", name, builder.add("Mul", move, LR), outputs=[update.made(name)])
    return made


def _adamw(update: _Update, name: str, gradient: str, decays: bool) -> list[str]:
    builder, settings = update.builder, update.settings
    first, second = input_of(MOMENTUM, name), input_of(SQUARE, name)
    share, rest = update.number("beta1", settings.momentum), update.number("rest1", 1 - settings.momentum)
    mean = update.kept(first, gradient, share, rest, update.made(first))
    share, rest = update.number("beta2", settings.beta2), update.number("rest2", 1 - settings.beta2)
    square = update.kept(second, builder.add("Mul", gradient, gradient), share, rest, update.made(second))
    root = builder.add("Div", builder.add("Sqrt", square), ROOT)
    guarded = builder.add("Add", root, update.number("epsilon", settings.epsilon))
    move = builder.add("Mul", builder.add("Div", mean, guarded), PACE)
    kept = name
    if decays:
        lost = builder.add("Mul", LR, update.number("decay", settings.weight_decay))
        kept = builder.add("Mul", name, builder.add("Sub", update.number("one", 1), lost))
    builder.add("Sub", kept, move, outputs=[update.made(name)])
    return [first, second, name]


def _clip_share(update: _Update, gradients: list[str], clip_norm: float) -> str:
    builder = update.builder
    squares = [builder.add("ReduceSumSquare", gradient, keepdims=0) for gradient in gradients]
    norm = builder.add("Sqrt", builder.add("Sum", *squares))
    guarded = builder.add("Add", norm, update.number("norm_guard", _NORM_GUARD))
    share = builder.add("Div", update.number("clip_norm", clip_norm), guarded)
    return builder.add("Min", share, update.number("whole", 1))
