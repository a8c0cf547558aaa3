"""The optimiser as nodes of the step graph: SGD with clipping, decay, momentum and Nesterov, as torch does it.

g <- g min(1, clip / (|g| + 1e-6))      |g| over all parameters; only with clipping
g <- g + decay w                        weights only
b' = momentum b + g
w' = w - lr (g + momentum b')           Nesterov
w' = w - lr b'                          otherwise
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mnx.graphs.builder import Builder
from mnx.graphs.ops.rule import Kind
from mnx.train.settings import StepSettings

LR = "mnx:lr"
"""The input that takes the learning rate, a float32 scalar."""

_NORM_GUARD = 1e-6
"""What torch adds to the norm before it divides."""


def momentum_of(parameter: str) -> str:
    """The input that takes a parameter's moving sum of gradients."""
    return f"mnx:momentum:{parameter}"


def new(value: str) -> str:
    """The output that holds the new number of an input."""
    return f"{value}:new"


def optimiser(gradients: Mapping[str, str], kinds: Mapping[str, Kind], settings: StepSettings) -> Builder:
    """The update of every parameter, as nodes and constants.

    Reads the parameters, their gradients, `LR` and (with momentum) `momentum_of` each parameter; makes `new` of each.

    Args:
        gradients: the value that holds a parameter's gradient, by parameter name.
        kinds: what each parameter is.
        settings: of the step.
    """
    builder = Builder("mnx:")
    shared = {
        "momentum": builder.weight("momentum", np.array(settings.momentum, np.float32)),
        "decay": builder.weight("decay", np.array(settings.weight_decay, np.float32)),
    }
    share = _clip_share(builder, list(gradients.values()), settings.clip_norm) if settings.clip_norm else ""
    for name, gradient in gradients.items():
        if share:
            gradient = builder.add("Mul", gradient, share)
        if settings.weight_decay and kinds[name] is Kind.WEIGHT:
            gradient = builder.add("Add", gradient, builder.add("Mul", name, shared["decay"]))
        move = gradient
        if settings.momentum:
            kept = builder.add("Mul", momentum_of(name), shared["momentum"])
            move = builder.add("Add", kept, gradient, outputs=[new(momentum_of(name))])
            if settings.nesterov:
                move = builder.add("Add", gradient, builder.add("Mul", move, shared["momentum"]))
        builder.add("Sub", name, builder.add("Mul", move, LR), outputs=[new(name)])
    return builder


def _clip_share(builder: Builder, gradients: list[str], clip_norm: float) -> str:
    squares = [builder.add("ReduceSumSquare", gradient, keepdims=0) for gradient in gradients]
    norm = builder.add("Sqrt", builder.add("Sum", *squares))
    guarded = builder.add("Add", norm, builder.weight("norm_guard", np.array(_NORM_GUARD, np.float32)))
    share = builder.add("Div", builder.weight("clip_norm", np.array(clip_norm, np.float32)), guarded)
    return builder.add("Min", share, builder.weight("whole", np.array(1, np.float32)))
