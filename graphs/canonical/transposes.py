"""Transpose in one form: its order written out, none twice in a row, none that keeps the order.

Transpose(Transpose(x; p); q) = Transpose(x; p[q])
Transpose(Reshape(x)) = Reshape(Transpose(Reshape'(x))), Reshape' without the axes of size 1 that Reshape inserts
"""

from __future__ import annotations

from mnx.graphs.canonical.reshapes import RESHAPING, reshape_behind, reshaped, target
from mnx.graphs.canonical.surgery import Graph, Node, bypass, extents, is_output, maker


def plain_transpose(graph: Graph, node: Node) -> bool:
    """Write the order of a Transpose out, merge it with one before, drop it where it keeps the order."""
    source = extents(node.inputs[0])
    if node.op != "Transpose" or source is None:
        return False
    order, changed = node.attrs.get("perm"), False
    if order is None:
        order, changed = list(range(len(source)))[::-1], True
    before = maker(node.inputs[0])
    if before is not None and before.op == "Transpose" and "perm" in before.attrs:
        order, changed = [before.attrs["perm"][axis] for axis in order], True
        node.inputs[0] = before.inputs[0]
    node.attrs = {"perm": list(order)}
    if list(order) == sorted(order):
        return bypass(graph, node) or changed
    return changed


def ones_behind(graph: Graph, node: Node) -> bool:
    """Move axes of size 1 that a Reshape inserts from before a Transpose to behind it, where they are reshaped away."""
    before = maker(node.inputs[0]) if node.op == "Transpose" else None
    if before is None or before.op not in RESHAPING or is_output(graph, node.outputs[0]):
        return False
    if not node.outputs[0].outputs or any(reader.op not in RESHAPING for reader in node.outputs[0].outputs):
        return False
    source, between = extents(before.inputs[0]), extents(before.outputs[0])
    if source is None or between is None or 1 not in between:
        return False
    kept = [axis for axis, size in enumerate(between) if size != 1]
    thin = [between[axis] for axis in kept]
    order = [kept.index(axis) for axis in node.attrs["perm"] if axis in kept]
    result = [thin[axis] for axis in order]
    if any(target(one, other) is None for one, other in ((source, thin), (result, extents(node.outputs[0]) or ()))):
        return False
    node.inputs[0] = reshaped(graph, node, before.inputs[0], thin)
    node.attrs = {"perm": order}
    reshape_behind(graph, node, result)
    return True
