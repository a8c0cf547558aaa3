"""Ops of several values as ops with right gradients.

Pow: an integer exponent becomes one of floats; a computed one, or a constant base: exp(y log x), for x > 0
Ceil, Floor, Round, Sign: through int64, which passes no gradient
Where: its operands are first brought to the shape of the result, by adding zeros
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.model import Node
from mnx.train.lowering.draft import Draft, Parts

_FLOAT, _INT64 = 1, 7


def power(node: Node, draft: Draft) -> None:
    """Append a Pow."""
    at, (x, y) = draft.at(node), node.inputs
    exponent = draft.weights.get(y)
    if exponent is None:
        at("Exp", at("Mul", y, at("Log", x)), out=node.outputs[0])
    elif exponent.dtype != np.float32:
        at("Pow", x, exponent.astype(np.float32), out=node.outputs[0])
    else:
        draft.append(node)


def rounding(node: Node, draft: Draft) -> None:
    """Append a Ceil, Floor, Round or Sign."""
    at = draft.at(node)
    whole = at("Cast", at(node.op, node.inputs[0]), to=_INT64)
    at("Cast", whole, to=_FLOAT, out=node.outputs[0])


def where(node: Node, draft: Draft) -> None:
    """Append a Where."""
    at, (condition, yes, no) = draft.at(node), node.inputs
    whole = draft.shapes[node.outputs[0]]
    operands = [value if draft.shapes[value] == whole else _spread(at, value, node.inputs) for value in (yes, no)]
    if draft.shapes[condition] != whole:
        shape = at("Shape", operands[0])
        condition = at("Expand", condition, shape)
    at("Where", condition, *operands, out=node.outputs[0])


def _spread(at: Parts, value: str, others: tuple[str, ...]) -> str:
    """The value in the shape to which it and the others broadcast."""
    for other in others:
        if other != value:
            value = at("Add", value, at("ConstantOfShape", at("Shape", other)))
    return value
