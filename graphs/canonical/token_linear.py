"""Linear layers on values of rank 3 and more: MatMul(x, w) with w of shape (in, out), then Add(., b) with b of (out).

MatMul(x, w) = Add(MatMul(x, w), 0)     Add(c, MatMul(x, w)) = Add(MatMul(x, w), c)     b of [1, .., out] = b of [out]
Add(Reshape(MatMul(x, w)), c) = Reshape(Add(MatMul(x, w), c)) where the Reshape splits the last axis and c has its parts
w of [1, .., in, out] = w of [in, out].  A weight that layers share stays shared; a bias is its layer's own.
"""

from __future__ import annotations

import math

import numpy as np

from mnx.graphs.canonical.arithmetic import add_constant_behind
from mnx.graphs.canonical.naming import parameter_name
from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    Tensor,
    bypass,
    constant,
    extents,
    sole_reader,
    values,
)
from mnx.graphs.model import Array

_TOKENS_RANK = 3
_MATRIX_RANK = 2
_BIAS = 2


def token_linear(graph: Graph) -> list[str]:
    """Give every MatMul by a constant on rank 3 and more a matrix and an explicit bias."""
    flat: dict[str, Tensor] = {}
    missing, merged = [], []
    for node in list(graph.nodes):
        width = _width(graph, node, flat)
        if width is None:
            continue
        add = _own_bias(graph, node, width)
        found = add is not None
        if add is None:
            zeros = constant(graph, parameter_name(node, _BIAS), np.zeros(width, dtype=np.float32))
            add = add_constant_behind(graph, node, "Add", zeros)
        count = found + _merge_addends(graph, add, width)
        missing += [node.name] * (count == 0)
        merged += [node.name] * (count > 1)
    changes = [f"constants added behind {name!r} taken into its bias" for name in merged]
    return changes + ([f"missing biases made explicit as zeros: {', '.join(missing)}"] if missing else [])


def _width(graph: Graph, node: Node, flat: dict[str, Tensor]) -> int | None:
    """The output features of a MatMul by a constant on rank 3 and more, whose weight is then of rank 2; else None."""
    if node.op != "MatMul" or values(node.inputs[0]) is not None:
        return None
    weight, source = values(node.inputs[1]), extents(node.inputs[0])
    if weight is None or source is None or len(source) < _TOKENS_RANK or weight.dtype != np.float32:
        return None
    if weight.ndim < _MATRIX_RANK or weight.ndim > len(source) or math.prod(weight.shape[:-2]) != 1:
        return None
    if weight.ndim > _MATRIX_RANK:
        old = node.inputs[1]
        if old.name not in flat:
            flat[old.name] = constant(graph, f"{old.name}.matrix", weight.reshape(weight.shape[-2:]))
        node.inputs[1] = flat[old.name]
    return int(weight.shape[-1])


def _own_bias(graph: Graph, node: Node, width: int) -> Node | None:
    """The Add that alone reads the MatMul and adds a bias, brought to its form; None where there is none."""
    add, result = sole_reader(graph, node.outputs[0]), extents(node.outputs[0])
    if add is None or add.op != "Add" or result is None or extents(add.outputs[0]) != result:
        return None
    other = _other(add, node.outputs[0])
    bias = _per_feature(other, result, 1, width)
    if bias is None:
        return None
    if np.asarray(values(other)).shape != bias.shape:
        wish, own = other.name, len(other.outputs) == 1
        other = constant(graph, f"{wish}.bias", bias)
        add.inputs = [node.outputs[0], other]
        other.name = wish if own else other.name
    add.inputs = [node.outputs[0], other]
    return add


def _merge_addends(graph: Graph, add: Node, width: int) -> int:
    """Take what is added behind a layer's bias, also behind a Reshape that splits its features, into it; how many."""
    count, result = 0, extents(add.outputs[0]) or ()
    while True:
        reader, source = sole_reader(graph, add.outputs[0]), add.outputs[0]
        if reader is not None and reader.op == "Reshape" and _splits(reader, width):
            source = reader.outputs[0]
            reader = sole_reader(graph, source)
        shape = extents(source) or ()
        if reader is None or reader.op != "Add" or extents(reader.outputs[0]) != shape:
            return count
        other = _other(reader, source)
        addend = _per_feature(other, shape, len(shape) - len(result) + 1, width)
        if addend is None:
            return count
        wish = other.name if len(other.outputs) == 1 and not np.asarray(values(add.inputs[1])).any() else None
        reader.inputs = [source, other]
        if not bypass(graph, reader):
            return count
        old = add.inputs[1]
        add.inputs[1] = constant(graph, f"{old.name}.sum", np.asarray(values(old)) + addend)
        add.inputs[1].name = wish or old.name if len(old.outputs) == 0 else add.inputs[1].name
        count += 1


def _other(node: Node, tensor: Tensor) -> Tensor:
    """The operand of a two-operand node that is not `tensor`."""
    return node.inputs[1] if node.inputs[0] is tensor else node.inputs[0]


def _splits(node: Node, width: int) -> bool:
    """Whether a Reshape only splits the last axis."""
    source, result = extents(node.inputs[0]), extents(node.outputs[0])
    if source is None or result is None or len(result) <= len(source) or source[:-1] != result[: len(source) - 1]:
        return False
    parts = result[len(source) - 1 :]
    return all(isinstance(size, int) for size in parts) and math.prod(map(int, parts)) == width


def _per_feature(tensor: Tensor, shape: tuple[int | str, ...], parts: int, width: int) -> Array | None:
    """A constant that differs along the last `parts` axes only, as [out]; None otherwise."""
    array = values(tensor)
    if array is None or array.dtype != np.float32 or array.ndim > len(shape):
        return None
    aligned = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    lead = len(shape) - parts
    if math.prod(aligned.shape[:lead]) != 1:
        return None
    sizes = tuple(int(size) for size in shape[lead:])
    column = np.broadcast_to(aligned.reshape(aligned.shape[lead:]), sizes).reshape(-1)
    return np.ascontiguousarray(column) if column.size == width else None
