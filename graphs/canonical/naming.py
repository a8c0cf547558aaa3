"""Unique, non-empty node names, and rank-1 constants that belong to one place only.

Exporters merge equal constants of unrelated layers (fresh ones and zeros); training would tie them. Each further use
of a rank-1 constant gets a copy of its own. Constants of rank 2 and more stay shared: that is real tying.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mnx.graphs.canonical.surgery import Graph, Node, constant, values

PARAMETER_NAMES: Mapping[str, Mapping[int, str]] = {
    "Conv": {1: "weight", 2: "bias"},
    "Gemm": {1: "weight", 2: "bias"},
    "BatchNormalization": {1: "scale", 2: "shift", 3: "mean", 4: "variance"},
}
"""Op -> input -> how a constant made for it is called behind the node's name."""


def parameter_name(node: Node, index: int) -> str:
    """How a constant made for input `index` of `node` is called."""
    return f"{node.name}.{PARAMETER_NAMES.get(node.op, {}).get(index, f'input{index}')}"


def unique_names(graph: Graph) -> list[str]:
    """Name nodes that have no name after their op, and number repeated names."""
    taken = {node.name for node in graph.nodes if node.name}
    seen: set[str] = set()
    for node in graph.nodes:
        wish = node.name or node.op.lower()
        name, count = wish, 1
        while name in seen or (name != node.name and name in taken):
            name, count = f"{wish}_{count}", count + 1
        node.name = name
        seen.add(name)
    return []


def untie(graph: Graph) -> list[str]:
    """Give every use of a rank-1 constant its own copy."""
    places: dict[str, list[str]] = {}
    for node in graph.nodes:
        for index, tensor in enumerate(node.inputs):
            array = values(tensor)
            if array is None or array.ndim != 1:
                continue
            users = places.setdefault(tensor.name, [])
            if users:
                node.inputs[index] = constant(graph, parameter_name(node, index), np.copy(array))
            if array.dtype.kind == "f":
                users.append(parameter_name(node, index))
            else:
                users.append("")
    return [
        f"constant {name!r} shared by {len(users)} places split: {', '.join(users)}"
        for name, users in places.items()
        if len(users) > 1 and users[0]
    ]
