"""Pooling to a vector.

ReduceMean over all axes behind the channels = GlobalAveragePool, with Flatten behind it when it drops the axes
(a mean of squares is no pooling: it belongs to an RMSNorm of tokens)
AveragePool whose window is the whole image, without pads = GlobalAveragePool
Flatten(GlobalAveragePool(Reshape(x))) = Flatten(GlobalAveragePool(x)), where the Reshape only adds axes of one behind
the channels
"""

from __future__ import annotations

from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    extents,
    given,
    insert_behind,
    is_output,
    maker,
    remove,
    set_node,
    values,
)

_IMAGE_RANK = 3


def global_pooling(graph: Graph) -> list[str]:
    """Write every pooling over all of space as GlobalAveragePool."""
    for node in list(graph.nodes):
        source = extents(node.inputs[0]) if node.inputs else None
        if source is None or len(source) < _IMAGE_RANK:
            continue
        before = maker(node.inputs[0])
        if before is not None and before.op == "Pow":
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
        if node.op == "GlobalAveragePool":
            _without_added_axes(graph, node)
    return []


def _without_added_axes(graph: Graph, node: Node) -> None:
    added = maker(node.inputs[0])
    if added is None or added.op != "Reshape":
        return
    source, result = extents(added.inputs[0]), extents(added.outputs[0])
    if source is None or result is None or len(source) < _IMAGE_RANK or source[:2] != result[:2]:
        return
    longer = [size for size in result[2:] if size != 1] == [size for size in source[2:] if size != 1]
    if longer and node.outputs[0].outputs and all(reader.op == "Flatten" for reader in node.outputs[0].outputs):
        node.inputs = [added.inputs[0]]
        node.outputs[0].shape = [*source[:2], *[1] * (len(source) - 2)]
        if not added.outputs[0].outputs and not is_output(graph, added.outputs[0]):
            remove(graph, added)


def _reduced_axes(node: Node, rank: int) -> set[int]:
    if not given(node, 1):
        return set() if node.attrs.get("noop_with_empty_axes", 0) else set(range(rank))
    axes = values(node.inputs[1])
    return set() if axes is None else {int(axis) % rank for axis in axes}
