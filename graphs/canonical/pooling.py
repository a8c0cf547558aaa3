"""Pooling to a vector.

ReduceMean over all axes behind the channels = GlobalAveragePool, with Flatten behind it when it drops the axes
AveragePool whose window is the whole image, without pads = GlobalAveragePool
"""

from __future__ import annotations

from mnx.graphs.canonical.surgery import Graph, Node, extents, given, insert_behind, set_node, values

_IMAGE_RANK = 3


def global_pooling(graph: Graph) -> list[str]:
    """Write every pooling over all of space as GlobalAveragePool."""
    for node in list(graph.nodes):
        source = extents(node.inputs[0]) if node.inputs else None
        if source is None or len(source) < _IMAGE_RANK:
            continue
        if node.op == "ReduceMean" and _reduced_axes(node, len(source)) == set(range(2, len(source))):
            keeps = node.attrs.get("keepdims", 1)
            set_node(node, "GlobalAveragePool", node.inputs[:1])
            if not keeps:
                insert_behind(graph, node, "Flatten", (*source[:2], *[1] * (len(source) - 2)), axis=1)
        elif (
            node.op == "AveragePool" and tuple(node.attrs["kernel_shape"]) == source[2:] and not any(node.attrs["pads"])
        ):
            set_node(node, "GlobalAveragePool")
    return []


def _reduced_axes(node: Node, rank: int) -> set[int]:
    if not given(node, 1):
        return set() if node.attrs.get("noop_with_empty_axes", 0) else set(range(rank))
    axes = values(node.inputs[1])
    return set() if axes is None else {int(axis) % rank for axis in axes}
