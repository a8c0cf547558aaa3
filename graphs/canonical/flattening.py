"""Every reshaping of [batch, ...] to [batch, rest] is Flatten(axis=1): Reshape, Squeeze and Flatten with other axes."""

from __future__ import annotations

from mnx.graphs.canonical.surgery import Graph, extents, set_node
from mnx.graphs.proto import BATCH

_RESHAPING = frozenset({"Reshape", "Squeeze", "Flatten"})
_MATRIX_RANK = 2


def flattening(graph: Graph) -> list[str]:
    """Write every reshaping to [batch, rest] as Flatten(axis=1)."""
    for node in graph.nodes:
        if node.op not in _RESHAPING:
            continue
        source, result = extents(node.inputs[0]), extents(node.outputs[0])
        if source and result and len(result) == _MATRIX_RANK and source[0] == result[0] == BATCH:
            set_node(node, "Flatten", node.inputs[:1], axis=1)
    return []
