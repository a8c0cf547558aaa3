"""Arithmetic in one form.

Sum(a, b, c) = Add(Add(a, b), c)     Mean(a, .., k of them) = Mul(Sum(a, ..), 1 / k);  Max, Min: two inputs each
Sub(x, c) = Add(x, -c)     Div(x, c) = Mul(x, 1 / c)     Pow(x, 1/2) = Sqrt(x)     Pow(x, -1) = Reciprocal(x)
Mul(x, x) = Pow(x, 2): one operand read twice troubles whoever builds gradients
Add(c, x) = Add(x, c), Mul likewise: what is computed first, the constant second;  single numbers are 0-d float32
x + 0 = x * 1 = x / 1 = x ^ 1 = x where 0 and 1 are single numbers
Mul(ReduceSum(x), 1 / n) = ReduceMean(x), n elements being summed
Reduce*(x): axes a sorted constant >= 0, keepdims written out;  Softmax: axis -1 where it is the last one, else >= 0
"""

from __future__ import annotations

import math

import numpy as np
from onnx import defs

from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    Tensor,
    bypass,
    constant,
    extents,
    given,
    insert_before,
    insert_behind,
    set_node,
    sole_reader,
    values,
)
from mnx.graphs.model import Array

_CHAINED = {"Sum": "Add", "Add": "Add", "Max": "Max", "Min": "Min", "Mean": "Add"}
_COMMUTING = frozenset({"Add", "Mul", "Max", "Min"})
_WITH_NUMBERS = frozenset({"Add", "Mul", "Max", "Min", "Pow", "Sub", "Div"})
_NEUTRAL = {"Add": 0.0, "Mul": 1.0, "Pow": 1.0}
_SOFTMAX = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
_DEFAULTS = {
    "Elu": ("alpha",),
    "Celu": ("alpha",),
    "Selu": ("alpha", "gamma"),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}
_PAIR = 2
_ROUNDING = 1e-6


def arithmetic(graph: Graph) -> list[str]:
    """Write arithmetic, reductions and their constants in one form."""
    for node in list(graph.nodes):
        if node.op in _CHAINED and len(node.inputs) > 1:
            _chain(graph, node)
    for node in list(graph.nodes):
        if node.op in _WITH_NUMBERS and len(node.inputs) == _PAIR and node.outputs[0].dtype == np.float32:
            _float_pair(graph, node)
        elif node.op.startswith("Reduce") and len(node.outputs) == 1:
            _reduction(graph, node)
        elif node.op in _SOFTMAX:
            _softmax(node)
        elif node.op in _DEFAULTS:
            _attributes(node)
        elif node.op == "PRelu":
            _slope(graph, node)
        elif node.op == "Gelu":
            node.attrs = {"approximate": node.attrs.get("approximate", "none")}
    for node in [node for node in graph.nodes if node.op == "ReduceSum"]:
        _mean(graph, node)
    return []


def _chain(graph: Graph, node: Node) -> None:
    pair, inputs, average = _CHAINED[node.op], list(node.inputs), node.op == "Mean"
    shape, count = extents(node.outputs[0]), len(inputs)
    if count == _PAIR and not average:
        node.op = pair
        return
    first = inputs[0]
    for other in inputs[1 : count - (not average)]:
        between = shape if extents(first) == shape or extents(other) == shape else None
        first = insert_before(graph, node, pair, [first, other], between)
    if average:
        share = constant(graph, f"{node.outputs[0].name}.share", np.array(1 / count, dtype=np.float32))
        set_node(node, "Mul", [first, share])
    else:
        set_node(node, pair, [first, inputs[-1]])


def _float_pair(graph: Graph, node: Node) -> None:
    left, right = (values(tensor) for tensor in node.inputs)
    if left is not None and right is None and node.op in _COMMUTING:
        node.inputs = [node.inputs[1], node.inputs[0]]
        left, right = right, left
    if right is not None:
        _by_constant(graph, node, right)
    elif node.inputs[0] is node.inputs[1] and node.op == "Mul":
        two = constant(graph, f"{node.outputs[0].name}.exponent", np.array(2, dtype=np.float32))
        set_node(node, "Pow", [node.inputs[0], two])
    elif left is not None:
        node.inputs[0] = _number(graph, node.inputs[0], node.inputs[1])


