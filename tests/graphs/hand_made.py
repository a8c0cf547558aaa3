"""Small networks that the zoo does not make: branches, shortcuts with weights, gates, odd ends."""

from collections.abc import Sequence

import numpy as np

from mnx.graphs.builder import Builder
from mnx.graphs.model import Model, Port
from mnx.graphs.zoo import layers
from mnx.graphs.zoo.layers import Fill

SIZE = (4, 4)


class Net:
    """Writes a network on images of 2 x 4 x 4 layer by layer; every method takes and returns names of values."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.builder = Builder()
        self.fill: Fill = layers.first_weights(name, 0)
        self.widths: dict[str, int] = {layers.INPUT: 2}

    def conv(self, x: str, filters: int, kernel: int = 3, *, bias: bool = True) -> str:
        channels = self.widths[x]
        y = layers.conv(self.builder, self.fill, x, channels, filters, kernel, name="conv", size=SIZE, bias=bias)
        self.widths[y] = filters
        return y

    def blocks(self, x: str, groups: int, filters: int, kernel: int = 3) -> str:
        """A convolution by blocks of channels; as many as channels: a depthwise one."""
        shape = (filters, self.widths[x] // groups, kernel, kernel)
        weight = self.builder.weight("blocks.weight", np.ones(shape, np.float32))
        bias = self.builder.weight("blocks.bias", np.zeros(filters, np.float32))
        y = self.builder.add("Conv", x, weight, bias, group=groups, kernel_shape=shape[2:], pads=(kernel // 2,) * 4)
        self.widths[y] = filters
        return y

    def norm(self, x: str) -> str:
        return self.same(x, layers.normalized(self.builder, self.fill, x, self.widths[x], name="norm"))

    def relu(self, x: str) -> str:
        return self.same(x, layers.activation(self.builder, x, name="relu"))

    def conv_relu(self, x: str, filters: int, kernel: int = 3) -> str:
        return self.relu(self.conv(x, filters, kernel))

    def conv_norm(self, x: str, filters: int, kernel: int = 3) -> str:
        return self.norm(self.conv(x, filters, kernel, bias=False))

    def op(self, op: str, *inputs: str, **attributes: int) -> str:
        return self.same(inputs[0], self.builder.add(op, *inputs, **attributes))

    def concat(self, *inputs: str) -> str:
        y = self.builder.add("Concat", *inputs, axis=1)
        self.widths[y] = sum(self.widths[x] for x in inputs)
        return y

    def same(self, x: str, y: str) -> str:
        self.widths[y] = self.widths[x]
        return y

    def finish(self, x: str, classes: int = 3) -> Model:
        pooled = self.builder.add("GlobalAveragePool", x)
        flat = self.same(x, self.builder.add("Flatten", pooled, axis=1))
        y = layers.gemm(self.builder, self.fill, flat, self.widths[flat], classes, name="head", output=layers.LOGITS)
        self.widths[y] = classes
        return self.done(y)

    def done(self, y: str, shape: tuple[int, ...] | None = None) -> Model:
        output = Port(y, "float32", shape or (self.widths[y],))
        return self.builder.model(self.name, [Port(layers.INPUT, "float32", (2, *SIZE))], [output])


def residual(name: str, stem: int, blocks: Sequence[tuple[int, bool]], *, shortcut_first: bool = False) -> Model:
    """A stem and basic blocks of (width, whether the shortcut is a 1x1 convolution)."""
    net = Net(name)
    x = net.relu(net.conv_norm(layers.INPUT, stem))
    for width, projected in blocks:
        body = net.conv_norm(net.relu(net.conv_norm(x, width)), width)
        shortcut = net.conv_norm(x, width, 1) if projected else x
        x = net.relu(net.op("Add", *((shortcut, body) if shortcut_first else (body, shortcut))))
    return net.finish(x)


def inception(name: str, stem: int, small: int, large: int, *, deeper: bool = False) -> Model:
    """A 1x1 and a 3x3 branch, joined by Concat, behind a stem."""
    net = Net(name)
    x = net.conv_relu(layers.INPUT, stem)
    left, right = net.conv_relu(x, small, 1), net.conv_relu(x, large)
    if deeper:
        right = net.conv_relu(right, large)
    return net.finish(net.concat(left, right))


def gated(name: str, width: int, gate: int) -> Model:
    """A stem whose channels are multiplied by a gate of as many channels, or of one."""
    net = Net(name)
    x = net.conv_relu(layers.INPUT, width)
    return net.finish(net.op("Mul", x, net.op("Sigmoid", net.conv(x, gate, 1))))


def linear(name: str, widths: Sequence[int]) -> Model:
    """Convolutions with no activation between them."""
    net = Net(name)
    x = layers.INPUT
    for width in widths:
        x = net.conv(x, width)
    return net.finish(net.relu(x))


def two_heads(name: str, width: int) -> Model:
    """Two linear layers whose outputs are joined to the logits."""
    net = Net(name)
    x = net.builder.add("Flatten", layers.INPUT, axis=1)
    hidden = layers.gemm(net.builder, net.fill, x, 2 * SIZE[0] * SIZE[1], width, name="hidden")
    parts = [layers.gemm(net.builder, net.fill, hidden, width, size, name=f"part{size}") for size in (2, 3)]
    net.widths.update(dict(zip(parts, (2, 3), strict=True)))
    return net.done(net.concat(*parts))


def ended_by_dropout(name: str, width: int, *, dropout: bool = True) -> Model:
    """A network whose last node may be a Dropout."""
    net = Net(name)
    model = net.finish(net.conv_relu(layers.INPUT, width))
    if not dropout:
        return model
    end = net.builder.add("Dropout", layers.LOGITS, net.builder.weight("ratio", np.array(0.5, np.float32)))
    return net.done(end, (3,))


def ladder(name: str, width: int = 3) -> Model:
    """A network that is not series-parallel: a bridge leads from one branch to the other."""
    net = Net(name)
    fork = net.conv_relu(layers.INPUT, width)
    left, right = net.conv(fork, width), net.conv(fork, width)
    bridged = net.op("Add", right, left)
    return net.finish(net.op("Add", net.conv(left, width), net.conv(bridged, width)))
