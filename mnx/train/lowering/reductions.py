"""Reductions as ops with right gradients, over the axes S.

ReduceL1: sum of |x|;  ReduceSumSquare: sum of x^2;  ReduceL2: the root of it, whose gradient is 0 where all are 0
ReduceMax, ReduceMin: the mean of those x that are equal to the extreme, which share its gradient
ReduceProd: halves multiplied until one is left
"""

from __future__ import annotations

from mnx.graphs.model import Node
from mnx.train.lowering.draft import Draft, Parts

_FLOAT = 1
LEAST = 1e-30
"""In place of smaller sums under a root: its gradient would not be finite at 0."""


def root(at: Parts, total: str, power: float, out: str) -> str:
    """total^(1 / power)."""
    held = at("Max", total, LEAST)
    return at("Sqrt", held, out=out) if power == 2 else at("Pow", held, 1 / power, out=out)


def reduce_l1(node: Node, draft: Draft) -> None:
    """Append a ReduceL1."""
    at = draft.at(node)
    _sum(at, node, at("Abs", node.inputs[0]), node.outputs[0])


def reduce_sum_square(node: Node, draft: Draft) -> None:
    """Append a ReduceSumSquare."""
    at, x = draft.at(node), node.inputs[0]
    _sum(at, node, at("Mul", x, x), node.outputs[0])


def reduce_l2(node: Node, draft: Draft) -> None:
    """Append a ReduceL2."""
    at, x = draft.at(node), node.inputs[0]
    root(at, _sum(at, node, at("Mul", x, x)), 2, node.outputs[0])


def _sum(at: Parts, node: Node, x: str, out: str = "") -> str:
    kept, none = node.integer("keepdims", 1), node.integer("noop_with_empty_axes", 0)
    return at("ReduceSum", x, *node.inputs[1:], out=out, keepdims=kept, noop_with_empty_axes=none)


def reduce_extreme(node: Node, draft: Draft) -> None:
    """Append a ReduceMax or ReduceMin."""
    at, x = draft.at(node), node.inputs[0]
    none = node.integer("noop_with_empty_axes", 0)
    extreme = at(node.op, x, *node.inputs[1:], keepdims=1, noop_with_empty_axes=none)
    chosen = at("Equal", x, extreme)
    total = _sum(at, node, at("Where", chosen, x, at("ConstantOfShape", at("Shape", x))))
    at("Div", total, _sum(at, node, at("Cast", chosen, to=_FLOAT)), out=node.outputs[0])


def reduce_prod(node: Node, draft: Draft) -> None:
    """Append a ReduceProd; not over the batch, whose size is not known."""
    at, x = draft.at(node), node.inputs[0]
    shape, kept = draft.shapes[x], node.integer("keepdims", 1)
    given = draft.weights[node.inputs[1]] if node.input(1) else range(len(shape))
    for axis in sorted((int(axis) % len(shape) for axis in given), reverse=True):
        size = shape[axis]
        while size > 1:
            half = size // 2
            first, second = (at("Slice", x, (begin,), (begin + half,), (axis,)) for begin in (0, half))
            product = at("Mul", first, second)
            x = at("Concat", product, at("Slice", x, (2 * half,), (size,), (axis,)), axis=axis) if size % 2 else product
            size -= half
        if not kept:
            x = at("Squeeze", x, (axis,))
    at("Identity", x, out=node.outputs[0])
