"""Which nodes ONNX Runtime differentiates rightly: the ops whose gradients were measured against torch.

ONNX Runtime builds silently wrong gradients for some ops, so that nothing is trained through an op that does not stand
here. A new op is one entry, and one row in the test of gradients.
"""

from __future__ import annotations

from collections.abc import Mapping

from mnx.errors import MnxError
from mnx.graphs.model import Model, Node
from mnx.graphs.trees.flow import flow_of

VERIFIED: Mapping[str, str] = {
    "Add": "as it is",
    "AveragePool": "lowered to a depthwise Conv",
    "BatchNormalization": "lowered to normalisation by batch statistics",
    "Clip": "as it is",
    "Concat": "as it is",
    "Conv": "as it is, with explicit pads",
    "Dropout": "lowered to a product with a mask",
    "Flatten": "as it is",
    "Gemm": "as it is",
    "GlobalAveragePool": "as it is",
    "LeakyRelu": "as it is",
    "MaxPool": "as it is, with explicit pads",
    "Mul": "as it is",
    "Relu": "as it is",
    "Sigmoid": "as it is",
    "Tanh": "as it is",
}
"""The ops with right gradients, and the form in which they are differentiated."""


def undifferentiable(model: Model) -> list[tuple[str, str, str]]:
    """The nodes that cannot be trained through: name, op, and why not."""
    found = []
    context = flow_of(model).context
    for node in model.nodes:
        reason = _reason(node)
        if reason and not all(name in context for name in node.outputs if name):
            found.append((node.name, f"{node.domain}.{node.op}" if node.domain else node.op, reason))
    return found


def require_differentiable(model: Model) -> None:
    """Refuse a model that holds nodes without a right gradient.

    Raises:
        MnxError: it names every such op and its first node.
    """
    if found := untrainable(model):
        raise MnxError(
            f"{model.source.name if model.source else model.name} cannot be trained yet: {found}. It can be read, "
            "planned and grown; 'mnx ops' lists the ops that are trained through"
        )


def untrainable(model: Model) -> str:
    """The ops that a model cannot be trained through, in words; '' where it can be."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for name, op, reason in undifferentiable(model):
        nodes.setdefault((op, reason), []).append(name)
    reasons: dict[str, list[str]] = {}
    for (op, reason), names in nodes.items():
        more = f", the first of {len(names)}" if len(names) > 1 else ""
        reasons.setdefault(reason, []).append(f"{op} (node '{names[0]}'{more})")
    return "; ".join(f"{', '.join(ops)}: {reason}" for reason, ops in reasons.items())


def _reason(node: Node) -> str:
    if node.domain or node.op not in VERIFIED:
        return "its gradient has not been verified"
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return f"auto_pad {node.attributes['auto_pad']} has wrong gradients; make the pads explicit"
    if node.integer("training_mode", 0):
        return "it was exported in training mode; canonicalise the model first"
    return ""
