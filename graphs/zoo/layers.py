"""Layers of the sample members, in the canonical dialect, and where their first weights come from.

Weights are Kaiming-normal over the fan-in, standard deviation sqrt(gain / fan-in); biases are 0; a BatchNormalization
starts as scale 1, shift 0, mean 0, variance 1. They depend on nothing but the seed and the member's name. A hollow
network holds one number per weight, repeated by stride 0, so that full-size networks can be planned without memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mnx.graphs.builder import Builder
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array, Model, Port, Shape

INPUT = "input"
LOGITS = "logits"

RELU_GAIN = 2.0
"""ReLU halves the variance of what passes; the weights give it back (He et al., 2015)."""

LINEAR_GAIN = 1.0
"""For what is the identity near 0."""

GAINS: Mapping[str, float] = {"Relu": RELU_GAIN, "LeakyRelu": RELU_GAIN, "Sigmoid": LINEAR_GAIN, "Tanh": LINEAR_GAIN}
"""The activations that a sample member may have, and the gain of the linear layer before each."""


@dataclass(frozen=True)
class Fill:
    """Makes first weights; without a generator they are hollow."""

    random: np.random.Generator | None

    def normal(self, shape: Shape, fan_in: int, gain: float = RELU_GAIN) -> Array:
        """Normal float32 numbers of mean 0 and variance gain / fan-in."""
        if self.random is None:
            return self.constant(shape, 0.0)
        return self.random.standard_normal(shape, np.float32) * np.float32((gain / fan_in) ** 0.5)

    def constant(self, shape: Shape, value: float) -> Array:
        """The one number everywhere, float32."""
        hollow: Array = np.broadcast_to(np.float32(value), shape)
        return hollow if self.random is None else hollow.copy()


def first_weights(name: str, seed: int, hollow: bool = False) -> Fill:
    """What member `name` draws its weights from.

    Raises:
        GraphError: the seed is negative.
    """
    if seed < 0:
        raise GraphError(f"sample member {name!r}: seed {seed} is negative; give 0 or more")
    return Fill(None if hollow else np.random.default_rng(np.random.SeedSequence([seed, *name.encode()])))


def conv(
    builder: Builder,
    fill: Fill,
    x: str,
    channels: int,
    filters: int,
    kernel: int,
    *,
    name: str,
    size: tuple[int, int],
    stride: int = 1,
    bias: bool = True,
) -> str:
    """A Conv with 'same' padding; without a bias where a BatchNormalization follows.

    Its fan-in counts the taps that can meet an image of `size`: of a 3x3 kernel on a single pixel only the middle one
    does, and counting all nine would lose the signal to a third in every such layer.

    Raises:
        GraphError: the kernel is even, so that it has no centre.
    """
    if kernel % 2 == 0:
        raise GraphError(f"sample layer {name!r}: kernel size {kernel} is even; 'same' padding takes odd sizes")
    shape = (filters, channels, kernel, kernel)
    fan_in = channels * min(kernel, size[0]) * min(kernel, size[1])
    weights = [builder.weight(f"{name}.weight", fill.normal(shape, fan_in))]
    if bias:
        weights.append(builder.weight(f"{name}.bias", fill.constant((filters,), 0.0)))
    return builder.add(
        "Conv",
        x,
        *weights,
        name=name,
        kernel_shape=(kernel, kernel),
        strides=(stride, stride),
        pads=(kernel // 2,) * 4,
        dilations=(1, 1),
        group=1,
    )


def normalized(builder: Builder, fill: Fill, x: str, channels: int, *, name: str) -> str:
    """A BatchNormalization that starts as the identity, up to its epsilon."""
    starts = {"scale": 1.0, "shift": 0.0, "mean": 0.0, "variance": 1.0}
    weights = [builder.weight(f"{name}.{part}", fill.constant((channels,), start)) for part, start in starts.items()]
    return builder.add("BatchNormalization", x, *weights, name=name, epsilon=1e-5, momentum=0.9)


def max_pool(builder: Builder, x: str, *, name: str) -> str:
    """A 2x2 MaxPool with stride 2; an odd last row or column is dropped."""
    return builder.add("MaxPool", x, name=name, kernel_shape=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), ceil_mode=0)


def activation(builder: Builder, x: str, op: str = "Relu", *, name: str) -> str:
    """An activation; LeakyRelu has slope 0.01 below 0."""
    if op == "LeakyRelu":
        return builder.add(op, x, name=name, alpha=0.01)
    return builder.add(op, x, name=name)


def gemm(
    builder: Builder,
    fill: Fill,
    x: str,
    inputs: int,
    outputs: int,
    *,
    name: str,
    gain: float = RELU_GAIN,
    bias: bool = True,
    output: str = "",
) -> str:
    """A linear layer; without a bias where a BatchNormalization follows. `output` names its value."""
    weights = [builder.weight(f"{name}.weight", fill.normal((outputs, inputs), inputs, gain))]
    if bias:
        weights.append(builder.weight(f"{name}.bias", fill.constant((outputs,), 0.0)))
    return builder.add("Gemm", x, *weights, name=name, outputs=(output or name,), transB=1)


def fully_connected(
    builder: Builder,
    fill: Fill,
    x: str,
    inputs: int,
    hidden: Sequence[int],
    classes: int,
    *,
    name: str,
    input_shape: Shape,
    batch_norm: bool = False,
    op: str = "Relu",
) -> Model:
    """The finished member: hidden linear layers with their activations, then the one whose outputs are the logits.

    Raises:
        GraphError: there are no classes, or a hidden layer has no unit.
    """
    if classes < 1:
        raise GraphError(f"sample member {name!r}: {classes} classes; give 1 or more")
    for number, width in enumerate(hidden, start=1):
        if width < 1:
            raise GraphError(f"sample member {name!r}: hidden layer {number} has {width} units; give 1 or more")
        x = gemm(builder, fill, x, inputs, width, name=f"fc{number}", gain=GAINS[op], bias=not batch_norm)
        if batch_norm:
            x = normalized(builder, fill, x, width, name=f"fc{number}_norm")
        x = activation(builder, x, op, name=f"fc{number}_{op.lower()}")
        inputs = width
    gemm(builder, fill, x, inputs, classes, name="head", gain=LINEAR_GAIN, output=LOGITS)
    return builder.model(name, [Port(INPUT, "float32", input_shape)], [Port(LOGITS, "float32", (classes,))])


def image_shape(name: str, input_shape: Shape) -> tuple[int, tuple[int, int]]:
    """Channels, and height and width.

    Raises:
        GraphError: the shape is not that of an image.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise GraphError(
            f"sample member {name!r}: input shape {input_shape} is no image; give (channels, height, width)"
        )
    channels, height, width = input_shape
    return channels, (height, width)
