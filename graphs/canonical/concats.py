"""Long Concats as chains, the way the network grows.

Concat(Concat(a, b), c) = Concat(a, b, c), where nothing else reads the inner one;
Concat(a, b, c) = Concat(Concat(a, b), c), where Concat(a, b) stands there already: a layer of a DenseNet reads all that
came before it, and adds its own.
"""

from __future__ import annotations

from mnx.graphs.canonical.surgery import Graph, Node, extents, maker, remove, sole_reader


def concats(graph: Graph) -> list[str]:
    """Flatten what only one Concat reads, and share what several begin with."""
    joins = [node for node in graph.nodes if node.op == "Concat" and _axis(node) is not None]
    for node in joins:
        node.attrs = {"axis": _axis(node)}
        _flatten(graph, node)
    standing: dict[tuple[int, tuple[str, ...]], Node] = {}
    for node in [node for node in graph.nodes if node.op == "Concat"]:
        axis, names = node.attrs["axis"], tuple(tensor.name for tensor in node.inputs)
        for length in range(len(names) - 1, 1, -1):
            known = standing.get((axis, names[:length]))
            if known is not None:
                node.inputs = [known.outputs[0], *node.inputs[length:]]
                break
        standing.setdefault((axis, names), node)
    return []


def _axis(node: Node) -> int | None:
    shape = extents(node.outputs[0])
    axis = int(node.attrs["axis"])
    return axis if axis >= 0 else None if shape is None else axis + len(shape)


def _flatten(graph: Graph, node: Node) -> None:
    inputs = []
    for tensor in list(node.inputs):
        inner = maker(tensor)
        if (
            inner is not None
            and inner.op == "Concat"
            and sole_reader(graph, tensor) is node
            and _axis(inner) == _axis(node)
        ):
            inputs += list(inner.inputs)
            remove(graph, inner)
        else:
            inputs.append(tensor)
    node.inputs = inputs
