"""Which nodes ONNX Runtime differentiates rightly: the ops whose gradients were measured against torch.

ONNX Runtime builds silently wrong gradients for some ops, so that nothing is trained through an op that does not stand
here. A new op is one entry, and one row in the test of gradients.
"""

from __future__ import annotations

from collections.abc import Mapping

from mnx.errors import MnxError
from mnx.graphs.model import Model, Node

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
    for node in model.nodes:
        reason = _reason(node)
        if reason:
            found.append((node.name, f"{node.domain}.{node.op}" if node.domain else node.op, reason))
    return found


def require_differentiable(model: Model) -> None:
    """Refuse a model that holds nodes without a right gradient.

    Raises:
        MnxError: it names every such node.
    """
    found = undifferentiable(model)
    if found:
        nodes = "; ".join(f"{op} (node '{name}'): {reason}" for name, op, reason in found)
        raise MnxError(
            f"{model.source.name if model.source else model.name} cannot be trained through ONNX Runtime: {nodes}. "
            "Export the model with other ops, or add a lowering: mnx/train/lowering.py"
        )


def _reason(node: Node) -> str:
    if node.domain or node.op not in VERIFIED:
        return "its gradient has not been verified"
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return f"auto_pad {node.attributes['auto_pad']} has wrong gradients; make the pads explicit"
    if node.integer("training_mode", 0):
        return "it was exported in training mode; canonicalise the model first"
    return ""
