"""Factors per channel that are what is left of a BatchNormalization.

Mul(layer(x, w, b), c) = layer(x, c w, c b), where it alone reads the layer
Mul(x, c) [+ d] = BatchNormalization(x; scale c, shift d, mean 0, variance 1 - epsilon), behind no layer: exact where
    variance + epsilon is 1 in float32, as it is for epsilon = 1e-5; where x is the model's input, they only scale it

A factor behind a linear layer or a pointwise Conv in front of a residual Add is a trained layer scale: it stays.
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.canonical.naming import parameter_name
from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    Tensor,
    bypass,
    constant,
    extents,
    given,
    maker,
    set_node,
    sole_reader,
    values,
)
from mnx.graphs.model import Array

_LAYERS = frozenset({"Conv", "Gemm"})
_ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "HardSwish", "Gelu", "Mish"})
_PREPARING = frozenset({"Add", "Sub", "Mul", "Div", "Cast", "Transpose"})
_IMAGE_RANK = 3
_EPSILON = 1e-5
_MOMENTUM = 0.9
_PAIR = 2


def folded_scales(graph: Graph) -> list[str]:
    """Take factors per channel directly behind a Conv or Gemm into its weight and bias."""
    folded = []
    for node in [node for node in graph.nodes if node.op in _LAYERS]:
        reader = sole_reader(graph, node.outputs[0])
        while reader is not None and reader.op == "Mul" and _may_fold(graph, node, reader):
            factor = _factor(reader, node.outputs[0])
            if factor is None:
                break
            _multiply(graph, node, factor[1])
            _skip(graph, reader, node.outputs[0])
            folded.append(node.name)
            reader = sole_reader(graph, node.outputs[0])
    names = ", ".join(dict.fromkeys(folded))
    return [f"factors behind layers multiplied into their weights and biases: {names}"] if names else []


def norms_from_scales(graph: Graph) -> list[str]:
    """Write a factor per channel, and what is added behind it, as BatchNormalization."""
    made = []
    for node in [node for node in graph.nodes if node.op == "Mul" and len(node.inputs) == _PAIR]:
        source = node.inputs[1] if values(node.inputs[0]) is not None else node.inputs[0]
        before, reader, factor = maker(source), sole_reader(graph, node.outputs[0]), _factor(node, source)
        shape = extents(source)
        if factor is None or shape is None or len(shape) < _IMAGE_RANK or factor[0].size == 1 or reader is None:
            continue
        shift = _factor(reader, node.outputs[0]) if reader.op == "Add" else None
        if (shift is None and reader.op not in _ACTIVATIONS) or (before is not None and before.op in _LAYERS):
            continue
        if _is_input(source):
            continue
        if shift is not None:
            _skip(graph, reader, node.outputs[0])
        scale = factor[1]
        zeros = np.zeros_like(scale)
        variance = np.full_like(scale, np.float32(1) - np.float32(_EPSILON))
        numbers = (scale, zeros if shift is None else shift[1], zeros, variance)
        set_node(node, "BatchNormalization", [source], epsilon=_EPSILON, momentum=_MOMENTUM)
        node.inputs += [
            constant(graph, parameter_name(node, index), array) for index, array in enumerate(numbers, start=1)
        ]
        made.append(node.name)
    if not made:
        return []
    return [f"factors per channel written as BatchNormalization with mean 0 and variance 1: {', '.join(made)}"]


def _is_input(value: Tensor) -> bool:
    """Whether a value is the model's input, but for constants added or multiplied and the order of axes."""
    node = maker(value)
    while node is not None and node.op in _PREPARING:
        data = [tensor for tensor in node.inputs if values(tensor) is None]
        if len(data) != 1:
            return False
        node = maker(data[0])
    return node is None


def _factor(node: Node, source: Tensor) -> tuple[Array, Array] | None:
    """The constant that a Mul or Add has beside `source`, as it is and as one number per channel; None elsewhere."""
    if len(node.inputs) != _PAIR:
        return None
    other = node.inputs[1] if node.inputs[0] is source else node.inputs[0]
    array, shape = values(other), extents(source)
    if array is None or shape is None or array.ndim > len(shape) or array.dtype != np.float32 or len(shape) < _PAIR:
        return None
    channels = shape[1]
    aligned = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    if not isinstance(channels, int) or any(size != 1 for axis, size in enumerate(aligned.shape) if axis != 1):
        return None
    return array, np.ascontiguousarray(np.broadcast_to(aligned.reshape(-1), (channels,)))


def _may_fold(graph: Graph, layer: Node, factor: Node) -> bool:
    """Whether the factor is no layer scale, and the layer's weight its own."""
    weight = values(layer.inputs[1])
    if weight is None or len(layer.inputs[1].outputs) > 1 or (given(layer, 2) and values(layer.inputs[2]) is None):
        return False
    pointwise = layer.op == "Gemm" or (layer.attrs.get("group", 1) == 1 and set(weight.shape[2:]) == {1})
    reader = sole_reader(graph, factor.outputs[0])
    residual = reader is not None and reader.op == "Add" and all(values(tensor) is None for tensor in reader.inputs)
    return not (pointwise and residual)


def _multiply(graph: Graph, layer: Node, factor: Array) -> None:
    for index in (1, 2):
        array = values(layer.inputs[index]) if given(layer, index) else None
        if array is not None:
            old = layer.inputs[index]
            product = (array * factor.reshape(-1, *[1] * (array.ndim - 1))).astype(np.float32)
            layer.inputs[index] = constant(graph, f"{old.name}.scaled", product)
            if not old.outputs:
                layer.inputs[index].name = old.name


def _skip(graph: Graph, node: Node, source: Tensor) -> None:
    """Remove a two-input node whose result is now what `source` holds."""
    if node.inputs[0] is not source:
        node.inputs = [source, node.inputs[0]]
    bypass(graph, node)
