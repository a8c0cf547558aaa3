"""Normalisation over the last axis, whole or written out in arithmetic.

LayerNormalization(x; scale, bias) = (x - m) / sqrt(v + eps) * scale + bias,  m = mean x,  v = mean (x - m)^2
RMSNorm(x; scale)                  = x / sqrt(mean x^2 + eps) * scale

Both are found by what they compute (`spelling`): eps is the number added ahead of the square root; at x = 0 the result
is the bias; scale = (f(x) - bias) sqrt(v + eps) / (x - m) at one x; then f must agree with the formula, in float64, on
inputs of many sizes, small ones among them where eps counts. Scale and bias must each be a constant of the spelling
(or 1 and 0), so that a factor behind the layer is not taken into it. All this with random numbers in place of their
own: what a layer is does not depend on weights, which may be 0.

Opset 21 has no RMSNormalization. Its one spelling in the dialect is
    Pow(x, 2) -> ReduceMean(axes = [last], keepdims = 1) -> Add(eps) -> Sqrt -> Div(x, .) -> Mul(scale)
A missing scale or bias is made explicit, of ones or zeros; epsilon and axis are written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnx.graphs.canonical.naming import parameter_name
from mnx.graphs.canonical.spelling import (
    ELEMENTWISE,
    Spelling,
    absorb,
    closed,
    constants_of,
    evaluate,
    order_of,
    reduces_last,
    spellings,
)
from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    Tensor,
    constant,
    error,
    extents,
    given,
    insert_before,
    is_output,
    maker,
    set_node,
    values,
)
from mnx.graphs.model import Array

_EPSILON = 1e-5
_TOLERANCE = 1e-6
_SIZES = (1e3, 30.0, 1.0, 0.1, 1e-2, 1e-3)
_RMS_OPS = ["Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]
_MOST_EPSILON = 0.1


@dataclass(frozen=True)
class _Norm:
    """A normalisation; `scale` and `bias` are constants of the spelling, None for ones and zeros."""

    centred: bool
    epsilon: float
    scale: Tensor | None
    bias: Tensor | None


def layer_norms(graph: Graph) -> list[str]:
    """Write every normalisation over the last axis in its one form."""
    order, gone = order_of(graph), set()
    for end in reversed(list(graph.nodes)):
        if end.op == "LayerNormalization":
            _plain(graph, end)
        if id(end) in gone or end.op not in ("Add", "Sub", "Mul", "Div") or not _allowed(end):
            continue
        found = _first_norm(graph, list(spellings(end, order, _allowed)))
        if found is not None:
            gone |= {id(node) for node in found[0].nodes}
            _write(graph, *found)
    return []


def _first_norm(graph: Graph, candidates: list[Spelling]) -> tuple[Spelling, _Norm] | None:
    """The first spelling that normalises; one that centres first, for it ends in an RMSNorm of what is centred."""
    for apart in (True, False):
        for centred in (True, False):
            for spelling in candidates:
                norm = _recognised(graph, spelling, centred, apart)
                if norm is not None:
                    return spelling, norm
    return None


def _plain(graph: Graph, node: Node) -> None:
    source = extents(node.inputs[0])
    for extra in node.outputs[1:]:
        if extra.outputs or is_output(graph, extra):
            raise error(graph, node, "gives its mean or deviation to others, which has no rule")
    node.outputs = node.outputs[:1]
    axis = node.attrs.get("axis", -1)
    if source is not None:
        axis = axis - len(source) if axis >= 0 else axis
        if not all(isinstance(size, int) for size in source[axis:]):
            raise error(graph, node, "normalises over an axis of unknown size")
        shape = tuple(int(size) for size in source[axis:])
        for index, default in ((1, 1.0), (2, 0.0)):
            array = values(node.inputs[index]) if given(node, index) else np.full(shape, default, np.float32)
            if array is None:
                continue
            if not given(node, index):
                node.inputs = [*node.inputs[:index], constant(graph, parameter_name(node, index), array)]
            elif array.shape != shape:
                full = np.ascontiguousarray(np.broadcast_to(array, (1,) * (array.ndim - len(shape)) + shape))
                node.inputs[index] = constant(graph, parameter_name(node, index), full.reshape(shape))
    node.attrs = {"axis": axis, "epsilon": node.attrs.get("epsilon", _EPSILON)}


def _allowed(node: Node) -> bool:
    """Whether the node may be part of a normalisation over the last axis."""
    if node.op in ELEMENTWISE and len(node.outputs) == 1:
        result = extents(node.outputs[0])
        width = result[-1] if result else None
        return result is not None and all(_fits(tensor, len(result), width) for tensor in node.inputs)
    return reduces_last(node)


def _fits(tensor: Tensor, rank: int, width: object) -> bool:
    """Whether an operand has the full rank, or is a constant that differs along the last axis only."""
    array = values(tensor)
    if array is None:
        shape = None if tensor.is_empty() else extents(tensor)
        return shape is not None and len(shape) == rank and tensor.dtype == np.float32
    return array.dtype.kind in "fi" and array.ndim <= rank and array.size in (1, array.shape[-1] if array.ndim else 1)


def _recognised(graph: Graph, spelling: Spelling, centred: bool, apart: bool) -> _Norm | None:
    """The normalisation that a spelling computes, None where it computes something else.

    `apart`: whether constants of equal numbers may be told apart; some exporters write one twice.
    """
    source, result = extents(spelling.source), extents(spelling.result)
    if source is None or source != result or len(source) < 2 or not isinstance(source[-1], int):
        return None
    epsilon, width = _epsilon(spelling), source[-1]
    if epsilon is None or width == 1 or not any(map(reduces_last, spelling.nodes)) or not closed(graph, spelling):
        return None
    vectors = [tensor for tensor in constants_of(spelling) if _size(tensor) != 1]
    if any(_size(tensor) != width for tensor in vectors):
        return None
    return _fitted(spelling, centred, epsilon, width, _drawn(vectors, width, apart))


def _size(tensor: Tensor) -> int:
    array = values(tensor)
    return 0 if array is None else array.size


def _drawn(vectors: list[Tensor], width: int, apart: bool) -> list[tuple[Tensor, Array]]:
    """Every vector with random numbers in place of its own."""
    random, drawn = np.random.default_rng(1), dict[object, Array]()
    found = []
    for tensor in vectors:
        key = id(tensor) if apart else np.asarray(values(tensor)).reshape(-1).tobytes()
        if key not in drawn:
            drawn[key] = 0.5 + random.random(width)
        found.append((tensor, drawn[key]))
    return found


def _fitted(
    spelling: Spelling, centred: bool, epsilon: float, width: int, offered: list[tuple[Tensor, Array]]
) -> _Norm | None:
    random = np.random.default_rng(0)
    others = {id(tensor): array for tensor, array in offered}
    bias = _one_of(evaluate(spelling, np.zeros((1, width)), others).reshape(-1), offered, 0.0)
    if bias is None or (not centred and bias[0] is not None):
        return None
    probe = np.where(np.arange(width) % 2, 1.0, -1.0) * (2 + random.random(width)) + (0.5 if centred else 0.0)
    quotient = (evaluate(spelling, probe[None], others) - bias[1]) / _normal(probe[None], centred, epsilon)
    scale = _one_of(quotient.reshape(-1), offered, 1.0)
    if scale is None:
        return None
    sizes = [(size, shift * size) for size in _SIZES for shift in (0, 1)]
    x = np.concatenate([random.standard_normal((2, width)) * size + shift for size, shift in sizes])
    wanted = _normal(x, centred, epsilon) * scale[1] + bias[1]
    bound = _TOLERANCE * max(1.0, float(np.abs(wanted).max()))
    found = evaluate(spelling, x, others)
    if found.shape != wanted.shape or not bool(np.all(np.abs(found - wanted) <= bound)):
        return None
    return _Norm(centred, epsilon, scale[0], bias[0])


def _normal(x: Array, centred: bool, epsilon: float) -> Array:
    y = x - x.mean(-1, keepdims=True) if centred else x
    return np.asarray(y / np.sqrt((y * y).mean(-1, keepdims=True) + epsilon))


def _one_of(found: Array, offered: list[tuple[Tensor, Array]], default: float) -> tuple[Tensor | None, Array] | None:
    """The constant of the spelling that the numbers are, or none where all are the default."""
    choices: list[tuple[Tensor | None, Array]] = [*offered, (None, np.full(found.shape, default))]
    for tensor, array in choices:
        if array.shape == found.shape and np.allclose(found, array, rtol=_TOLERANCE, atol=_TOLERANCE):
            return tensor, array
    return None


def _epsilon(spelling: Spelling) -> float | None:
    """The one small number that is added to what then goes into a square root."""
    found = set()
    for node in spelling.nodes:
        exponent = values(node.inputs[1]) if node.op == "Pow" else None
        if node.op == "Sqrt" or (exponent is not None and exponent.size == 1 and abs(float(exponent.item())) == 0.5):
            inner = maker(node.inputs[0])
            if inner is None or inner.op != "Add":
                return None
            found |= {array.item() for array in map(values, inner.inputs) if array is not None and array.size == 1}
    number = next(iter(found)) if len(found) == 1 else None
    return float(number) if number is not None and 0 < number < _MOST_EPSILON else None


def _write(graph: Graph, spelling: Spelling, norm: _Norm) -> None:
    if spelling.ops == _RMS_OPS and not norm.centred and _as_written(spelling):
        return
    x, shape = spelling.source, extents(spelling.source) or ()
    width = int(shape[-1])
    parameters = [
        (_array(norm.scale, width, 1.0), _name(norm.scale)),
        (_array(norm.bias, width, 0.0), _name(norm.bias)),
    ]
    end = absorb(graph, spelling)
    if norm.centred:
        set_node(end, "LayerNormalization", [x], axis=-1, epsilon=norm.epsilon)
        for index, (array, name) in enumerate(parameters, start=1):
            end.inputs.append(constant(graph, name or parameter_name(end, index), array))
        return
    two = constant(graph, f"{end.outputs[0].name}.exponent", np.array(2, dtype=np.float32))
    last = constant(graph, f"{end.outputs[0].name}.axes", np.array([len(shape) - 1], dtype=np.int64))
    small = constant(graph, f"{end.outputs[0].name}.epsilon", np.array(norm.epsilon, dtype=np.float32))
    one = (*shape[:-1], 1)
    square = insert_before(graph, end, "Pow", [x, two], shape)
    mean = insert_before(graph, end, "ReduceMean", [square, last], one, keepdims=1)
    root = insert_before(graph, end, "Sqrt", [insert_before(graph, end, "Add", [mean, small], one)], one)
    normal = insert_before(graph, end, "Div", [x, root], shape)
    set_node(end, "Mul", [normal])
    scale, name = parameters[0]
    end.inputs.append(constant(graph, name or f"{end.name}.scale", scale))


def _as_written(spelling: Spelling) -> bool:
    """Whether an RMSNorm with these ops has its operands in the dialect's order and shape."""
    power, mean, add, _, div, mul = spelling.nodes
    scale, width = values(mul.inputs[1]), (extents(spelling.source) or (None,))[-1]
    ordered = power.inputs[0] is spelling.source is div.inputs[0] and add.inputs[0] is mean.outputs[0]
    return ordered and mul.inputs[0] is div.outputs[0] and scale is not None and scale.shape == (width,)


def _array(tensor: Tensor | None, width: int, default: float) -> Array:
    """The numbers of a scale or bias, as a vector of its own."""
    array = None if tensor is None else values(tensor)
    return np.full(width, default, np.float32) if array is None else array.reshape(-1).astype(np.float32)


def _name(tensor: Tensor | None) -> str | None:
    """The name of a constant that is read here only."""
    return str(tensor.name) if tensor is not None and len(tensor.outputs) == 1 else None
