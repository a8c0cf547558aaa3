"""Rearrangements of axes: what Transpose, Squeeze, Unsqueeze and the Reshapes that only add or drop axes of size 1 do.

An `Order` names, for every axis of the result, the axis of the source that it is, or None where it is new, of size 1.
Axes of the source that are not named have size 1 and are dropped.

(first, then second)[j] = first[second[j]]
A rearrangement that leaves the axes larger than 1 in their order moves no number: it is a Reshape, or nothing at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from mnx.graphs.canonical.draft import Extent
from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    Tensor,
    constant,
    extents,
    fresh_name,
    insert_at,
    maker,
    position,
    set_node,
)
from mnx.graphs.model import Array
from mnx.graphs.proto import BATCH

Order: TypeAlias = tuple[int | None, ...]
Extents: TypeAlias = tuple[Extent, ...]
Step: TypeAlias = tuple[str, tuple[Extent, ...]]
"""An op and what it needs: ('Transpose', its order) or ('Reshape', the shape of its result)."""

_RESHAPING = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_UNKNOWN = "unknown"
_MATRIX_RANK = 2


def order_of(node: Node) -> Order | None:
    """The rearrangement that a node is, None for every other node."""
    if node.op == "Transpose":
        shape = extents(node.inputs[0])
        perm = node.attrs.get("perm")
        if perm is None:
            return None if shape is None else tuple(reversed(range(len(shape))))
        return tuple(int(axis) for axis in perm)
    if node.op not in _RESHAPING:
        return None
    source, result = extents(node.inputs[0]), extents(node.outputs[0])
    if source is None or result is None or _UNKNOWN in (*source, *result):
        return None
    return _matched(source, result)


def _matched(source: Extents, result: Extents) -> Order | None:
    """How `result` comes from `source` by adding and dropping axes of size 1; None where it does not."""
    order: list[int | None] = []
    axis = 0
    for size in result:
        if size == 1:
            kept = axis < len(source) and source[axis] == 1
            order.append(axis if kept else None)
            axis += kept
            continue
        while axis < len(source) and source[axis] == 1:
            axis += 1
        if axis == len(source) or source[axis] != size:
            return None
        order.append(axis)
        axis += 1
    return tuple(order) if all(size == 1 for size in source[axis:]) else None


def composed(first: Order, second: Order) -> Order:
    """First the one, then the other."""
    return tuple(None if axis is None else first[axis] for axis in second)


def inverse(order: Order, rank: int) -> Order:
    """What undoes a rearrangement of a source of that rank."""
    return tuple(order.index(axis) if axis in order else None for axis in range(rank))


def rearranged(order: Order, shape: Extents) -> Extents:
    """The shape behind a rearrangement."""
    return tuple(1 if axis is None else shape[axis] for axis in order)


def rearranged_array(order: Order, array: Array) -> Array:
    """The array behind a rearrangement."""
    kept = [axis for axis in order if axis is not None]
    dropped = [axis for axis in range(array.ndim) if axis not in kept]
    moved = np.transpose(array, [*kept, *dropped])
    return moved.reshape([1 if axis is None else array.shape[axis] for axis in order])


def steps(order: Order, shape: Extents) -> list[Step]:
    """The fewest nodes that do a rearrangement of a value of that shape: none where nothing changes."""
    result = rearranged(order, shape)
    moved = [axis for axis in order if axis is not None and shape[axis] != 1]
    if moved == sorted(moved) and result == shape:
        return []
    kept = [axis for axis in order if axis is not None]
    if moved == sorted(moved) and not len(kept) == len(order) == len(shape):
        return [("Reshape", result)]
    thin = tuple(shape[axis] for axis in sorted(kept))
    found: list[Step] = [] if len(kept) == len(shape) else [("Reshape", thin)]
    found.append(("Transpose", tuple(sorted(kept).index(axis) for axis in kept)))
    return found if len(kept) == len(order) else [*found, ("Reshape", result)]


def possible(needed: Sequence[Step]) -> bool:
    """Whether the Reshapes among the steps can be written: at most one entry is not a number."""
    return all(
        op == "Transpose" or (_UNKNOWN not in shape and sum(isinstance(size, str) for size in shape) <= 1)
        for op, shape in needed
    )


def root(value: Tensor) -> tuple[Tensor, Order]:
    """The value that a chain of rearrangements in front of `value` starts from, and all of it as one."""
    shape = extents(value)
    order: Order = tuple(range(len(shape or ())))
    node = maker(value)
    while node is not None and (own := order_of(node)) is not None and extents(node.inputs[0]) is not None:
        order = composed(own, order)
        value = node.inputs[0]
        node = maker(value)
    return value, order


def emit(graph: Graph, source: Tensor, needed: Sequence[Step]) -> Tensor:
    """Insert nodes for these steps directly behind what makes `source`; the value they make."""
    made = maker(source)
    place = 0 if made is None else position(graph, made) + 1
    for op, payload in needed:
        shape = extents(source) or ()
        after = tuple(shape[int(axis)] for axis in payload) if op == "Transpose" else payload
        name = fresh_name(graph, f"{source.name}.{op}")
        result = gs.Variable(name, source.dtype, list(after))
        node = gs.Node(op, name, {}, [source], [result])
        insert_at(graph, place, node)
        write_step(graph, node, op, payload)
        source, place = result, place + 1
    return source


def write_step(graph: Graph, node: Node, op: str, payload: Sequence[Extent]) -> None:
    """Make a one-input node this step."""
    source = extents(node.inputs[0]) or (None,)
    if op == "Transpose":
        set_node(node, "Transpose", node.inputs[:1], perm=[int(axis) for axis in payload])
    elif len(payload) == _MATRIX_RANK and payload[0] == source[0] == BATCH:
        set_node(node, "Flatten", node.inputs[:1], axis=1)
    else:
        target = [
            size if isinstance(size, int) else 0 if axis == 0 and source[0] == size else -1
            for axis, size in enumerate(payload)
        ]
        wish = f"{node.outputs[0].name}.target"
        set_node(node, "Reshape", [node.inputs[0], constant(graph, wish, np.array(target, dtype=np.int64))])
