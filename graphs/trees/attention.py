"""Attention: products of two computed values, scores = scale * queries keys^T, along the width of a head.

That axis grows by channels of its own: keys get fresh rows there, queries rows of zero, and the sums stay as they are.
A scale that depends on the width, 1 / sqrt(d), need not agree in two networks: the queries' rows make up for it.

What the queries are made by is found by going backward from the product: through what moves elements around, sums with
biases and products with numbers, to the linear layer; the elements asked for are marked on the way, so that of a joined
layer for queries, keys and values only a part is. Where something else reads the queries too, or what a number was
multiplied with, that cannot be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mnx.graphs.model import Shape
from mnx.graphs.ops.rule import Kind, Role
from mnx.graphs.trees.structure import BATCH, Op

Mask = npt.NDArray[Any]


@dataclass
class Attention:
    """One product of queries and keys.

    Attributes:
        product: the node that multiplies them.
        scales: the nodes that multiply by a number: queries, keys or scores, by their names, with the number.
        rows: (node, parameter) -> which channels of a parameter's grown axis are those of queries.
    """

    product: str
    scales: dict[str, float] = field(default_factory=dict)
    rows: dict[tuple[str, str], Mask] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        """All numbers multiplied."""
        return float(np.prod(list(self.scales.values())))


def products(ops: Sequence[Op]) -> tuple[str, ...]:
    """The nodes that multiply two computed values."""
    return tuple(op.name for op in ops if op.op == "MatMul" and not op.parameters and len(op.reads) == 2)


def attention_of(product: Op, ops: Sequence[Op]) -> Attention | None:
    """What makes the queries of a product, and what scales its scores; None where that cannot be told."""
    found = Attention(product.name)
    readers = Counter(op.site.node.inputs[read] for op in ops for read in op.reads)
    for read, queries in zip(product.reads, (True, False), strict=True):
        value, shape = product.site.node.inputs[read], single(product.site.shapes[read])
        backward = _Backward({op.value: op for op in ops}, readers, found, queries)
        if not backward.traced(value, np.ones(shape, np.bool_), True):
            return None
    if readers[product.value] == 1:
        _behind(product, ops, found)
    return found


def single(shape: Shape) -> Shape:
    """A shape for a batch of one."""
    return tuple(size // BATCH if size and size % BATCH == 0 else size for size in shape)


@dataclass(frozen=True)
class _Backward:
    """The way from a product back to the layer that makes its queries, or its keys."""

    makers: Mapping[str, Op]
    readers: Mapping[str, int]
    found: Attention
    queries: bool

    def traced(self, value: str, mask: Mask, alone: bool) -> bool:
        """Go on from a value; `alone` says whether nothing but the product reads what stood behind it."""
        op = self.makers.get(value)
        alone = alone and self.readers[value] == 1
        if op is None or (self.queries and bool(mask.all()) and not alone):
            return False
        if any(parameter.kind is Kind.WEIGHT for parameter in op.parameters):
            return _layer(op, mask, self.found, self.queries)
        if len(op.reads) != 1:
            return False
        source, shape = op.site.node.inputs[op.reads[0]], single(op.site.shapes[op.reads[0]])
        if op.op == "Add" and op.parameters:
            (bias,) = op.parameters
            if self.queries and not _noted(op.name, bias.name, bias.shape, mask, self.found):
                return False
            return shape == mask.shape and self.traced(source, mask, alone)
        if op.op == "Mul" and not op.parameters:
            number = _number(op)
            if number is None or not alone:
                return False
            self.found.scales[op.name] = number
            return self.traced(source, mask, alone)
        before = _before(op, mask, shape)
        return before is not None and self.traced(source, before, alone)


def _before(op: Op, mask: Mask, shape: Shape) -> Mask | None:
    """The elements that an op without numbers of its own moved to those of a mask; None for other ops."""
    node, result = op.site.node, np.zeros(shape, np.bool_)
    if op.op == "Transpose":
        order = node.integers("perm", tuple(reversed(range(mask.ndim))))
        return np.transpose(mask, np.argsort(order))
    if op.op in ("Reshape", "Flatten"):
        return mask.reshape(shape) if mask.size == int(np.prod(shape)) else None
    if op.op == "Gather" and op.site.constants[1] is not None:
        places, axis = op.site.constants[1], op.site.axis(0)
        if places.ndim:
            return None
        np.moveaxis(result, axis, 0)[int(places)] = mask
        return result
    if op.op == "Slice" and all(constant is not None for constant in op.site.constants[1:]):
        return _uncut(op, mask, shape)
    return None


def _uncut(op: Op, mask: Mask, shape: Shape) -> Mask | None:
    starts, ends, *rest = (list(map(int, c)) for c in op.site.constants[1:] if c is not None)
    axes = rest[0] if rest else list(range(len(starts)))
    if len(rest) > 1 and set(rest[1]) != {1}:
        return None
    inside = [slice(None)] * len(shape)
    for start, end, axis in zip(starts, ends, axes, strict=True):
        inside[axis] = slice(start, end)
    result = np.zeros(shape, np.bool_)
    if result[tuple(inside)].shape != mask.shape:
        return None
    result[tuple(inside)] = mask
    return result


def _layer(op: Op, mask: Mask, found: Attention, queries: bool) -> bool:
    """The rows of a linear layer, on tokens or not, whose last axis holds its channels."""
    if op.op not in ("MatMul", "Gemm"):
        return False
    if not queries:
        return True
    wanted = _channels(mask)
    for parameter in op.parameters:
        if Role.PRODUCE in parameter.roles:
            found.rows[op.name, parameter.name] = wanted
    return True


def _noted(node: str, name: str, shape: Shape, mask: Mask, found: Attention) -> bool:
    """Note which entries of a bias belong to a mask; False where it is no vector along the last axis."""
    if not shape or shape[-1] != mask.shape[-1] or int(np.prod(shape)) != shape[-1]:
        return False
    found.rows[node, name] = _channels(mask)
    return True


def _channels(mask: Mask) -> Mask:
    """Which places of the last axis are marked anywhere."""
    return np.asarray(np.any(mask.reshape(-1, mask.shape[-1]), axis=0))


def _number(op: Op) -> float | None:
    """The number that an op multiplies by, None where it is none, or 0."""
    numbers = [constant for constant in op.site.constants if constant is not None]
    return float(numbers[0].reshape(-1)[0]) or None if len(numbers) == 1 and numbers[0].size == 1 else None


def _behind(product: Op, ops: Sequence[Op], found: Attention) -> None:
    """The number that the scores are multiplied by at once, where there is one."""
    for op in ops:
        if op.op == "Mul" and not op.parameters and len(op.reads) == 1:
            number = _number(op)
            if op.site.node.inputs[op.reads[0]] == product.value and number is not None:
                found.scales[op.name] = number
