"""Activations in one form.

Max(x, 0) = Clip(x, 0) = Clip(x, 0, inf) = Relu(x);  Clip(x, min, max) with 0-d bounds;  LeakyRelu with its alpha
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.canonical.surgery import Graph, Node, constant, error, given, set_node, values

_DEFAULT_SLOPE = 0.01
_PAIR = 2


def activations(graph: Graph) -> list[str]:
    """Write activations with their parameters made explicit."""
    for node in graph.nodes:
        if node.op == "Max" and len(node.inputs) == _PAIR:
            _max(node)
        elif node.op == "Clip":
            _clip(graph, node)
        elif node.op == "LeakyRelu":
            node.attrs = {"alpha": node.attrs.get("alpha", _DEFAULT_SLOPE)}
    return []


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
