"""Sample ensembles by name: small networks of different sizes, for trying mnx out and for its tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Shape
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import V5, narrowed, parse_blocks, vgg

Ensemble: TypeAlias = Callable[[int, Shape, int], list[Model]]
"""Makes the members, given the number of classes, the input shape and the seed."""

LARGE_KERNEL = {"V13K": "(5:64) (3:64) | (3:128)x2 | (3:256)x2 | (3:512)x2 | (3:512)x2"}
"""V13 with a larger first kernel. V5's own members have 3x3 kernels wherever their mother has a layer: she is widened
and deepened for them, but no kernel grows. With this one the sample ensembles try every kind of growth."""

WIDTH = 1 / 16
"""What the sample VGG networks keep of the filters of the paper's."""

HIDDEN = (64, 64)
"""The hidden linear layers of the sample VGG networks, 4096 and 4096 in the paper's."""

PERCEPTRONS: Mapping[str, tuple[int, ...]] = {
    "P64": (64,),
    "P96": (96,),
    "P64-64": (64, 64),
    "P128-64": (128, 64),
    "P96-96-64": (96, 96, 64),
}
"""Sample perceptrons: name -> widths of the hidden layers."""

RESNETS: Mapping[str, tuple[tuple[int, ...], int]] = {
    "R8": ((1, 1, 1), 8),
    "R14": ((2, 2, 2), 8),
    "R20": ((3, 3, 3), 8),
    "R8W": ((1, 1, 1), 12),
    "R14W": ((2, 2, 2), 12),
}
"""Sample residual networks, named after their depth, W for wider: name -> blocks per stage, filters of the first."""


def _v5(classes: int, input_shape: Shape, seed: int) -> list[Model]:
    return [
        vgg(name, narrowed(parse_blocks(text), WIDTH), classes, input_shape, HIDDEN, seed=seed)
        for name, text in {**V5, **LARGE_KERNEL}.items()
    ]


def _v5_bn(classes: int, input_shape: Shape, seed: int) -> list[Model]:
    return [
        vgg(f"{name}-BN", narrowed(parse_blocks(text), WIDTH), classes, input_shape, HIDDEN, batch_norm=True, seed=seed)
        for name, text in {**V5, **LARGE_KERNEL}.items()
    ]


def _mlp(classes: int, input_shape: Shape, seed: int) -> list[Model]:
    return [mlp(name, input_shape, hidden, classes, seed=seed) for name, hidden in PERCEPTRONS.items()]


def _resnet(classes: int, input_shape: Shape, seed: int) -> list[Model]:
    return [resnet(name, blocks, width, classes, input_shape, seed) for name, (blocks, width) in RESNETS.items()]


ENSEMBLES: Mapping[str, Ensemble] = {"v5": _v5, "v5-bn": _v5_bn, "mlp": _mlp, "resnet": _resnet}
"""The sample ensembles. A new one is one entry."""


def ensemble(name: str, classes: int = 10, input_shape: Shape = (1, 8, 8), seed: int = 0) -> list[Model]:
    """The members of the sample ensemble `name`; the defaults fit the digits data.

    Args:
        name: one of `ENSEMBLES`.
        classes: the number of logits.
        input_shape: of one example, without the batch.
        seed: of the weights; each member draws its own from the seed and its name.

    Raises:
        GraphError: there is no such ensemble, or the shape does not fit it.
    """
    if name not in ENSEMBLES:
        raise GraphError(f"no sample ensemble {name!r}; there are {', '.join(ENSEMBLES)}")
    return ENSEMBLES[name](classes, input_shape, seed)
