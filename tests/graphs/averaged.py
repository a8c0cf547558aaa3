"""Networks with LayerNormalization or RMSNorm over channels whose width is asked for."""

from dataclasses import replace

import numpy as np
from hand_made import Net

from mnx.graphs.model import Model
from mnx.graphs.zoo import layers


def affine(net: Net, width: int) -> tuple[str, str]:
    """The scale and the shift of a normalisation."""
    scale, shift = np.ones(width, np.float32), np.zeros(width, np.float32)
    return net.builder.weight("scale", scale), net.builder.weight("shift", shift)


def layer_norm(name: str, width: int, activation: str = "Relu") -> Model:
    """Two linear layers with an activation and a LayerNormalization between them."""
    net = Net(name)
    flat = net.builder.add("Flatten", layers.INPUT, axis=1)
    x = layers.gemm(net.builder, net.fill, flat, 32, width, name="hidden")
    x = net.builder.add(activation, x) if activation else x
    x = net.builder.add("LayerNormalization", x, *affine(net, width), axis=-1)
    y = layers.gemm(net.builder, net.fill, x, width, 3, name="head", output=layers.LOGITS)
    return net.done(y, (3,))


def bare_layer_norm(name: str, width: int) -> Model:
    """Two linear layers with a LayerNormalization between them, and nothing else."""
    return layer_norm(name, width, "")


def blocks(name: str, width: int) -> Model:
    """Two normalised residual blocks with layer scale, as in a transformer, and a normalisation behind them."""
    net = Net(name)
    flat = net.builder.add("Flatten", layers.INPUT, axis=1)
    x = layers.gemm(net.builder, net.fill, flat, 32, width, name="stem")
    for number in range(2):
        y = net.builder.add("LayerNormalization", x, *affine(net, width), axis=-1)
        y = layers.gemm(net.builder, net.fill, y, width, 2 * width, name=f"up{number}")
        y = layers.gemm(net.builder, net.fill, net.builder.add("Gelu", y), 2 * width, width, name=f"down{number}")
        x = net.builder.add("Add", x, net.builder.add("Mul", y, affine(net, width)[0]))
    x = net.builder.add("LayerNormalization", x, *affine(net, width), axis=-1)
    return net.done(layers.gemm(net.builder, net.fill, x, width, 3, name="head", output=layers.LOGITS), (3,))


def rms_blocks(name: str, width: int) -> Model:
    """Two residual blocks with RMSNorm before them, written out as exporters do, and one behind."""
    net = Net(name)
    build = net.builder

    def norm(x: str) -> str:
        square = build.add("Pow", x, build.weight("two", np.array(2, np.float32)))
        mean = build.add("ReduceMean", square, build.weight("axes", np.array([-1], np.int64)), keepdims=1)
        root = build.add("Sqrt", build.add("Add", mean, build.weight("epsilon", np.array(0.01, np.float32))))
        return build.add("Mul", build.add("Div", x, root), affine(net, width)[0])

    flat = build.add("Flatten", layers.INPUT, axis=1)
    x = layers.gemm(build, net.fill, flat, 32, width, name="stem")
    for number in range(2):
        y = layers.gemm(build, net.fill, norm(x), width, 2 * width, name=f"up{number}")
        y = layers.gemm(build, net.fill, build.add("Gelu", y), 2 * width, width, name=f"down{number}")
        x = build.add("Add", x, y)
    return net.done(layers.gemm(build, net.fill, norm(x), width, 3, name="head", output=layers.LOGITS), (3,))


def read_before_its_norm(name: str, width: int) -> Model:
    """A residual block that reads what is normalised behind it only."""
    net = Net(name)
    flat = net.builder.add("Flatten", layers.INPUT, axis=1)
    x = layers.gemm(net.builder, net.fill, flat, 32, width, name="stem")
    y = net.builder.add("Gelu", layers.gemm(net.builder, net.fill, x, width, 6, name="up"))
    x = net.builder.add("Add", x, layers.gemm(net.builder, net.fill, y, 6, width, name="down"))
    x = net.builder.add("LayerNormalization", x, *affine(net, width), axis=-1)
    return net.done(layers.gemm(net.builder, net.fill, x, width, 3, name="head", output=layers.LOGITS), (3,))


def with_epsilon(model: Model, epsilon: float) -> Model:
    nodes = (
        replace(node, attributes={**node.attributes, "epsilon": epsilon}) if node.op.endswith("Normalization") else node
        for node in model.nodes
    )
    return model.replace(nodes=tuple(nodes))
