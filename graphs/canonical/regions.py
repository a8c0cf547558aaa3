"""Regions of ops that do not care where an axis stands, and what each layout of one would save."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mnx.graphs.canonical.absorbing import absorption
from mnx.graphs.canonical.agnostic import AGNOSTIC, CHANNELS_FIRST, LEAST_RANK, Moved, moved, values_in_layout
from mnx.graphs.canonical.entry import is_to_first
from mnx.graphs.canonical.rearranging import (
    Extents,
    Order,
    composed,
    emit,
    inverse,
    order_of,
    possible,
    rearranged,
    root,
    steps,
)
from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    Tensor,
    constant,
    extents,
    fresh_name,
    is_output,
    maker,
    redirect,
    remove,
)
from mnx.graphs.model import Array

_NEVER = 10**6
"""The cost of a layout that cannot be."""


@dataclass(frozen=True)
class Region:
    """Nodes in execution order, the rank of their values, the values they read from outside and those they make."""

    nodes: tuple[Node, ...]
    rank: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    own: frozenset[int]
    """The ids of the nodes."""

    def outside(self, value: Tensor) -> list[Node]:
        """The nodes that read a value and do not belong to the region."""
        return [node for node in value.outputs if id(node) not in self.own]

    def is_channels_first(self) -> bool:
        """Whether an op that has its channels at axis 1 makes or reads what the region reads, or reads what it makes.

        So a residual block is channels first whether one stands alone or several in a row.
        """
        makers = [maker(value) for value in self.inputs]
        ends = (*self.inputs, *self.outputs)
        readers = [node for value in ends for node in self.outside(value) if node.inputs[0] is value]
        return any(node is not None and node.op in CHANNELS_FIRST for node in (*makers, *readers))


def regions(graph: Graph, with_windows: bool) -> Iterator[Region]:
    """The regions of the graph; with `with_windows` also ops that follow only where dead axes of space go."""
    kinds = {**AGNOSTIC, **CHANNELS_FIRST} if with_windows else AGNOSTIC
    found = {}
    for index, node in enumerate(graph.nodes):
        ends = values_in_layout(node) if node.op in kinds else None
        if ends is not None:
            found[index] = ends
    made = {id(value): index for index, (_, outputs) in found.items() for value in outputs}
    parent = {index: index for index in found}

    def top(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for index, (inputs, _) in found.items():
        for value in inputs:
            if id(value) in made:
                parent[top(index)] = top(made[id(value)])
    members: dict[int, list[int]] = {}
    for index in found:
        members.setdefault(top(index), []).append(index)
    for indices in members.values():
        outputs = {id(value): value for index in indices for value in found[index][1]}
        read = {id(value): value for index in indices for value in found[index][0] if id(value) not in outputs}
        rank = len(found[indices[0]][0][0].shape)
        nodes = tuple(graph.nodes[index] for index in indices)
        own = frozenset(map(id, nodes))
        yield Region(nodes, rank, tuple(read.values()), tuple(outputs.values()), own)


def layouts(region: Region) -> list[Order]:
    """The layouts in which a rearrangement at the region's border would be gone.

    What is channels first already is not permuted: at most its dead axes go.
    """
    same = tuple(range(region.rank))
    fixed = region.is_channels_first()
    found: list[Order] = []
    for value in region.inputs:
        source, order = root(value)
        if source is not value:
            found.append(inverse(order, len(source.shape)))
    for value in region.outputs:
        for reader in region.outside(value):
            first = order_of(reader)
            if first is None:
                continue
            found.append(first)
            found += [composed(first, behind) for node in reader.outputs[0].outputs if (behind := order_of(node))]
    return [
        order
        for order in dict.fromkeys(found)
        if order != same and len(order) >= LEAST_RANK and not (fixed and _permutes(order)) and _fits(region, order)
    ]


def _permutes(order: Order) -> bool:
    axes = [axis for axis in order if axis is not None]
    return axes != sorted(axes)


def _fits(region: Region, order: Order) -> bool:
    """Whether all values can be rearranged so (what is dropped has size 1) and all nodes follow."""
    dropped = [axis for axis in range(region.rank) if axis not in order]
    shapes = [extents(value) for value in (*region.inputs, *region.outputs)]
    if any(shape is None or any(shape[axis] != 1 for axis in dropped) for shape in shapes):
        return False
    return all(moved(node, order, region.rank) is not None for node in region.nodes)


def saving(graph: Graph, region: Region, order: Order) -> int:
    """How many rearrangements fewer there are when the region is computed in this layout."""
    return _cost(graph, region, tuple(range(region.rank))) - _cost(graph, region, order)


def costs_nothing(graph: Graph, region: Region, order: Order) -> bool:
    """Whether the region can be computed in this layout without any rearrangement that counts."""
    return len(order) == region.rank and _fits(region, order) and _cost(graph, region, order) == 0


def _cost(graph: Graph, region: Region, order: Order) -> int:
    same = order == tuple(range(region.rank))
    total = 0
    entering: set[tuple[str, Order]] = set()
    for value in region.inputs:
        source, before = root(value)
        full = composed(before, order)
        if (source.name, full) in entering or (same and (region.outside(value) or is_output(graph, value))):
            continue
        entering.add((source.name, full))
        total += 0 if _is_entry(graph, region, source, full) else _count(full, extents(source))
    back = inverse(order, region.rank)
    for value in region.outputs:
        shape = rearranged(order, extents(value) or ())
        leaving: set[Order] = set()
        for reader in region.outside(value):
            own = order_of(reader)
            full = back if own is None else composed(back, own)
            readers = [reader] if own is None else list(reader.outputs[0].outputs)
            if full not in leaving and not _is_absorbed(graph, readers, full, shape):
                leaving.add(full)
                total += _count(full, shape)
        if is_output(graph, value) and back not in leaving:
            total += _count(back, shape)
    return total


def _count(order: Order, shape: Extents | None) -> int:
    needed = steps(order, shape) if shape is not None else []
    return len(needed) if shape is not None and possible(needed) else _NEVER


def _is_entry(graph: Graph, region: Region, source: Tensor, order: Order) -> bool:
    """Whether a rearrangement of `source` would be one of the model's input, for all who read it."""
    if not any(source is port for port in graph.inputs) or np.dtype(source.dtype).kind != "f":
        return False
    if len(order) != len(source.shape) or not is_to_first(order):
        return False
    return all(order_of(node) == order for node in region.outside(source))


