"""Unique, non-empty node names, and constants that belong to one place only.

Exporters merge equal constants of unrelated layers (fresh ones and zeros); training would tie them. Each further use
of a constant that says nothing of its own gets a copy: one with a single axis longer than 1 (a bias, a layer scale),
and one whose numbers are all equal (a last layer that starts at zero). Other matrices stay shared: that is real tying.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from mnx.graphs.canonical.surgery import Graph, Node, constant, values
from mnx.graphs.model import Array

PARAMETER_NAMES: Mapping[str, Mapping[int, str]] = {
    "Conv": {1: "weight", 2: "bias"},
    "Gemm": {1: "weight", 2: "bias"},
    "MatMul": {1: "weight", 2: "bias"},
    "Add": {1: "addend"},
    "Mul": {1: "factor"},
    "LayerNormalization": {1: "scale", 2: "bias"},
    "GroupNormalization": {1: "scale", 2: "bias"},
    "InstanceNormalization": {1: "scale", 2: "bias"},
    "PRelu": {1: "slope"},
    "Reshape": {1: "target"},
    "Slice": {1: "start", 2: "end", 3: "axis", 4: "step"},
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


def _says_nothing(array: Array) -> bool:
    """Whether two layers may hold the same numbers by chance."""
    vector = sum(size > 1 for size in array.shape) <= 1
    return vector or bool((array == array.reshape(-1)[:1]).all())


def untie(graph: Graph) -> list[str]:
    """Give every use of a vector, and of a constant of equal numbers, its own copy."""
    uses = Counter(tensor.name for node in graph.nodes for tensor in node.inputs)
    places: dict[str, list[str]] = {}
    for node in graph.nodes:
        for index, tensor in enumerate(node.inputs):
            array = values(tensor)
            if uses[tensor.name] == 1 or array is None or not array.ndim:
                continue
            if tensor.name not in places and not _says_nothing(array):
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
