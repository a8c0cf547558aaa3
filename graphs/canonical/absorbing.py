"""A Transpose in front of a Flatten, taken into the weights of the linear layers that read what is flattened.

Flatten(Transpose(x)) = Flatten(x)[:, where], so with f element-wise: Gemm(f(Flatten(Transpose(x)); c), w)
                      = Gemm(f(Flatten(x); c[back]), w[:, back]), where[back] = 0, 1, 2, ...
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mnx.graphs.canonical.agnostic import POINTWISE
from mnx.graphs.canonical.draft import Extent
from mnx.graphs.canonical.rearranging import Order, inverse
from mnx.graphs.canonical.surgery import Graph, Node, Tensor, constant, extents, values
from mnx.graphs.model import Array

_FEATURES = 1


@dataclass
class Absorption:
    """The constants that change: (node, input) -> new numbers."""

    constants: list[tuple[Node, int, Array]] = field(default_factory=list)

    def apply(self, graph: Graph) -> list[str]:
        """Write the new constants; says which linear layers now read their features in another order."""
        changed = []
        for node, index, array in self.constants:
            old = node.inputs[index]
            node.inputs[index] = constant(graph, f"{old.name}.ordered", array)
            if not old.outputs:
                node.inputs[index].name = old.name
            if node.op in ("Gemm", "MatMul"):
                changed.append(node.name)
        return changed


def absorption(graph: Graph, flat: Tensor, order: Order, shape: tuple[Extent, ...]) -> Absorption | None:
    """What changes when `flat`, the Flatten of x rearranged by `order`, becomes the Flatten of x itself.

    Args:
        graph: the graph.
        flat: a value (batch, features).
        order: a permutation that leaves the batch in front.
        shape: of x.

    Returns:
        None where the order of features cannot be taken into constants: somebody else sees it.
    """
    if len(order) != len(shape) or order[0] != 0 or None in order:
        return None
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    if len(sizes) != len(shape) - 1:
        return None
    axes = [int(axis) - 1 for axis in order[1:] if axis is not None]
    numbered = np.arange(int(np.prod(sizes))).reshape([sizes[axis] for axis in axes])
    back = numbered.transpose([int(axis or 0) for axis in inverse(tuple(axes), len(axes))]).reshape(-1)
    if np.array_equal(back, np.arange(back.size)):
        return Absorption()
    return _followed(graph, flat, back)


def _followed(graph: Graph, flat: Tensor, back: Array) -> Absorption | None:
    """Follow the order of features through all readers, in the order of execution."""
    orders = {flat.name: back}
    found = Absorption()
    for node in graph.nodes:
        reached = [orders.get(tensor.name) for tensor in node.inputs]
        if all(order is None for order in reached):
            continue
        if node.op in ("Gemm", "MatMul"):
            if not _linear(node, reached, found):
                return None
            continue
        order = _elementwise(node, reached, found) if node.op != "Concat" else _joined(node, reached)
        if order is None:
            return None
        orders[node.outputs[0].name] = order
    return None if any(output.name in orders for output in graph.outputs) else found


def _linear(node: Node, reached: list[Array | None], found: Absorption) -> bool:
    weight = values(node.inputs[1])
    if weight is None or reached[0] is None or any(order is not None for order in reached[1:]):
        return False
    if len(node.inputs[1].outputs) > 1 or node.attrs.get("transA", 0):
        return False
    columns = bool(node.op == "Gemm" and node.attrs.get("transB", 0))
    found.constants.append((node, 1, weight[:, reached[0]] if columns else weight[reached[0]]))
    return True


def _elementwise(node: Node, reached: list[Array | None], found: Absorption) -> Array | None:
    """The order behind an element-wise node or a BatchNormalization, whose constants follow."""
    orders = [order for order in reached if order is not None]
    normalises = node.op == "BatchNormalization"
    if len(node.outputs) != 1 or (node.op not in POINTWISE and not normalises):
        return None
    for index, tensor in enumerate(node.inputs):
        array, order = values(tensor), reached[index]
        if order is not None:
            if not np.array_equal(order, orders[0]):
                return None
        elif array is None:
            if not tensor.is_empty():
                return None
        elif array.ndim and array.shape[-1] == orders[0].size:
            found.constants.append((node, index, array[..., orders[0]]))
        elif array.size != 1:
            return None
    return orders[0]


def _joined(node: Node, reached: list[Array | None]) -> Array | None:
    """The order behind a Concat of features."""
    parts, start = [], 0
    for tensor, order in zip(node.inputs, reached, strict=True):
        shape = extents(tensor)
        if shape is None or len(shape) != _FEATURES + 1 or not isinstance(shape[1], int) or values(tensor) is not None:
            return None
        parts.append(start + (np.arange(shape[1]) if order is None else order))
        start += shape[1]
    return np.concatenate(parts) if int(node.attrs["axis"]) % 2 == _FEATURES else None
