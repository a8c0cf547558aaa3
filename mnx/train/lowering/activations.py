"""Activations as ops with right gradients. With n = x where x <= 0, else 0, and p = x - n:

Celu: p + a (exp(n / a) - 1);  Elu: p + a (exp(n) - 1);  Selu: g (p + a (exp(n) - 1))
Gelu, approximate = tanh: x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
HardSigmoid: Clip(a x + b, 0, 1);  HardSwish: x Clip(x / 6 + 1 / 2, 0, 1)
Mish: x tanh(softplus(x));  Softplus: p + log(1 + exp(n - p));  Softsign: x / (1 + |x|)
PRelu: p + slope n;  ThresholdedRelu: x where x > a, else 0

Comparisons pass no gradient, so that at 0 all have the derivative from the left, as torch's have.
"""

from __future__ import annotations

from math import pi, sqrt

from mnx.graphs.canonical.stochastic_depth import DROP_PATH
from mnx.graphs.model import Node
from mnx.train.lowering.draft import Draft, Mask, Parts

_FLOAT = 1


def part_where(at: Parts, comparison: str, x: str, bound: float, out: str = "") -> str:
    """x where it compares so to a number, else 0."""
    return at("Mul", x, at("Cast", at(comparison, x, bound), to=_FLOAT), out=out)


def _below_above(at: Parts, x: str) -> tuple[str, str]:
    """n and p."""
    return part_where(at, "LessOrEqual", x, 0.0), part_where(at, "Greater", x, 0.0)


def _exponential(at: Parts, x: str, alpha: float, inner: float, gamma: float, out: str) -> None:
    """gamma (p + alpha (exp(n / inner) - 1))."""
    below, above = _below_above(at, x)
    scaled = below if inner == 1 else at("Div", below, inner)
    curved = at("Mul", at("Sub", at("Exp", scaled), 1.0), alpha * gamma)
    at("Add", above if gamma == 1 else at("Mul", above, gamma), curved, out=out)


def celu(node: Node, draft: Draft) -> None:
    """Append a Celu."""
    alpha = node.real("alpha", 1.0)
    _exponential(draft.at(node), node.inputs[0], alpha, alpha, 1.0, node.outputs[0])


def elu(node: Node, draft: Draft) -> None:
    """Append an Elu."""
    _exponential(draft.at(node), node.inputs[0], node.real("alpha", 1.0), 1.0, 1.0, node.outputs[0])


def selu(node: Node, draft: Draft) -> None:
    """Append a Selu."""
    alpha, gamma = node.real("alpha", 1.67326319217681884765625), node.real("gamma", 1.05070102214813232421875)
    _exponential(draft.at(node), node.inputs[0], alpha, 1.0, gamma, node.outputs[0])


def gelu(node: Node, draft: Draft) -> None:
    """Append a Gelu; that of erf stays."""
    if node.attributes.get("approximate", "none") != "tanh":
        return draft.append(node)
    at, x = draft.at(node), node.inputs[0]
    cube = at("Mul", at("Mul", x, x), x)
    inner = at("Mul", at("Add", x, at("Mul", cube, 0.044715)), sqrt(2 / pi))
    at("Mul", at("Mul", x, 0.5), at("Add", at("Tanh", inner), 1.0), out=node.outputs[0])


def hard_sigmoid(node: Node, draft: Draft) -> None:
    """Append a HardSigmoid."""
    at, line = draft.at(node), (node.real("alpha", 0.2), node.real("beta", 0.5))
    at("Clip", at("Add", at("Mul", node.inputs[0], line[0]), line[1]), 0.0, 1.0, out=node.outputs[0])


def hard_swish(node: Node, draft: Draft) -> None:
    """Append a HardSwish."""
    at, x = draft.at(node), node.inputs[0]
    gate = at("Clip", at("Add", at("Mul", x, 1 / 6), 0.5), 0.0, 1.0)
    at("Mul", x, gate, out=node.outputs[0])


def _softplus(at: Parts, x: str, out: str = "") -> str:
    below, above = _below_above(at, x)
    return at("Add", above, at("Log", at("Add", at("Exp", at("Sub", below, above)), 1.0)), out=out)


def softplus(node: Node, draft: Draft) -> None:
    """Append a Softplus."""
    _softplus(draft.at(node), node.inputs[0], node.outputs[0])


def mish(node: Node, draft: Draft) -> None:
    """Append a Mish."""
    at, x = draft.at(node), node.inputs[0]
    at("Mul", x, at("Tanh", _softplus(at, x)), out=node.outputs[0])


def softsign(node: Node, draft: Draft) -> None:
    """Append a Softsign."""
    at, x = draft.at(node), node.inputs[0]
    at("Div", x, at("Add", at("Abs", x), 1.0), out=node.outputs[0])


def prelu(node: Node, draft: Draft) -> None:
    """Append a PRelu; slopes are lined up from the right."""
    at, (x, slope) = draft.at(node), node.inputs
    below, above = _below_above(at, x)
    at("Add", above, at("Mul", below, slope), out=node.outputs[0])


def thresholded_relu(node: Node, draft: Draft) -> None:
    """Append a ThresholdedRelu."""
    part_where(draft.at(node), "Greater", node.inputs[0], node.real("alpha", 1.0), node.outputs[0])


def dropout(node: Node, draft: Draft) -> None:
    """Append x times a mask whose numbers are 0 with probability `ratio`, else 1 / (1 - ratio).

    The mask is an input of the step, drawn by the host from (seed, step), so that a resumed training goes on as the
    uninterrupted one. Of stochastic depth (see `DROP_PATH`) it has one number for each example.
    """
    x, ratio = node.input(0), node.input(1)
    shape = draft.shapes[x][1:]
    if node.name.endswith(DROP_PATH):
        shape = (1,) * len(shape)
    mask = Mask(f"mnx:{node.name}:mask", shape, float(draft.weights[ratio]) if ratio else 0.5)
    draft.masks.append(mask)
    draft.at(node)("Mul", x, mask.name, out=node.outputs[0])
