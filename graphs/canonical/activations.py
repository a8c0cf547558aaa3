"""Activations in one form.

Max(x, 0) = Clip(x, 0) = Clip(x, 0, inf) = Relu(x);  Clip(x, min, max) with 0-d bounds;  LeakyRelu with its alpha
Min(Max(x, a), b) = Max(Min(x, b), a) = Clip(x, a, b), a <= b being numbers;  Min(Relu(x), b) = Clip(x, 0, b), b >= 0
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    Tensor,
    constant,
    error,
    extents,
    given,
    maker,
    remove,
    set_node,
    sole_reader,
    values,
)

_DEFAULT_SLOPE = 0.01
_PAIR = 2
_EXTREMES = frozenset({"Max", "Min"})


def activations(graph: Graph) -> list[str]:
    """Write activations with their parameters made explicit."""
    for node in list(graph.nodes):
        if node.op in _EXTREMES and len(node.inputs) == _PAIR:
            _limits(graph, node)
    for node in graph.nodes:
        if node.op == "Max" and len(node.inputs) == _PAIR:
            _max(node)
        elif node.op == "Clip":
            _clip(graph, node)
        elif node.op == "LeakyRelu":
            node.attrs = {"alpha": node.attrs.get("alpha", _DEFAULT_SLOPE)}
    return []


def _limits(graph: Graph, node: Node) -> None:
    """Two limits in a row, the first of them read here only, as one Clip."""
    first = _limit(node)
    if first is None:
        return
    before, reader = maker(first[0]), sole_reader(graph, first[0])
    if before is None or before.op == node.op or reader is None:
        return
    zero = constant(graph, f"{node.outputs[0].name}.min", np.array(0, dtype=np.float32))
    second = (before.inputs[0], zero) if before.op == "Relu" and node.op == "Min" else _limit(before)
    if second is None:
        return
    low, high = (first[1], second[1]) if node.op == "Max" else (second[1], first[1])
    if float(np.asarray(values(low)).item()) > float(np.asarray(values(high)).item()):
        return
    remove(graph, before)
    set_node(node, "Clip", [second[0], low, high])


def _limit(node: Node) -> tuple[Tensor, Tensor] | None:
    """What a Max or Min by one number limits, and the number."""
    if node.op not in _EXTREMES or len(node.inputs) != _PAIR:
        return None
    for index in (0, 1):
        x, bound = node.inputs[1 - index], node.inputs[index]
        number = values(bound)
        if number is not None and number.size == 1 and x.dtype == np.float32 and values(x) is None:
            return (x, bound) if extents(x) == extents(node.outputs[0]) else None
    return None


def _max(node: Node) -> None:
    for index in (0, 1):
        bound = values(node.inputs[index])
        if bound is not None and bound.size == 1 and not bound.any():
            set_node(node, "Relu", [node.inputs[1 - index]])
            return


def _clip(graph: Graph, node: Node) -> None:
    bounds = []
    for index, word, unbounded in ((1, "min", -np.inf), (2, "max", np.inf)):
        bound = values(node.inputs[index]) if given(node, index) else np.array(unbounded)
        if bound is None:
            raise error(graph, node, "has bounds that are computed: give it fixed ones")
        if given(node, index) and not bound.shape:
            bounds.append(node.inputs[index])
        else:
            bounds.append(constant(graph, f"{node.outputs[0].name}.{word}", bound.reshape(()).astype(np.float32)))
    if values(bounds[0]) == 0 and values(bounds[1]) == np.inf:
        set_node(node, "Relu", node.inputs[:1])
        return
    node.inputs = [node.inputs[0], *bounds]
