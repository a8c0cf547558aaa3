"""Einsum of two operands as a matrix product.

With the labels B (in both operands and the result), K (in both only), M (left and result), N (right and result):
Einsum(x, y) = Transpose(Reshape(MatMul(x as [B, M, K], y as [B, K, N]) to [B, M, N]))
A label that only one operand has is summed first. By a constant without B: MatMul(x as [M.., K], y as [K, N]).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mnx.graphs.canonical.draft import Extent
from mnx.graphs.canonical.reshapes import reshaped, target
from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    Tensor,
    constant,
    extents,
    insert_before,
    insert_behind,
    set_node,
    values,
)
from mnx.graphs.proto import BATCH

_PAIR = 2


@dataclass(frozen=True)
class _Labels:
    """The labels of the two operands and of the result, and the size of each."""

    left: str
    right: str
    result: str
    sizes: dict[str, Extent]

    def of(self, kind: str) -> str:
        """The labels of one kind, in the order of the operand they come from."""
        order = self.right if kind == "N" else self.left
        both, free = set(self.left) & set(self.right), {"M": set(self.left), "N": set(self.right)}
        if kind in free:
            return "".join(label for label in order if label in free[kind] - both)
        return "".join(label for label in order if label in both and (label in self.result) == (kind == "B"))

    def shape(self, labels: str) -> tuple[Extent, ...]:
        """The sizes of these labels."""
        return tuple(self.sizes[label] for label in labels)


def einsums(graph: Graph) -> list[str]:
    """Write every Einsum of two operands as MatMul between Transposes and Reshapes."""
    for node in [node for node in graph.nodes if node.op == "Einsum" and len(node.inputs) == _PAIR]:
        if values(node.inputs[0]) is not None:
            left, right, result = _terms(node)
            node.attrs, node.inputs = {"equation": f"{right},{left}->{result}"}, [node.inputs[1], node.inputs[0]]
        labels = _labels(node)
        if labels is not None:
            _product(graph, node, labels)
    return []


def _terms(node: Node) -> tuple[str, str, str]:
    equation = node.attrs["equation"].replace(" ", "")
    operands, arrow, result = equation.partition("->")
    left, _, right = operands.partition(",")
    if not arrow:
        together = left + right
        result = ("..." if "." in together else "") + "".join(
            sorted(label for label in set(together) - {"."} if together.count(label) == 1)
        )
    return left, right, result


def _labels(node: Node) -> _Labels | None:
    """The labels of an Einsum, its ellipsis spelt out; None where a shape is not known or a label repeats."""
    shapes = [tensor.shape if values(tensor) is not None else extents(tensor) for tensor in node.inputs]
    if any(shape is None or "unknown" in shape for shape in shapes):
        return None
    left, right, result = _terms(node)
    free = "".join(letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in left + right)
    counts = [
        len(shape or ()) - len(term.replace("...", "")) for term, shape in zip((left, right), shapes, strict=True)
    ]
    most = max([count for count, term in zip(counts, (left, right), strict=True) if "." in term], default=0)
    left, right = (
        term.replace("...", free[most - count : most]) for term, count in zip((left, right), counts, strict=True)
    )
    result = result.replace("...", free[:most])
    sizes: dict[str, Extent] = {}
    for term, shape in zip((left, right), shapes, strict=True):
        for label, size in zip(term, shape or (), strict=True):
            if sizes.setdefault(label, size) != size:
                return None
    if any(len(set(term)) != len(term) for term in (left, right, result)) or not set(result) <= set(sizes):
        return None
    return _Labels(left, right, result, sizes)


def _product(graph: Graph, node: Node, labels: _Labels) -> None:
    x, left = _summed(graph, node, 0, labels)
    y, right = _summed(graph, node, 1, labels)
    labels = _Labels(left, right, labels.result, labels.sizes)
    batch, inner, rows, columns = (labels.of(kind) for kind in "BKMN")
    folded = bool(batch) or not rows
    m, k, n = (_size(labels.shape(part)) for part in (rows, inner, columns))
    lead = labels.shape(rows) if not folded else None if m is None else (*labels.shape(batch), m)
    made = (*labels.shape(batch + rows + columns),)
    if k is None or n is None or lead is None or target((*lead, n), made) is None:
        return
    x = _shaped(graph, node, x, left, batch + rows + inner, (*lead, k))
    y = _shaped(graph, node, y, right, batch + inner + columns, (*labels.shape(batch), k, n))
    set_node(node, "MatMul", [x, y])
    order = [(batch + rows + columns).index(label) for label in labels.result]
    if order != sorted(order):
        insert_behind(graph, node, "Transpose", made, perm=order)
    if made != (*lead, n):
        added = insert_behind(graph, node, "Reshape", (*lead, n))
        numbers = np.array(target((*lead, n), made), dtype=np.int64)
        added.inputs.append(constant(graph, f"{added.outputs[0].name}.target", numbers))


def _summed(graph: Graph, node: Node, index: int, labels: _Labels) -> tuple[Tensor, str]:
    """An operand without the labels that neither the other operand nor the result has."""
    own, other = (labels.left, labels.right) if index == 0 else (labels.right, labels.left)
    dropped = [axis for axis, label in enumerate(own) if label not in other + labels.result]
    tensor = node.inputs[index]
    kept = "".join(label for axis, label in enumerate(own) if axis not in dropped)
    if not dropped:
        return tensor, own
    array = values(tensor)
    if array is not None:
        return constant(graph, f"{tensor.name}.sum", array.sum(tuple(dropped), dtype=array.dtype)), kept
    axes = constant(graph, f"{node.outputs[0].name}.axes", np.array(dropped, dtype=np.int64))
    return insert_before(graph, node, "ReduceSum", [tensor, axes], labels.shape(kept), keepdims=0), kept


def _shaped(graph: Graph, node: Node, tensor: Tensor, own: str, wanted: str, shape: Sequence[Extent]) -> Tensor:
    order = [own.index(label) for label in wanted]
    array = values(tensor)
    if array is not None:
        changed = array.transpose(order).reshape([int(size) for size in shape])
        same = changed.shape == array.shape and order == sorted(order)
        return tensor if same else constant(graph, f"{tensor.name}.matrix", changed)
    if order != sorted(order):
        sizes = [(extents(tensor) or ())[axis] for axis in order]
        tensor = insert_before(graph, node, "Transpose", [tensor], sizes, perm=order)
    return reshaped(graph, node, tensor, shape)


def _size(shape: Sequence[Extent]) -> Extent | None:
    """The product of sizes, of which one may be the batch."""
    count = math.prod(size for size in shape if isinstance(size, int))
    open_sizes = [size for size in shape if not isinstance(size, int)]
    if not open_sizes:
        return count
    if open_sizes != [BATCH]:
        return None
    return BATCH if count == 1 else f"{count}*{BATCH}"
