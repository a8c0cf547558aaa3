"""Multilayer perceptrons as sample members."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mnx.graphs.builder import Builder
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Shape
from mnx.graphs.zoo import layers


def mlp(
    name: str,
    inputs: int | Shape,
    hidden: Sequence[int],
    classes: int,
    activation: str = "Relu",
    batch_norm: bool = False,
    seed: int = 0,
    hollow: bool = False,
) -> Model:
    """A network of linear layers, each but the last followed by (BatchNormalization and) the activation.

    Args:
        name: of the member; with the seed it decides the weights.
        inputs: the number of features, or the shape of an example, which is then flattened first.
        hidden: widths of the hidden layers.
        classes: the number of logits.
        activation: one of `layers.GAINS`, as ONNX spells it.
        batch_norm: normalise what arrives at every activation.
        seed: of the weights.
        hollow: make weights that take no memory, for planning.

    Raises:
        GraphError: the activation is unknown, a size is less than 1 or the seed is negative.
    """
    if activation not in layers.GAINS:
        raise GraphError(f"sample member {name!r}: no activation {activation!r}; there are {', '.join(layers.GAINS)}")
    shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
    if not shape or min(shape) < 1:
        raise GraphError(f"sample member {name!r}: input shape {shape} holds nothing; every size must be 1 or more")
    builder, fill = Builder(), layers.first_weights(name, seed, hollow)
    x = layers.INPUT
    if len(shape) > 1:
        x = builder.add("Flatten", x, name="flatten", axis=1)
    return layers.fully_connected(
        builder,
        fill,
        x,
        math.prod(shape),
        hidden,
        classes,
        name=name,
        input_shape=shape,
        batch_norm=batch_norm,
        op=activation,
    )
