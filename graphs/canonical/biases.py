"""Biases of Conv and Gemm.

Add(layer(x, w[, b]), c) with c constant along all but the channels = layer(x, w, b + c)
BatchNormalization(layer(x, w, b); mean) = BatchNormalization(layer(x, w); mean - b), where it alone reads the layer
layer(x, w) = layer(x, w, 0) everywhere else
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
    error,
    extents,
    given,
    sole_reader,
    values,
)
from mnx.graphs.model import Array

_LAYERS = frozenset({"Conv", "Gemm"})
_CHANNELS = 1
_MEAN = 3


def added_biases(graph: Graph) -> list[str]:
    """Take constants added behind a layer into its bias."""
    changes = []
    for node in [node for node in graph.nodes if _has_weight(node)]:
        _plain_bias(graph, node)
        reader = sole_reader(graph, node.outputs[0])
        while reader is not None and reader.op == "Add":
            other = reader.inputs[1] if reader.inputs[0] is node.outputs[0] else reader.inputs[0]
            addend = _per_channel(other, node)
            if addend is None:
                break
            if given(node, 2):
                addend = values(node.inputs[2]) + addend
                changes.append(f"constant added behind {node.name!r} taken into its bias")
            wish = other.name if not given(node, 2) and len(other.outputs) == 1 else parameter_name(node, 2)
            _skip(graph, reader, node.outputs[0])
            node.inputs = [*node.inputs[:2], constant(graph, wish, addend)]
            reader = sole_reader(graph, node.outputs[0])
    return changes


def norm_biases(graph: Graph) -> list[str]:
    """Fold the bias of a layer that only feeds a BatchNormalization into the running mean."""
    folded = []
    for node in [node for node in graph.nodes if _has_weight(node)]:
        reader = sole_reader(graph, node.outputs[0])
        if reader is None or reader.op != "BatchNormalization" or not given(node, 2):
            continue
        bias, mean = values(node.inputs[2]), values(reader.inputs[_MEAN])
        if bias is None or mean is None:
            continue
        node.inputs = node.inputs[:2]
        if bias.any():
            old = reader.inputs[_MEAN]
            wish = old.name if len(old.outputs) == 1 else parameter_name(reader, _MEAN)
            del reader.inputs[_MEAN]
            reader.inputs.insert(_MEAN, constant(graph, wish, mean - bias))
            folded.append(node.name)
    return [f"biases folded into the running mean behind them: {', '.join(folded)}"] if folded else []


def explicit_biases(graph: Graph) -> list[str]:
    """Give every layer without a bias one of zeros, unless it only feeds a BatchNormalization."""
    added = []
    for node in [node for node in graph.nodes if _has_weight(node) and not given(node, 2)]:
        reader = sole_reader(graph, node.outputs[0])
        if reader is None or reader.op != "BatchNormalization":
            zeros = np.zeros(_width(node), dtype=np.float32)
            node.inputs = [*node.inputs[:2], constant(graph, parameter_name(node, 2), zeros)]
            added.append(node.name)
    return [f"missing biases made explicit as zeros: {', '.join(added)}"] if added else []


def _has_weight(node: Node) -> bool:
    return node.op in _LAYERS and values(node.inputs[1]) is not None


def _width(node: Node) -> int:
    return int(node.inputs[1].shape[0])


def _plain_bias(graph: Graph, node: Node) -> None:
    """A Gemm's bias may be a number, [1], [1, out] or [out]; afterwards it is [out]."""
    if not given(node, 2):
        node.inputs = node.inputs[:2]
        return
    old = node.inputs[2]
    given_as = values(old)
    bias = given_as if node.op == "Conv" else _per_channel(old, node)
    if bias is None or given_as is None:
        raise error(graph, node, "has a bias that is computed or differs within the batch, which has no rule")
    if given_as.shape != bias.shape:
        node.inputs[2] = constant(graph, f"{old.name}.flat", bias)
        if not old.outputs:
            node.inputs[2].name = old.name


def _per_channel(tensor: Tensor, node: Node) -> Array | None:
    """A constant that broadcasts over the layer's output as one number per channel, as [out]; None otherwise."""
    array, result = values(tensor), extents(node.outputs[0])
    if array is None or result is None or array.ndim > len(result) or array.dtype != np.float32:
        return None
    aligned = array.reshape((1,) * (len(result) - array.ndim) + array.shape)
    if any(size != 1 for axis, size in enumerate(aligned.shape) if axis != _CHANNELS):
        return None
    column = aligned.reshape(-1)
    return np.ascontiguousarray(np.broadcast_to(column, (_width(node),))) if column.size in (1, _width(node)) else None


def _skip(graph: Graph, node: Node, source: Tensor) -> None:
    """Remove an Add whose result takes the place of the layer's own output."""
    if node.inputs[0] is not source:
        node.inputs = [source, node.inputs[0]]
    bypass(graph, node)