def _is_absorbed(graph: Graph, readers: list[Node], order: Order, shape: Extents) -> bool:
    """Whether a rearrangement in front of these readers can be taken into the weights behind them."""
    if not readers or not all(node.op == "Flatten" and node.attrs.get("axis", 1) == 1 for node in readers):
        return False
    return all(absorption(graph, node.outputs[0], order, shape) is not None for node in readers)


def apply(graph: Graph, region: Region, order: Order) -> None:
    """Compute the region in another layout, with rearrangements at its borders."""
    changes = [(node, moved(node, order, region.rank)) for node in region.nodes]
    outside = {id(value): region.outside(value) for value in region.outputs}
    for value in region.inputs:
        source, before = root(value)
        entering = emit(graph, source, steps(composed(before, order), extents(source) or ()))
        for node in region.nodes:
            node.inputs = [entering if tensor is value else tensor for tensor in node.inputs]
        prune(graph, value)
    made: dict[tuple[str, bytes], Tensor] = {}
    for node, change in changes:
        if change is not None:
            _rewrite(graph, node, change, made)
    back = inverse(order, region.rank)
    for value in region.outputs:
        _give_out(graph, value, outside[id(value)], order, back)


def _rewrite(graph: Graph, node: Node, change: Moved, made: dict[tuple[str, bytes], Tensor]) -> None:
    node.attrs = {**node.attrs, **change.attributes}
    for index, array in change.constants.items():
        old = node.inputs[index]
        node.inputs[index] = _shared(graph, old, array, made)
        if not old.outputs and old.name not in graph.tensors():
            node.inputs[index].name = old.name


def _shared(graph: Graph, old: Tensor, array: Array, made: dict[tuple[str, bytes], Tensor]) -> Tensor:
    """The constant that takes the place of `old`: one for all places in the region that share it."""
    key = (old.name, repr(array.shape).encode() + array.tobytes())
    if key not in made:
        made[key] = constant(graph, f"{old.name}.moved", array)
    return made[key]


def _give_out(graph: Graph, value: Tensor, readers: list[Node], order: Order, back: Order) -> None:
    """Rearrange a value of the region, for those outside who read it as it was."""
    shape = extents(value) or ()
    inner = value
    if is_output(graph, value):
        inner = type(value)(fresh_name(graph, f"{value.name}.first"), value.dtype, list(shape))
        _take_over(value, inner)
    inner.shape = list(rearranged(order, shape))
    if not readers and inner is value:
        return
    outer = emit(graph, inner, steps(back, extents(inner) or ()))
    for reader in readers:
        reader.inputs = [outer if tensor is inner else tensor for tensor in reader.inputs]
    if inner is not value:
        _take_over(outer, value)


def _take_over(old: Tensor, new: Tensor) -> None:
    """Let `new` be made and read where `old` was."""
    for node in list(old.inputs):
        node.outputs = [new if tensor is old else tensor for tensor in node.outputs]
    redirect(old, new)


def prune(graph: Graph, value: Tensor) -> None:
    """Remove the rearrangements that nothing reads any more."""
    node = maker(value)
    while node is not None and order_of(node) is not None and not value.outputs and not is_output(graph, value):
        value = node.inputs[0]
        remove(graph, node)
        node = maker(value)
