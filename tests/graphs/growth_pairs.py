"""A small mother and member for every way of growing, which broken twins of the rules of growth are tried on."""

from collections.abc import Mapping

import activated
import numpy as np
from activated import convolutional, dense, perceptron, post_norm
from averaged import bare_layer_norm, blocks, layer_norm, read_before_its_norm, rms_blocks, with_epsilon
from hand_made import Net, inception
from kinds import attending, group_normed, rescaled
from op_networks import network_of, widened

from mnx.graphs.model import Model, Shape
from mnx.graphs.zoo import layers
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg


def convolved(kernel: Shape, pads: Shape, dilation: int = 1) -> Model:
    """One convolution on images of 4 x 4, or on signals of 16."""
    net, rank = Net("kernel"), len(kernel)
    x = layers.INPUT
    if rank == 1:
        x = net.builder.add("Reshape", x, net.builder.weight("target", np.array([0, 2, 16], np.int64)))
    weight = net.builder.weight("conv.weight", np.ones((4, 2, *kernel), np.float32))
    bias = net.builder.weight("conv.bias", np.ones(4, np.float32))
    x = net.builder.add(
        "Conv", x, weight, bias, kernel_shape=kernel, strides=(1,) * rank, pads=pads, dilations=(dilation,) * rank
    )
    net.widths[x] = 4
    return net.finish(net.relu(x))


def blocked(depth: int, groups: int, width: int = 4) -> Model:
    """A convolution and further ones of so many groups of its channels."""
    net = Net("blocked")
    x = net.conv_relu(layers.INPUT, width)
    for _ in range(depth):
        x = net.relu(net.blocks(x, groups, width))
    return net.finish(x)


def twice_normed(widths: tuple[int, ...], activation: str) -> Model:
    """Layers with two normalisations each before the activation."""
    net = Net("twice")
    x = layers.INPUT
    for width in widths:
        x = net.op(activation, net.norm(net.conv_norm(x, width, 1)))
    return with_epsilon(net.finish(net.conv(x, 4, 1)), 0.5)


def ended(activation: str, ending: str) -> Model:
    """A layer with an activation, and perhaps one more behind it."""
    net = Net("ended")
    x = activated.activated(net, net.conv(layers.INPUT, 4), activation)
    return net.finish(net.op(ending, x) if ending else x)


def self_multiplied(widths: tuple[int, ...]) -> Model:
    """Layers whose activation is x softplus(x)."""
    net = Net("multiplied")
    x = layers.INPUT
    for width in widths:
        x = net.conv(x, width, 1)
        x = net.op("Mul", x, net.builder.add("Softplus", x))
    return net.finish(x)


def gates(*plan: tuple[int, str], activation: str = "Relu") -> Model:
    return activated.gated("gates", plan, activation)


def op_added(name: str, body: str, without: str = "c = Tanh (a)") -> tuple[Model, Model]:
    return network_of(name, without), network_of(name, body)


ATTENDING = network_of("MatMul, heads")

