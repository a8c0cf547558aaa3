"""Nodes that pass a value through unchanged, and training-time bookkeeping.

Identity(x) = x;  Cast(x) = x to its own type;  Concat(x), Sum(x), Mean(x), Max(x), Min(x) = x of one input
Reshape, Flatten, Squeeze, Unsqueeze, Expand = x where the shape stays;  Transpose = x where the order stays
AveragePool, MaxPool = x with a 1x1 window at stride 1 without pads;  Dropout = x with ratio 0
Dropout(x, ratio, training_mode) -> Dropout(x, ratio): ratio an own 0-d float32, no mask
BatchNormalization(x, ..., training_mode=1) with updated statistics -> one output, running statistics
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.canonical.surgery import Graph, Node, bypass, constant, error, extents, given, is_output, values

_RESHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"})
_VARIADIC = frozenset({"Concat", "Sum", "Mean", "Max", "Min"})
_POOLS = frozenset({"AveragePool", "MaxPool"})
_DEFAULT_RATIO = 0.5


def drop_identities(graph: Graph) -> list[str]:
    """Remove what passes its input through."""
    for node in list(graph.nodes):
        if _passes_through(node):
            bypass(graph, node)
    return []


def drop_dead(graph: Graph) -> list[str]:
    """Remove nodes that no output needs, such as those that computed the target of what is now a Flatten."""
    graph.cleanup(remove_unused_node_outputs=False, remove_unused_graph_inputs=False)
    return []


def plain_dropout(graph: Graph) -> list[str]:
    """Bring every Dropout to two inputs and one output; one with ratio 0 goes."""
    for node in [node for node in graph.nodes if node.op == "Dropout"]:
        for mask in node.outputs[1:]:
            if mask.outputs or is_output(graph, mask):
                raise error(graph, node, "gives its mask to others: export the model in eval mode")
        ratio = values(node.inputs[1]) if given(node, 1) else np.float32(_DEFAULT_RATIO)
        if ratio is None:
            raise error(graph, node, "has a ratio that is computed: give it a fixed one")
        node.outputs = node.outputs[:1]
        number = np.asarray(ratio, dtype=np.float32).reshape(())
        if not given(node, 1) or ratio.shape or ratio.dtype != np.float32:
            ratio_tensor = constant(graph, f"{node.outputs[0].name}.ratio", number)
        else:
            ratio_tensor = node.inputs[1]
        node.inputs = [node.inputs[0], ratio_tensor]
        node.attrs = {}
        if number == 0:
            bypass(graph, node)
    return []


def plain_batch_norm(graph: Graph) -> list[str]:
    """Bring every BatchNormalization to the form that normalises with running statistics."""
    for node in [node for node in graph.nodes if node.op == "BatchNormalization"]:
        for statistic in node.outputs[1:]:
            if statistic.outputs:
                raise error(graph, node, "gives its running statistics to other nodes: export the model in eval mode")
        node.outputs = node.outputs[:1]
        epsilon, momentum = node.attrs.get("epsilon", 1e-5), node.attrs.get("momentum", 0.9)
        node.attrs = {"epsilon": epsilon, "momentum": momentum}
    return []


def _passes_through(node: Node) -> bool:
    if node.op == "Identity":
        return True
    source, result = extents(node.inputs[0]) if node.inputs else None, extents(node.outputs[0])
    if node.op in _RESHAPING:
        return source is not None and source == result and "unknown" not in source
    if node.op == "Transpose":
        order = node.attrs.get("perm")
        return order is not None and list(order) == sorted(order)
    if node.op == "Cast":
        return node.inputs[0].dtype is not None and node.inputs[0].dtype == node.outputs[0].dtype
    if node.op in _VARIADIC:
        return len(node.inputs) == 1
    if node.op in _POOLS:
        window = [*node.attrs.get("kernel_shape", [0]), *node.attrs.get("strides", [1])]
        return (
            set(window) == {1} and source == result and len(node.outputs) == 1 and not any(node.attrs.get("pads", []))
        )
    return False
