"""Ops that older opsets lack, in the words that exporters used, by which reading knows them again.

LayerNormalization(x; scale, bias) = d / sqrt(mean d^2 + eps) * scale + bias,  d = x - mean x
GroupNormalization(x; scale, bias) = InstanceNormalization over x as [N, groups, -1], times scale, plus bias
Gelu(x) = x (1 + erf(x / sqrt 2)) / 2, or x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
HardSwish(x) = x HardSigmoid(x; 1/6, 1/2);  Mish(x) = x tanh(Softplus(x))
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
from onnx import numpy_helper

from mnx.graphs.canonical.expansion import Expansion
from mnx.graphs.given.place import NeedsOpset

_CUBE = 0.044715


def layer_norm(place: Expansion, opset: int) -> None:
    """ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add."""
    x, rank = place.inputs[0], len(place.shape(place.inputs[0]))
    over = [place.integer("axis", -1) % rank]
    if over != [rank - 1]:
        raise NeedsOpset(place, 17, "normalises over several axes")
    centred = place.add("Sub", x, place.add("ReduceMean", x, axes=over, keepdims=1))
    variance = place.add("ReduceMean", place.add("Pow", centred, place.number(2)), axes=over, keepdims=1)
    deviation = place.add("Sqrt", place.add("Add", variance, place.number(place.real("epsilon", 1e-5))))
    scaled = place.add("Mul", place.add("Div", centred, deviation), place.inputs[1])
    if place.input(2):
        place.last("Add", scaled, place.input(2))
    else:
        place.nodes[-1].output[0], place.nodes[-1].name = place.outputs[0], place.node.name


def group_norm(place: Expansion, opset: int) -> None:
    """Reshape, InstanceNormalization, Reshape, Mul, Add."""
    x, groups = place.inputs[0], place.integer("num_groups", 1)
    shape = place.shape(x)
    if -1 in shape[1:]:
        raise NeedsOpset(place, 21, "is of open size")
    ones, zeros = place.array("ones", np.ones(groups, np.float32)), place.array("zeros", np.zeros(groups, np.float32))
    parts = place.add("Reshape", x, place.integers([0, groups, -1]))
    normal = place.add("InstanceNormalization", parts, ones, zeros, epsilon=place.real("epsilon", 1e-5))
    whole = place.add("Reshape", normal, place.integers([0, *shape[1:]]))
    scale, bias = (_along_channels(place, name, len(shape)) for name in place.inputs[1:3])
    place.last("Add", place.add("Mul", whole, scale), bias)


def _along_channels(place: Expansion, name: str, rank: int) -> str:
    """A vector of one number a channel with axes of size 1 behind, under its own name."""
    array = place.constant(name)
    if array is None:
        raise NeedsOpset(place, 21, "computes its scale or bias")
    place.small.append(numpy_helper.from_array(array.reshape(-1, *[1] * (rank - 2)), name))
    return name


def gelu(place: Expansion, opset: int) -> None:
    """Div, Erf, Add, Mul, Mul; or Mul, Mul, Mul, Add, Mul, Tanh, Add, Mul, Mul."""
    x = place.inputs[0]
    if place.text("approximate", "none") == "none":
        bent = place.add("Erf", place.add("Div", x, place.number(sqrt(2))))
    else:
        cube = place.add("Mul", place.add("Mul", x, x), x)
        inner = place.add("Add", x, place.add("Mul", cube, place.number(_CUBE)))
        bent = place.add("Tanh", place.add("Mul", inner, place.number(sqrt(2 / pi))))
    whole = place.add("Mul", x, place.add("Add", bent, place.number(1)))
    place.last("Mul", whole, place.number(0.5))


def hard_swish(place: Expansion, opset: int) -> None:
    """HardSigmoid, Mul."""
    place.last("Mul", place.inputs[0], place.add("HardSigmoid", place.inputs[0], alpha=1 / 6, beta=0.5))


def mish(place: Expansion, opset: int) -> None:
    """Softplus, Tanh, Mul."""
    place.last("Mul", place.inputs[0], place.add("Tanh", place.add("Softplus", place.inputs[0])))
