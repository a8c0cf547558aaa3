"""Parts of a graph that compute one value from one other, however they are spelt, and their numbers in float64.

A spelling is all nodes between a value x and a value y where every path to y that does not start at a constant
passes x. Its function y = f(x) is then known by evaluating it: a pass compares f with the whole op it may stand for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mnx.graphs.canonical.surgery import Graph, Node, Tensor, extents, given, is_output, maker, remove, values
from mnx.graphs.model import Array

Formula = Callable[..., Array]
_LONGEST = 16
_TOKENS_RANK = 3


def _hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.asarray(np.clip(alpha * x + beta, 0, 1))


def _clip(x: Array, low: Array | float = -np.inf, high: Array | float = np.inf) -> Array:
    return np.minimum(np.maximum(x, low), high)


def _where(chosen: Array, x: Array, y: Array) -> Array:
    return np.asarray(np.where(chosen != 0, x, y))


def erf(x: Array) -> Array:
    """The error function of every element."""
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), dtype=np.float64)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


def softplus(x: Array) -> Array:
    """log(1 + e^x)."""
    return np.asarray(np.logaddexp(0, x))


ELEMENTWISE: Mapping[str, Formula] = {
    "Abs": np.abs,
    "Add": np.add,
    "Clip": _clip,
    "Div": np.divide,
    "Erf": erf,
    "Exp": np.exp,
    "Greater": np.greater,
    "HardSigmoid": _hard_sigmoid,
    "Identity": lambda x: x,
    "Less": np.less,
    "Log": np.log,
    "Max": lambda *x: np.maximum.reduce(np.broadcast_arrays(*x)),
    "Min": lambda *x: np.minimum.reduce(np.broadcast_arrays(*x)),
    "Mul": np.multiply,
    "Neg": np.negative,
    "Pow": np.power,
    "Reciprocal": np.reciprocal,
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": sigmoid,
    "Softplus": softplus,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Sum": lambda *x: sum(x),
    "Tanh": np.tanh,
    "Where": _where,
}
"""Element-wise ops: how they compute, from their inputs and attributes."""

AVERAGING: Mapping[str, Formula] = {
    "ReduceMean": lambda x: x.mean(-1, keepdims=True),
    "GlobalAveragePool": lambda x: x.mean(-1, keepdims=True),
    "ReduceSum": lambda x: x.sum(-1, keepdims=True),
}
"""Ops that reduce the last axis and keep it, where `reduces_last` says so."""


@dataclass(frozen=True)
class Spelling:
    """The nodes, in execution order, that compute the one output of the last of them from `source`."""

    source: Tensor
    nodes: tuple[Node, ...]

    @property
    def result(self) -> Tensor:
        """What the spelling computes."""
        return self.nodes[-1].outputs[0]

    @property
    def ops(self) -> list[str]:
        """The ops of the nodes, in execution order."""
        return [node.op for node in self.nodes]


def order_of(graph: Graph) -> dict[int, int]:
    """Where each node (by identity) stands in the order of execution."""
    return {id(node): index for index, node in enumerate(graph.nodes)}


def spellings(end: Node, order: Mapping[int, int], allowed: Callable[[Node], bool]) -> Iterator[Spelling]:
    """Every spelling of allowed nodes that ends at `end`, smallest first."""
    nodes, open_ends = [end], _variables(end)
    while True:
        if len(open_ends) == 1:
            yield Spelling(open_ends[0], tuple(sorted(nodes, key=lambda node: order[id(node)])))
        makers = [maker(tensor) for tensor in open_ends]
        able = [node for node in makers if node is not None and id(node) in order and allowed(node)]
        if not able or len(nodes) == _LONGEST:
            return
        latest = max(able, key=lambda node: order[id(node)])
        nodes.append(latest)
        open_ends = [tensor for tensor in open_ends if maker(tensor) is not latest]
        open_ends += [new for new in _variables(latest) if not any(new is old for old in open_ends)]


def closed(graph: Graph, spelling: Spelling) -> bool:
    """Whether what the spelling computes on the way is read by the spelling alone."""
    inside = {id(node) for node in spelling.nodes}
    return not any(
        is_output(graph, output) or any(id(reader) not in inside for reader in output.outputs)
        for node in spelling.nodes[:-1]
        for output in node.outputs
    )


def evaluate(spelling: Spelling, x: Array, others: Mapping[int, Array] | None = None) -> Array:
    """The spelling's result in float64, where `source` is x; constants must be single numbers or of x's last axis.

    Args:
        spelling: what to compute.
        x: the value of its source.
        others: numbers to take in place of those of a constant, by the identity of the constant.
    """
    instead = others or {}
    known = {spelling.source.name: np.asarray(x, dtype=np.float64)}
    with np.errstate(all="ignore"):
        for node in spelling.nodes:
            inputs = [
                known[tensor.name] if tensor.name in known else instead.get(id(tensor), _plain(tensor))
                for tensor in _given(node)
            ]
            if node.op in AVERAGING:
                result = AVERAGING[node.op](inputs[0])
            elif node.op == "HardSigmoid":
                result = _hard_sigmoid(inputs[0], **node.attrs)
            elif node.op == "Clip":
                result = _clip(inputs[0], *_bounds(node))
            else:
                result = ELEMENTWISE[node.op](*inputs)
            known[node.outputs[0].name] = np.asarray(result, dtype=np.float64)
    return known[spelling.result.name]


def reduces_last(node: Node) -> bool:
    """Whether the node reduces the last axis, and only that, and keeps it with size 1."""
    source = extents(node.inputs[0])
    if node.op not in AVERAGING or source is None:
        return False
    if node.op == "GlobalAveragePool":
        return len(source) == _TOKENS_RANK
    axes = values(node.inputs[1]) if given(node, 1) else None
    return axes is not None and node.attrs.get("keepdims", 1) == 1 and axes.tolist() in ([-1], [len(source) - 1])


def absorb(graph: Graph, spelling: Spelling) -> Node:
    """Remove all nodes of the spelling but the last, which is returned to be made what the spelling stands for."""
    for node in spelling.nodes[:-1]:
        remove(graph, node)
    return spelling.nodes[-1]


def constants_of(spelling: Spelling) -> list[Tensor]:
    """The constants that take part in the spelling's arithmetic."""
    return [tensor for node in spelling.nodes for tensor in _given(node) if values(tensor) is not None]


def _given(node: Node) -> list[Tensor]:
    count = 1 if node.op in AVERAGING else len(node.inputs)
    return [tensor for tensor in node.inputs[:count] if not tensor.is_empty()]


def _variables(node: Node) -> list[Tensor]:
    found: list[Tensor] = []
    for tensor in _given(node):
        if values(tensor) is None and not any(tensor is other for other in found):
            found.append(tensor)
    return found


def _plain(tensor: Tensor) -> Array:
    array = np.asarray(values(tensor), dtype=np.float64)
    return array.reshape(()) if array.size == 1 else array.reshape(-1)


def _bounds(node: Node) -> list[Array | float]:
    default = (-np.inf, np.inf)
    return [_plain(node.inputs[index]) if given(node, index) else default[index - 1] for index in (1, 2)]
