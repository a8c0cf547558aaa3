"""Batches stay axis 0: a Reshape that folds axes into the batch moves behind the ops that do not mind.

With fold: [batch, a, .., rest] -> [batch * a * .., rest] and f an op that works on the rest alone,
f(fold(x)) = fold(f(x)): element-wise ops, Softmax and LayerNormalization over the last axis, MatMul and Gemm by a
constant, MatMul of two folds of the same axes, Transpose that leaves axis 0. In the end fold meets unfold, and both go.
Exporters fold tokens around every linear layer (jax2onnx, Keras, onnxsim) and heads around every attention (Keras).
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.canonical.arithmetic import add_constant_behind
from mnx.graphs.canonical.draft import Extent
from mnx.graphs.canonical.reshapes import merged_reshape, plain_reshape, reshape_behind, reshaped, target
from mnx.graphs.canonical.spelling import ELEMENTWISE
from mnx.graphs.canonical.surgery import Graph, Node, Tensor, constant, extents, given, maker, set_node, values
from mnx.graphs.canonical.transposes import ones_behind, plain_transpose
from mnx.graphs.proto import BATCH

_SHAPELESS = frozenset(ELEMENTWISE) | {
    "Cast", "Celu", "Dropout", "Elu", "Gelu", "HardSwish", "LeakyRelu", "Mish", "Not", "Selu", "Softsign", "Where",
}  # fmt: skip
_LAST_AXIS = frozenset({"Softmax", "LogSoftmax", "LayerNormalization"})
_MATRIX_RANK = 2


def axis_moves(graph: Graph) -> list[str]:
    """Bring Reshapes and Transposes to one form, merge them, and free the batch axis of what is folded into it."""
    rules = (plain_reshape, _merged_unless_fold, plain_transpose, ones_behind, _split_fold, _fold_behind)
    for node in list(graph.nodes):
        while node.outputs and any(rule(graph, node) for rule in rules):
            pass
    for node in list(graph.nodes):
        while node.outputs and any(rule(graph, node) for rule in (plain_reshape, merged_reshape)):
            pass
    return []


def _folded(source: tuple[Extent, ...], result: tuple[Extent, ...]) -> int:
    """How many leading axes of `source` are folded into axis 0 of `result`, 0 where none are."""
    if not source or not result or source[0] != BATCH or not isinstance(result[0], str) or result[0] == BATCH:
        return 0
    count = 1
    for axis, size in enumerate(source[1:], 1):
        if not isinstance(size, int):
            return 0
        count *= size
        if result[0] == f"{count}*{BATCH}":
            return axis + 1
    return 0


def _fold_of(tensor: Tensor) -> tuple[Tensor, int] | None:
    """What is folded into this value, and how many of its axes; None where it is no fold."""
    before = maker(tensor)
    if before is None or before.op != "Reshape":
        return None
    source, result = extents(before.inputs[0]), extents(tensor)
    if source is None or result is None:
        return None
    count = _folded(source, result)
    return (before.inputs[0], count) if count and source[count:] == result[1:] else None


def _merged_unless_fold(graph: Graph, node: Node) -> bool:
    """Merge a Reshape with the one before, but leave a fold alone, so that it can move."""
    before = maker(node.inputs[0])
    fold = _fold_of(node.outputs[0])
    if fold is not None and before is not None and extents(before.inputs[0]) != extents(node.outputs[0]):
        return False
    return merged_reshape(graph, node)


def _split_fold(graph: Graph, node: Node) -> bool:
    """A Reshape that folds and changes the rest is one of the rest, and a fold behind it."""
    source, result = extents(node.inputs[0]), extents(node.outputs[0])
    if node.op != "Reshape" or source is None or result is None:
        return False
    count = _folded(source, result)
    if not count or source[count:] == result[1:] or target(source, (*source[:count], *result[1:])) is None:
        return False
    node.inputs[0] = reshaped(graph, node, node.inputs[0], (*source[:count], *result[1:]))
    return True


def _fold_behind(graph: Graph, node: Node) -> bool:
    """f(fold(x), ..) = fold(f(x, ..)); True where it was so and changed."""
    if len(node.outputs) != 1 or not node.inputs or not _works_on_rest(node):
        return False
    folds = [None if values(tensor) is not None or tensor.is_empty() else _fold_of(tensor) for tensor in node.inputs]
    found = [fold for fold in folds if fold is not None]
    result = extents(node.outputs[0])
    leads = {(extents(tensor) or ())[:count] for tensor, count in found}
    if len(leads) != 1 or result is None:
        return False
    lead = next(iter(leads))
    for tensor, fold in zip(node.inputs, folds, strict=True):
        if fold is None and not (tensor.is_empty() or _of_rest(node, tensor, len(result) - 1)):
            return False
    if node.op == "Transpose":
        node.attrs = {"perm": [*range(len(lead)), *(axis - 1 + len(lead) for axis in node.attrs["perm"][1:])]}
    elif node.op in _LAST_AXIS:
        node.attrs["axis"] = -1
    node.inputs = [tensor if fold is None else fold[0] for tensor, fold in zip(node.inputs, folds, strict=True)]
    reshape_behind(graph, node, (*lead, *result[1:]))
    return True


def _works_on_rest(node: Node) -> bool:
    if node.op in _SHAPELESS:
        return True
    rank = len(extents(node.inputs[0]) or ())
    if node.op in _LAST_AXIS:
        return rank >= _MATRIX_RANK and node.attrs.get("axis", -1) in (-1, rank - 1)
    if node.op == "Transpose":
        return bool(node.attrs.get("perm", [1])[0] == 0)
    if node.op == "MatMul":
        return rank >= _MATRIX_RANK
    return False


def _of_rest(node: Node, tensor: Tensor, rest: int) -> bool:
    """Whether an operand is a constant that does not reach the folded axis (of size 1 there, it loses that axis)."""
    array = values(tensor)
    if array is None:
        return False
    if node.op == "MatMul":
        return tensor is node.inputs[1] and array.ndim == _MATRIX_RANK
    return array.ndim <= rest or array.shape[0] == 1


def folded_gemms(graph: Graph) -> list[str]:
    """Write Gemm by a constant on what is folded into the batch as MatMul and Add, so that the fold can move."""
    made: dict[tuple[str, float], Tensor] = {}
    for node in list(graph.nodes):
        if node.op == "Gemm" and values(node.inputs[1]) is not None and not node.attrs.get("transA", 0):
            source = extents(node.inputs[0])
            if source and isinstance(source[0], str) and source[0].endswith(f"*{BATCH}"):
                _as_matmul(graph, node, made)
    return []


def _as_matmul(graph: Graph, node: Node, made: dict[tuple[str, float], Tensor]) -> None:
    alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
    weight, bias = node.inputs[1], node.inputs[2] if given(node, 2) else None
    addend = None if bias is None else values(bias)
    if bias is not None and addend is None:
        return
    turned = bool(node.attrs.get("transB", 0))
    if turned or alpha != 1:
        key = (weight.name, alpha)
        if key not in made:
            array = np.asarray(values(weight))
            made[key] = constant(graph, f"{weight.name}.T", (array.T if turned else array) * np.float32(alpha))
        weight = made[key]
    set_node(node, "MatMul", [node.inputs[0], weight])
    if bias is not None:
        if beta != 1:
            bias = constant(graph, f"{bias.name}.scaled", np.asarray(addend) * np.float32(beta))
        add_constant_behind(graph, node, "Add", bias)
