"""Small networks of any activation, and networks whose branches Concat joins, for tests of what can be inserted."""

from collections.abc import Sequence

import numpy as np
from hand_made import Net

from mnx.graphs.model import Model
from mnx.graphs.zoo import layers

Blocks = Sequence[Sequence[int]]


def activated(net: Net, x: str, activation: str) -> str:
    """An activation by the name of its op; 'Silu' is x * Sigmoid(x)."""
    if activation == "Silu":
        return net.op("Mul", x, net.builder.add("Sigmoid", x))
    return net.op(activation, x)


def perceptron(name: str, widths: Sequence[int], activation: str) -> Model:
    """Linear layers on images of 2 x 4 x 4."""
    net = Net(name)
    x, width = net.builder.add("Flatten", layers.INPUT, axis=1), 32
    for number, wanted in enumerate(widths):
        x = layers.gemm(net.builder, net.fill, x, width, wanted, name=f"hidden{number}")
        net.widths[x] = width = wanted
        x = activated(net, x, activation)
    return net.done(layers.gemm(net.builder, net.fill, x, width, 3, name="head", output=layers.LOGITS), (3,))


def convolutional(
    name: str, blocks: Blocks, activation: str, kernel: int = 3, pool: str = "MaxPool", norm: bool = False
) -> Model:
    """Blocks of convolutions; each ends in a pooling that keeps most of the image."""
    net = Net(name)
    x = layers.INPUT
    for block in blocks:
        for width in block:
            x = net.conv_norm(x, width, kernel) if norm else net.conv(x, width, kernel)
            x = activated(net, x, activation)
        x = net.same(x, net.builder.add(pool, x, kernel_shape=(2, 2), strides=(1, 1)))
    return net.finish(x)


def dense(name: str, stem: int, growth: Sequence[int], new_first: bool = False) -> Model:
    """A dense block: every layer's channels are joined to all before."""
    net = Net(name)
    x = net.conv_relu(layers.INPUT, stem)
    for width in growth:
        made = net.conv(net.relu(net.norm(x)), width)
        x = net.concat(made, x) if new_first else net.concat(x, made)
    return net.finish(net.relu(net.norm(x)))


def branched(name: str, stem: int, blocks: Sequence[Sequence[tuple[int, int]]]) -> Model:
    """Blocks of convolutions side by side, (width, kernel) each, joined by Concat."""
    net = Net(name)
    x = net.conv_relu(layers.INPUT, stem)
    for block in blocks:
        x = net.concat(*(net.conv_relu(x, width, kernel) for width, kernel in block))
    return net.finish(x)


def gated(name: str, plan: Sequence[tuple[int, str]], activation: str = "Relu", gate: str = "Sigmoid") -> Model:
    """Convolutions with normalisation, (width, gate) each: squeeze-and-excitation 'before' or 'behind' the activation.

    A last convolution of one tap follows.
    """
    net = Net(name)
    x = net.conv_relu(layers.INPUT, 4)
    for width, place in plan:
        x = net.conv_norm(x, width)
        x = excited(net, x, gate) if place == "before" else x
        x = net.op(activation, x)
        x = excited(net, x, gate) if place == "behind" else x
    return net.finish(net.relu(net.conv(x, 5, 1)))


def excited(net: Net, x: str, gate: str) -> str:
    """Squeeze-and-excitation."""
    squeezed = net.relu(net.conv(net.same(x, net.builder.add("GlobalAveragePool", x)), 2, 1))
    return net.op("Mul", x, net.op(gate, net.conv(squeezed, net.widths[x], 1)))


def post_norm(name: str, width: int, depth: int, epsilon: float = 1e-12, hidden: int = 6) -> Model:
    """Perceptron blocks, each with its LayerNormalization behind the shortcut, and one before all."""
    net = Net(name)

    def norm(x: str) -> str:
        scale = net.builder.weight("scale", np.ones(width, np.float32))
        shift = net.builder.weight("shift", np.zeros(width, np.float32))
        return net.builder.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)

    flat = net.builder.add("Flatten", layers.INPUT, axis=1)
    x = norm(layers.gemm(net.builder, net.fill, flat, 32, width, name="stem"))
    for number in range(depth):
        y = layers.gemm(net.builder, net.fill, x, width, hidden, name=f"up{number}")
        y = layers.gemm(net.builder, net.fill, net.builder.add("Gelu", y), hidden, width, name=f"down{number}")
        x = norm(net.builder.add("Add", x, y))
    return net.done(layers.gemm(net.builder, net.fill, x, width, 3, name="head", output=layers.LOGITS), (3,))
