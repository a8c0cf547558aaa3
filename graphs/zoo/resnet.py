"""Residual networks for small images (He et al., 2016, section 4.2) as sample members."""

from __future__ import annotations

from collections.abc import Sequence

from mnx.graphs.builder import Builder
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Shape
from mnx.graphs.zoo import layers
from mnx.graphs.zoo.layers import Fill


def resnet(
    name: str,
    blocks_per_stage: Sequence[int] = (3, 3, 3),
    width: int = 16,
    classes: int = 10,
    input_shape: Shape = (3, 32, 32),
    seed: int = 0,
    hollow: bool = False,
) -> Model:
    """A stem, then stages of basic blocks, each stage but the first at half the size and twice the filters.

    (3, 3, 3) blocks of width 16 are ResNet-20, (9, 9, 9) are ResNet-56.

    Args:
        name: of the member; with the seed it decides the weights.
        blocks_per_stage: the number of blocks of two convolutions in each stage.
        width: filters of the stem and of the first stage.
        classes: the number of logits.
        input_shape: channels, height and width.
        seed: of the weights.
        hollow: make weights that take no memory, for planning.

    Raises:
        GraphError: the input shape is not that of an image, a stage has no block, the width is less than 1 or the seed
            is negative.
    """
    if width < 1 or not blocks_per_stage or min(blocks_per_stage) < 1:
        raise GraphError(
            f"sample member {name!r}: width {width} and blocks {tuple(blocks_per_stage)}; all must be 1 or more"
        )
    builder, fill = Builder(), layers.first_weights(name, seed, hollow)
    channels, size = layers.image_shape(name, input_shape)
    x = _conv_norm(builder, fill, layers.INPUT, channels, width, 3, "stem", size)
    x = layers.activation(builder, x, name="stem_relu")
    channels = width
    for stage, count in enumerate(blocks_per_stage, start=1):
        filters = width * 2 ** (stage - 1)
        for number in range(1, count + 1):
            halving = stage > 1 and number == 1
            stride = 2 if halving else 1
            x = _basic_block(builder, fill, x, channels, filters, f"block{stage}_{number}", size, stride)
            channels, size = filters, _strided(size, stride)
    x = builder.add("GlobalAveragePool", x, name="pool")
    x = builder.add("Flatten", x, name="flatten", axis=1)
    return layers.fully_connected(builder, fill, x, channels, (), classes, name=name, input_shape=input_shape)


def _basic_block(
    builder: Builder, fill: Fill, x: str, channels: int, filters: int, name: str, size: tuple[int, int], stride: int
) -> str:
    """relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)); a shortcut with a stride is a 1x1 convolution."""
    body = _conv_norm(builder, fill, x, channels, filters, 3, f"{name}.first", size, stride)
    body = layers.activation(builder, body, name=f"{name}.first_relu")
    body = _conv_norm(builder, fill, body, filters, filters, 3, f"{name}.second", _strided(size, stride))
    shortcut = x
    if stride != 1:
        shortcut = _conv_norm(builder, fill, x, channels, filters, 1, f"{name}.shortcut", size, stride)
    joined = builder.add("Add", body, shortcut, name=f"{name}.add")
    return layers.activation(builder, joined, name=f"{name}.relu")


def _conv_norm(
    builder: Builder,
    fill: Fill,
    x: str,
    channels: int,
    filters: int,
    kernel: int,
    name: str,
    size: tuple[int, int],
    stride: int = 1,
) -> str:
    x = layers.conv(builder, fill, x, channels, filters, kernel, name=name, size=size, stride=stride, bias=False)
    return layers.normalized(builder, fill, x, filters, name=f"{name}_norm")


def _strided(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)
