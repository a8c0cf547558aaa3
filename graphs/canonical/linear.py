"""Linear layers on [batch, features] as Gemm with a weight of shape (out, in).

MatMul(x, w) = Gemm(x, w^T)     Gemm(x, w, b; alpha, beta, transB) = Gemm(x, alpha w', beta b), w' = w or w^T
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.canonical.surgery import Graph, Node, Tensor, constant, error, extents, given, values
from mnx.graphs.model import Array

_MATRIX_RANK = 2


def linear_layers(graph: Graph) -> list[str]:
    """Write MatMul by a constant matrix and every Gemm as x w^T + b; weights that several layers share stay shared."""
    made: dict[tuple[str, float, bool], tuple[Tensor, Tensor]] = {}
    changes = []
    for node in graph.nodes:
        matrix = _matrix(node)
        if matrix is None:
            continue
        alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
        turn = not node.attrs.get("transB", 0)
        weight = node.inputs[1]
        if turn or alpha != 1:
            key = (weight.name, alpha, turn)
            if key not in made:
                made[key] = (weight, constant(graph, f"{weight.name}.T", _scaled(matrix.T if turn else matrix, alpha)))
            node.inputs[1] = made[key][1]
        if given(node, 2) and beta != 1:
            bias = values(node.inputs[2])
            if bias is None:
                raise error(graph, node, "adds what is computed with a factor beta, which has no rule")
            node.inputs[2] = constant(graph, f"{node.inputs[2].name}.scaled", _scaled(bias, beta))
        if (alpha, beta) != (1.0, 1.0):
            changes.append(f"factors alpha={alpha:g}, beta={beta:g} of {node.name!r} multiplied into its parameters")
        node.op, node.attrs = "Gemm", {"transB": 1}
    for old, new in made.values():
        if not old.outputs and old.name not in graph.tensors():
            new.name = old.name
    return changes


def _matrix(node: Node) -> Array | None:
    """The constant matrix that a Gemm or MatMul applies to [batch, features], None where it does something else."""
    if node.op not in ("MatMul", "Gemm") or values(node.inputs[0]) is not None:
        return None
    weight, source = values(node.inputs[1]), extents(node.inputs[0])
    if weight is None or weight.ndim != _MATRIX_RANK or source is None or len(source) != _MATRIX_RANK:
        return None
    return weight


def _scaled(array: Array, factor: float) -> Array:
    return array if factor == 1 else (array * np.float32(factor)).astype(array.dtype)
