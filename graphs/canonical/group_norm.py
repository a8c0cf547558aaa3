"""GroupNormalization, whole or as exporters write it.

Reshape([N, G, -1]) -> InstanceNormalization(s, t) -> Reshape([N, C, ..]) -> Mul(a) -> Add(b)
    = GroupNormalization(num_groups = G, scale = repeat(s) a, bias = repeat(t) a + b), each of C numbers
Mul and Add may be missing. A constant is taken in where it differs along the channels only.
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.canonical.naming import parameter_name
from mnx.graphs.canonical.reshapes import RESHAPING
from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    constant,
    extents,
    is_output,
    maker,
    remove,
    set_node,
    sole_reader,
    values,
)
from mnx.graphs.model import Array

_EPSILON = 1e-5
_IMAGE_RANK = 3


def group_norms(graph: Graph) -> list[str]:
    """Write every group normalisation as GroupNormalization."""
    for node in list(graph.nodes):
        if node.op == "GroupNormalization":
            node.attrs = {"epsilon": node.attrs.get("epsilon", _EPSILON), "num_groups": node.attrs["num_groups"]}
        elif node.op == "InstanceNormalization":
            node.attrs = {"epsilon": node.attrs.get("epsilon", _EPSILON)}
            _from_instance(graph, node)
    return []


def _from_instance(graph: Graph, node: Node) -> None:
    before, after = maker(node.inputs[0]), sole_reader(graph, node.outputs[0])
    scale, bias = values(node.inputs[1]), values(node.inputs[2])
    if before is None or after is None or {before.op, after.op} - RESHAPING or scale is None or bias is None:
        return
    source, groups, result = (extents(t) for t in (before.inputs[0], node.inputs[0], after.outputs[0]))
    if source is None or source != result or groups is None or len(source) < _IMAGE_RANK or source[0] != groups[0]:
        return
    channels, count = source[1], scale.size
    if not isinstance(channels, int) or channels % count or len(before.outputs[0].outputs) != 1:
        return
    if is_output(graph, before.outputs[0]):
        return
    scale, bias = (np.repeat(array, channels // count) for array in (scale, bias))
    last, names = after, [parameter_name(node, 1), parameter_name(node, 2)]
    absorbed = [node]
    for index, op in enumerate(("Mul", "Add")):
        reader = sole_reader(graph, last.outputs[0])
        found = None if reader is None or reader.op != op else _per_channel(reader, last, len(source), channels)
        if found is None or reader is None:
            continue
        other = reader.inputs[1] if reader.inputs[0] is last.outputs[0] else reader.inputs[0]
        if len(other.outputs) == 1 and other.values.size == channels:
            names[index] = other.name
        scale, bias = (scale * found, bias * found) if op == "Mul" else (scale, bias + found)
        absorbed.append(last)
        last = reader
    x, epsilon = before.inputs[0], node.attrs["epsilon"]
    for gone in absorbed:
        remove(graph, gone)
    if not before.outputs[0].outputs:
        remove(graph, before)
    set_node(last, "GroupNormalization", [x], epsilon=epsilon, num_groups=count)
    last.inputs += [constant(graph, name, array) for name, array in zip(names, (scale, bias), strict=True)]


def _per_channel(node: Node, before: Node, rank: int, channels: int) -> Array | None:
    """The constant operand of `node` as one number per channel (axis 1), None where it is something else."""
    other = node.inputs[1] if node.inputs[0] is before.outputs[0] else node.inputs[0]
    array = values(other)
    if array is None or array.ndim > rank or array.size not in (1, channels) or array.dtype != np.float32:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if array.size != 1 and shape[1] != channels:
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))
