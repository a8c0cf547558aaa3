"""VGG networks (Simonyan and Zisserman, 2015) as sample members, and V5, the VGG ensemble of the MotherNets paper.

Written as the paper writes them: (kernel:filters) is a convolution followed by ReLU, 'xn' repeats it, '|' ends a block
with 2x2 max pooling. Behind the last block come the fully connected layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from mnx.graphs.builder import Builder
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Shape
from mnx.graphs.zoo import layers

Blocks: TypeAlias = Sequence[Sequence[tuple[int, int]]]
"""Blocks of convolutions, each (kernel size, filters)."""

V5: Mapping[str, str] = {
    "V13": "(3:64)x2  | (3:128)x2 | (3:256)x2         | (3:512)x2         | (3:512)x2",
    "V16": "(3:64)x2  | (3:128)x2 | (3:256)x2 (1:256) | (3:512)x2 (1:512) | (3:512)x2 (1:512)",
    "V16A": "(3:128)x2 | (3:128)x2 | (3:128)x2 (1:256) | (3:512)x2 (1:512) | (3:256)x2 (1:512)",
    "V16B": "(3:64)x2  | (3:128)x2 | (3:256)x2 (3:256) | (3:512)x2 (3:512) | (3:512)x2 (3:512)",
    "V19": "(3:64)x2  | (3:128)x2 | (3:256)x4         | (3:512)x4         | (3:512)x4",
}
"""The members of V5. Their MotherNet holds 3x3 convolutions 64, 64 | 128, 128 | 128, 128 | 512, 512 | 256, 256."""

LEAST_FILTERS = 4
"""Filters that a narrowed layer keeps: fewer, and a layer of ReLUs easily dies."""


def parse_blocks(text: str) -> list[list[tuple[int, int]]]:
    """The blocks that the paper's notation says, such as "(3:64)x2 | (3:128)x2 (1:256)".

    Raises:
        GraphError: a part of the text is not a layer, or a block has none.
    """
    blocks = []
    for number, part in enumerate(text.split("|"), start=1):
        block: list[tuple[int, int]] = []
        for word in part.split():
            found = re.fullmatch(r"\(([1-9]\d*):([1-9]\d*)\)(?:x([1-9]\d*))?", word)
            if not found:
                raise GraphError(
                    f"{word!r} in block {number} of {text!r} is no layer; write (kernel:filters) or (3:64)x2"
                )
            kernel, filters, count = (int(digits or 1) for digits in found.groups())
            block += [(kernel, filters)] * count
        if not block:
            raise GraphError(f"block {number} of {text!r} has no layer; write (kernel:filters) or (3:64)x2")
        blocks.append(block)
    return blocks


def narrowed(blocks: Blocks, width: float) -> list[list[tuple[int, int]]]:
    """The same layers with `width` times the filters, at least `LEAST_FILTERS` (or what they had, if that is less)."""
    return [
        [(kernel, max(min(filters, LEAST_FILTERS), round(filters * width))) for kernel, filters in block]
        for block in blocks
    ]


def vgg(
    name: str,
    blocks: Blocks,
    classes: int,
    input_shape: Shape = (3, 224, 224),
    hidden: Sequence[int] = (4096, 4096),
    batch_norm: bool = False,
    seed: int = 0,
    hollow: bool = False,
) -> Model:
    """A VGG network: blocks of 'same' convolutions, each block ended by 2x2 max pooling, then linear layers.

    An image too small for all the poolings loses the later ones: a block whose output is less than two pixels high or
    wide ends without pooling, so that five blocks fit an image of 8x8.

    Args:
        name: of the member; with the seed it decides the weights.
        blocks: the convolutions, as `parse_blocks` gives them.
        classes: the number of logits.
        input_shape: channels, height and width.
        hidden: widths of the linear layers between the convolutions and the logits.
        batch_norm: put a BatchNormalization between every convolution or hidden linear layer and its ReLU.
        seed: of the weights.
        hollow: make weights that take no memory, for planning.

    Raises:
        GraphError: the input shape is not that of an image, a kernel is even or the seed negative.
    """
    builder, fill = Builder(), layers.first_weights(name, seed, hollow)
    channels, size = layers.image_shape(name, input_shape)
    x = layers.INPUT
    for block_number, block in enumerate(blocks, start=1):
        for number, (kernel, filters) in enumerate(block, start=1):
            place = f"{block_number}_{number}"
            x = layers.conv(
                builder, fill, x, channels, filters, kernel, name=f"conv{place}", size=size, bias=not batch_norm
            )
            if batch_norm:
                x = layers.normalized(builder, fill, x, filters, name=f"norm{place}")
            x = layers.activation(builder, x, name=f"relu{place}")
            channels = filters
        if min(size) >= 2:
            x = layers.max_pool(builder, x, name=f"pool{block_number}")
            size = size[0] // 2, size[1] // 2
    x = builder.add("Flatten", x, name="flatten", axis=1)
    return layers.fully_connected(
        builder,
        fill,
        x,
        channels * size[0] * size[1],
        hidden,
        classes,
        name=name,
        input_shape=input_shape,
        batch_norm=batch_norm,
    )


def v5(
    classes: int = 1000,
    input_shape: Shape = (3, 224, 224),
    hidden: Sequence[int] = (4096, 4096),
    width: float = 1.0,
    batch_norm: bool = False,
    seed: int = 0,
    hollow: bool = False,
) -> list[Model]:
    """The five members of V5, with `width` times the filters; the hidden linear layers are as wide as given.

    Raises:
        GraphError: as `vgg` does.
    """
    return [
        vgg(name, narrowed(parse_blocks(text), width), classes, input_shape, hidden, batch_norm, seed, hollow)
        for name, text in V5.items()
    ]
