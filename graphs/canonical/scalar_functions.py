"""Activations written out in arithmetic, recognised by what they compute and written as one op.

Gelu(x)       = x (1 + erf(x / sqrt 2)) / 2                                       Gelu(approximate="none")
Gelu_tanh(x)  = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2                 Gelu(approximate="tanh")
HardSigmoid   = min(max(x / 6 + 1/2, 0), 1) or with 0.2 in place of 1/6           HardSigmoid(alpha, beta)
HardSwish     = x min(max(x / 6 + 1/2, 0), 1)                                     HardSwish
Mish          = x tanh(log(1 + e^x))                                              Mish
Softplus      = log(1 + e^x)                                                      Softplus
SiLU          = x / (1 + e^-x)                                                    Mul(x, Sigmoid(x))
quick Gelu    = x / (1 + e^(-1.702 x))                                            Mul(x, Sigmoid(Mul(x, 1.702)))

A spelling of element-wise ops over one value with single numbers as constants is a function of one variable. It stands
for one of these where both agree, in float64, within 1e-6 max(1, |x|) on a grid from 1e-3 to 1e6 on both sides of 0.
An element-wise node is tried as the last of a spelling from the end of the graph, so that the longest spelling wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mnx.graphs.canonical.spelling import (
    ELEMENTWISE,
    Spelling,
    absorb,
    closed,
    erf,
    evaluate,
    order_of,
    sigmoid,
    softplus,
    spellings,
)
from mnx.graphs.canonical.surgery import Graph, Node, Tensor, constant, extents, insert_before, set_node, values
from mnx.graphs.model import Array

_SMALL, _FAR = np.linspace(-12, 12, 385), np.geomspace(12, 1e6, 24)
GRID = np.concatenate([_SMALL, _FAR, -_FAR, [1e-3, -1e-3]])
"""Where functions are compared."""

_TOLERANCE = 1e-6
_FINITE = 80.0
"""Beyond this, e^x leaves float32: there, and only there, a spelling may be infinite where the whole op is not."""

_QUICK = 1.702
_READ = (np.float32, np.bool_)
_BENT = frozenset({"Erf", "Tanh", "Sigmoid", "Exp", "Clip", "Relu", "Min", "Max", "Softplus", "HardSigmoid"})
_SIXTH = 1 / 6
_OLD_SLOPE = 0.2


def _gelu(x: Array) -> Array:
    return np.asarray(x * (1 + erf(x / np.sqrt(2))) / 2)


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2)


def _hard_sigmoid(x: Array, slope: float = _SIXTH) -> Array:
    return np.asarray(np.clip(slope * x + 0.5, 0, 1))


FORMULAS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu tanh": _gelu_tanh,
    "hard sigmoid": _hard_sigmoid,
    "hard sigmoid 0.2": lambda x: _hard_sigmoid(x, _OLD_SLOPE),
    "hard swish": lambda x: x * _hard_sigmoid(x),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "softplus": softplus,
    "silu": lambda x: x * sigmoid(x),
    "quick gelu": lambda x: x * sigmoid(_QUICK * x),
}
"""What each function computes."""

_WANTED = {name: formula(GRID) for name, formula in FORMULAS.items()}


def scalar_functions(graph: Graph) -> list[str]:
    """Write every function of `FORMULAS` that is spelt in arithmetic as its op."""
    order, gone = order_of(graph), set()
    for end in reversed(list(graph.nodes)):
        if id(end) in gone or not _elementwise(end):
            continue
        for spelling in spellings(end, order, _elementwise):
            name = recognised(graph, spelling)
            if name is not None:
                gone |= {id(node) for node in spelling.nodes}
                _write(graph, spelling, name)
                break
    return []


def recognised(graph: Graph, spelling: Spelling) -> str | None:
    """The function of `FORMULAS` that a spelling of more than one node computes."""
    if len(spelling.nodes) == 1 or not _BENT.intersection(spelling.ops) or not closed(graph, spelling):
        return None
    found = evaluate(spelling, GRID)
    far = ~np.isfinite(found) & (np.abs(GRID) > _FINITE)
    for name, wanted in _WANTED.items():
        with np.errstate(invalid="ignore"):
            near = np.abs(found - wanted) <= _TOLERANCE * np.maximum(1, np.abs(GRID))
        if found.shape == GRID.shape and bool(np.all(near | far)):
            return name
    return None


def _elementwise(node: Node) -> bool:
    """Whether the node computes every element of its output from one element and single numbers."""
    if node.op not in ELEMENTWISE or len(node.outputs) != 1 or not node.inputs:
        return False
    shape = extents(node.outputs[0])
    for tensor in node.inputs:
        if tensor.is_empty():
            continue
        array = values(tensor)
        if array is not None and (array.size != 1 or shape is None or array.ndim > len(shape)):
            return False
        if array is None and (tensor.dtype not in _READ or shape is None or extents(tensor) != shape):
            return False
    return True


def _write(graph: Graph, spelling: Spelling, name: str) -> None:
    if _as_written(spelling, name):
        return
    x, end = spelling.source, absorb(graph, spelling)
    if name in ("silu", "quick gelu"):
        gate = x
        if name == "quick gelu":
            factor = constant(graph, f"{end.outputs[0].name}.factor", np.array(_QUICK, dtype=np.float32))
            gate = insert_before(graph, end, "Mul", [x, factor], extents(x))
        set_node(end, "Mul", [x, insert_before(graph, end, "Sigmoid", [gate], extents(x))])
    elif name.startswith("gelu"):
        set_node(end, "Gelu", [x], approximate="tanh" if name == "gelu tanh" else "none")
    elif name.startswith("hard sigmoid"):
        set_node(end, "HardSigmoid", [x], alpha=_OLD_SLOPE if name.endswith("0.2") else _SIXTH, beta=0.5)
    else:
        set_node(end, {"hard swish": "HardSwish", "mish": "Mish", "softplus": "Softplus"}[name], [x])


def _as_written(spelling: Spelling, name: str) -> bool:
    """Whether a function that has no op of its own stands there as the dialect writes it."""

    def starts(node: Node, first: Tensor) -> bool:
        return node.inputs[0] is first

    x, nodes = spelling.source, spelling.nodes
    if name == "silu":
        return spelling.ops == ["Sigmoid", "Mul"] and starts(nodes[1], x)
    if name == "quick gelu":
        return spelling.ops == ["Mul", "Sigmoid", "Mul"] and starts(nodes[0], x) and starts(nodes[2], x)
    return False