PAIRS: Mapping[str, tuple[Model, Model]] = {
    "wider": (mlp("m", 4, (3, 5), 3), mlp("n", 4, (7, 11), 3)),
    "wider with norms": (mlp("m", 4, (3,), 3, batch_norm=True), mlp("n", 4, (7,), 3, batch_norm=True)),
    "wider images": (vgg("m", [[(3, 3)]], 3, (2, 6, 6), (5,)), vgg("n", [[(3, 7)]], 3, (2, 6, 6), (5,))),
    "wider heads": (ATTENDING, widened(ATTENDING, lambda old: 2 * old + 1)),
    "heads that grow in width": (attending("m", 6, 2, 1, 3), attending("n", 8, 2, 2, 5)),
    "joined heads that grow in width": (attending("m", 6, 2, 1, 3, True), attending("n", 8, 2, 2, 5, True)),
    "more heads of another scale": (rescaled(attending("m", 6, 2, 1, 3), 1.0), attending("n", 6, 3, 1, 3)),
    "joined heads of another scale": (
        rescaled(attending("m", 6, 2, 1, 3, True), 1.0),
        attending("n", 8, 2, 1, 3, True),
    ),
    "more blocks of channels": (blocked(1, 2), blocked(1, 4, 8)),
    "more normalised blocks": (group_normed("m", 2, 4), group_normed("n", 4, 8)),
    "larger kernel": (vgg("m", [[(3, 3)]], 3, (2, 6, 6), (5,)), vgg("n", [[(5, 3)]], 3, (2, 6, 6), (5,))),
    "larger dilated kernel": (convolved((3, 3), (2,) * 4, 2), convolved((5, 5), (4,) * 4, 2)),
    "larger kernel on a signal": (convolved((3,), (1, 1)), convolved((7,), (3, 3))),
    "larger kernel of even size": (convolved((2, 2), (0, 0, 1, 1)), convolved((4, 4), (1, 1, 2, 2))),
    "deeper": (mlp("m", 4, (5,), 3), mlp("n", 4, (5, 5), 3)),
    "deeper images": (vgg("m", [[(3, 4)]], 3, (2, 6, 6), (5,)), vgg("n", [[(3, 4), (3, 4)]], 3, (2, 6, 6), (5,))),
    "deeper with norms": (mlp("m", 4, (5,), 3, batch_norm=True), mlp("n", 4, (5, 5), 3, batch_norm=True)),
    "deeper in groups": (blocked(1, 2), blocked(2, 2)),
    "deeper channel by channel": (blocked(0, 4), blocked(1, 4)),
    "deeper on tokens": op_added(
        "MatMul", "b = Relu (a) b2 = MatMul (b, v) b3 = Add (b2, vb) c = Relu (b3)", "c = Relu (a)"
    ),
    "a slope": op_added("PRelu", "b = PRelu (a, r) c = Tanh (b)"),
    "a bias": op_added(
        "Add, of a parameter", "b = Relu (a) b2 = Add (b, r) c = Tanh (b2)", "b = Relu (a) c = Tanh (b)"
    ),
    "a scale": op_added("Mul, by a parameter", "b = Tanh (a) b2 = Mul (b, p) c = Sin (b2)", "b = Tanh (a) c = Sin (b)"),
    "norms where there were none": (
        vgg("m", [[(3, 4)]], 3, (2, 6, 6), (5,)),
        vgg("n", [[(3, 4)]], 3, (2, 6, 6), (5,), batch_norm=True),
    ),
    "more residual blocks": (resnet("m", (1,), 4, 3, (2, 4, 4)), resnet("n", (2,), 4, 3, (2, 4, 4))),
    "concat": (inception("m", 3, 2, 3), inception("n", 3, 5, 4)),
    "a further layer of a dense block": (dense("m", 4, (3,)), dense("n", 4, (3, 3))),
    "pairs": (perceptron("m", (8,), "Gelu"), perceptron("n", (20, 17), "Gelu")),
    "leaky pairs": (perceptron("m", (8,), "LeakyRelu"), perceptron("n", (20, 17), "LeakyRelu")),
    "pairs behind two norms": (twice_normed((4,), "Gelu"), twice_normed((9, 8), "Gelu")),
    "shifted behind two norms": (twice_normed((4,), "Elu"), twice_normed((4, 4), "Elu")),
    "pairs before a maximum": (
        convolutional("m", [[4], [4]], "Gelu"),
        convolutional("n", [[4, 8], [4]], "Gelu"),
    ),
    "shifted": (perceptron("m", (8,), "Elu"), perceptron("n", (8, 8), "Elu")),
    "shifted before padding": (
        convolutional("m", [[4], [4]], "Elu"),
        convolutional("n", [[4, 4], [4]], "Elu"),
    ),
    "shifted SiLU": (perceptron("m", (8,), "Silu"), perceptron("n", (8, 8), "Silu")),
    "small": (perceptron("m", (8,), "Tanh"), perceptron("n", (8, 8), "Tanh")),
    "a ReLU behind SiLU": (ended("Silu", ""), ended("Silu", "Relu")),
    "x softplus(x)": (self_multiplied((4,)), self_multiplied((9, 8))),
    "a gate before": (gates((4, ""), (5, "")), gates((6, "before"), (5, ""))),
    "a gate behind": (gates((4, ""), (5, "")), gates((6, ""), (5, "behind"))),
    "a gate behind HardSwish": (
        gates((4, ""), (5, ""), activation="HardSwish"),
        gates((6, ""), (5, "behind"), activation="HardSwish"),
    ),
    "a norm behind the sum": (post_norm("m", 8, 1), post_norm("n", 8, 2)),
    "a norm of large epsilon behind the sum": (post_norm("m", 8, 1, 1e-3), post_norm("n", 8, 2, 1e-3)),
    "a mean": (bare_layer_norm("m", 16), bare_layer_norm("n", 24)),
    "a mean of what is bent": (layer_norm("m", 16), layer_norm("n", 24)),
    "a mean of residual blocks": (blocks("m", 5), blocks("n", 7)),
    "a mean of squares": (rms_blocks("m", 5), rms_blocks("n", 7)),
    "a mean read before its norm": (read_before_its_norm("m", 5), read_before_its_norm("n", 7)),
    "a mean with a large epsilon": (with_epsilon(blocks("m", 5), 0.5), with_epsilon(blocks("n", 7), 0.5)),
}
