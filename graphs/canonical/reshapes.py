"""Reshape in one form: its target in numbers, the batch as 0 where it stays axis 0, else -1 where it goes.

Squeeze, Unsqueeze, Flatten = Reshape to their result's shape     Reshape(Reshape(x)) = Reshape(x)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mnx.graphs.canonical.draft import Extent
from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    Tensor,
    bypass,
    constant,
    extents,
    insert_before,
    insert_behind,
    maker,
    set_node,
    values,
)
from mnx.graphs.proto import BATCH

RESHAPING = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})


def target(source: Sequence[Extent], result: Sequence[Extent]) -> list[int] | None:
    """The target of a Reshape from one shape to another, None where it cannot be written."""
    numbers = [size if isinstance(size, int) else -1 for size in result]
    if source and result and source[0] == result[0] == BATCH:
        numbers[0] = 0
    known = "unknown" not in source and "unknown" not in result
    return numbers if known and numbers.count(-1) <= 1 and 0 not in result else None


def plain_reshape(graph: Graph, node: Node) -> bool:
    """Write what reshapes as Reshape with an explicit target; True where that changed it."""
    source, result = extents(node.inputs[0]), extents(node.outputs[0])
    if node.op not in RESHAPING or source is None or result is None:
        return False
    wanted = target(source, result)
    if wanted is None or values(node.inputs[0]) is not None:
        return False
    if source == result:
        return bypass(graph, node)
    old = values(node.inputs[1]) if node.op == "Reshape" else None
    if old is not None and old.tolist() == wanted and not node.attrs:
        return False
    if old is None or old.tolist() != wanted:
        tensor = constant(graph, f"{node.outputs[0].name}.target", np.array(wanted, dtype=np.int64))
        set_node(node, "Reshape", [node.inputs[0], tensor])
    else:
        node.attrs = {}
    return True


def merged_reshape(graph: Graph, node: Node) -> bool:
    """Let a Reshape of a Reshape read what the first one reads."""
    before = maker(node.inputs[0]) if node.op == "Reshape" else None
    if before is None or before.op not in RESHAPING:
        return False
    source, result = extents(before.inputs[0]), extents(node.outputs[0])
    if source is None or result is None or target(source, result) is None:
        return False
    node.inputs[0] = before.inputs[0]
    return plain_reshape(graph, node) or True


def reshaped(graph: Graph, node: Node, tensor: Tensor, result: Sequence[Extent]) -> Tensor:
    """`tensor` with another shape, by a new Reshape before `node` where it has not got it yet."""
    source = extents(tensor)
    if source == tuple(result):
        return tensor
    numbers = target(source or (), result) or []
    made = insert_before(graph, node, "Reshape", [tensor], result)
    made.inputs[0].inputs.append(constant(graph, f"{made.name}.target", np.array(numbers, dtype=np.int64)))
    return made


def reshape_behind(graph: Graph, node: Node, shape: Sequence[Extent]) -> None:
    """Give `node` an output of this shape, and bring it to the shape it had by a Reshape behind."""
    final = node.outputs[0]
    numbers = target(shape, extents(final) or ()) or []
    added = insert_behind(graph, node, "Reshape", shape)
    added.inputs.append(constant(graph, f"{final.name}.target", np.array(numbers, dtype=np.int64)))