def _by_constant(graph: Graph, node: Node, array: Array) -> None:
    if node.op == "Sub":
        node.op, node.inputs[1] = "Add", constant(graph, f"{node.inputs[1].name}.negative", -array)
    elif node.op == "Div" and array.all():
        inverse = (1 / array.astype(np.float64)).astype(np.float32)
        node.op, node.inputs[1] = "Mul", constant(graph, f"{node.inputs[1].name}.inverse", inverse)
    node.inputs[1] = _number(graph, node.inputs[1], node.inputs[0])
    array = np.asarray(values(node.inputs[1]))
    if array.shape:
        return
    if node.op == "Pow" and array.item() in (0.5, -1.0):
        set_node(node, "Sqrt" if array > 0 else "Reciprocal", node.inputs[:1])
    elif node.op in _NEUTRAL and array == _NEUTRAL[node.op] and extents(node.inputs[0]) == extents(node.outputs[0]):
        bypass(graph, node)


def _number(graph: Graph, tensor: Tensor, other: Tensor) -> Tensor:
    """A constant of one element as 0-d float32, unless it adds axes to the result or is a layer's one feature."""
    array, shape = np.asarray(values(tensor)), extents(other)
    single = array.size == 1 and shape is not None and array.ndim <= len(shape)
    feature = array.ndim == 1 and shape is not None and shape[-1] == 1
    if not single or feature or (not array.shape and array.dtype == np.float32):
        return tensor
    return constant(graph, f"{tensor.name}.number", array.reshape(()).astype(np.float32))


def _reduction(graph: Graph, node: Node) -> None:
    source = extents(node.inputs[0])
    axes = values(node.inputs[1]) if given(node, 1) else np.array([], dtype=np.int64)
    if source is None or axes is None:
        return
    if not axes.size and node.attrs.get("noop_with_empty_axes", 0):
        if node.op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"):
            bypass(graph, node)
        return
    wanted = sorted({int(axis) % len(source) for axis in axes}) if axes.size else list(range(len(source)))
    if not given(node, 1) or axes.tolist() != wanted:
        tensor = constant(graph, f"{node.outputs[0].name}.axes", np.array(wanted, dtype=np.int64))
        node.inputs = [node.inputs[0], tensor]
    node.attrs = {"keepdims": node.attrs.get("keepdims", 1)}


def _mean(graph: Graph, node: Node) -> None:
    """A sum that is only read to be divided by the number of its elements is a mean."""
    reader, source = sole_reader(graph, node.outputs[0]), extents(node.inputs[0])
    axes = values(node.inputs[1]) if given(node, 1) else None
    factor = None if reader is None or reader.op != "Mul" else values(reader.inputs[1])
    if axes is None or source is None or factor is None or factor.size != 1 or reader is None:
        return
    sizes = [source[axis] for axis in axes]
    if not all(isinstance(size, int) for size in sizes) or extents(reader.outputs[0]) != extents(node.outputs[0]):
        return
    if abs(factor.item() * math.prod(map(int, sizes)) - 1) < _ROUNDING and bypass(graph, reader):
        node.op = "ReduceMean"


def _softmax(node: Node) -> None:
    shape, axis = extents(node.inputs[0]), node.attrs.get("axis", -1)
    if shape is not None:
        axis %= len(shape)
        axis = -1 if axis == len(shape) - 1 else axis
    node.attrs = {"axis": axis}


def _attributes(node: Node) -> None:
    known = defs.get_schema(node.op).attributes
    node.attrs = {name: node.attrs.get(name, known[name].default_value.f) for name in _DEFAULTS[node.op]}
    if node.op == "Celu" and node.attrs["alpha"] == 1:
        node.op = "Elu"


def _slope(graph: Graph, node: Node) -> None:
    """A PRelu's slope has every axis of its input but the batch."""
    slope, shape = values(node.inputs[1]), extents(node.inputs[0])
    if slope is None or shape is None:
        return
    full = slope.reshape((1,) * max(0, len(shape) - 1 - slope.ndim) + slope.shape)
    if full.ndim == len(shape) and full.shape[0] == 1:
        full = full[0]
    if full.shape != slope.shape:
        node.inputs[1] = constant(graph, f"{node.inputs[1].name}.slope", full)


def add_constant_behind(graph: Graph, node: Node, op: str, tensor: Tensor) -> Node:
    """Insert op(., constant) behind `node`, over its output's name and readers."""
    added = insert_behind(graph, node, op, extents(node.outputs[0]) or ())
    added.inputs.append(tensor)
    return added
