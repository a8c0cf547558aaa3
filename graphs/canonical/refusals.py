"""What the canonical dialect cannot hold, refused by name before anything is rewritten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
from onnx import TensorProto, defs

from mnx.graphs.errors import GraphError

_CONTROL_FLOW = "mnx reads static graphs: export the model with its branches and loops resolved"
_SEQUENCES = "mnx reads tensors only: export the model without lists of tensors"
_QUANTISED = "mnx trains in float32: give the model as it was before quantisation"

REFUSED: Mapping[str, str] = {
    "If": _CONTROL_FLOW,
    "Loop": _CONTROL_FLOW,
    "Scan": _CONTROL_FLOW,
    "SequenceMap": _SEQUENCES,
    "SequenceConstruct": _SEQUENCES,
    "SequenceAt": _SEQUENCES,
    "SequenceEmpty": _SEQUENCES,
    "SequenceInsert": _SEQUENCES,
    "SplitToSequence": _SEQUENCES,
    "ConcatFromSequence": _SEQUENCES,
    "Optional": _SEQUENCES,
    "OptionalGetElement": _SEQUENCES,
    "QuantizeLinear": _QUANTISED,
    "DequantizeLinear": _QUANTISED,
    "DynamicQuantizeLinear": _QUANTISED,
    "QLinearConv": _QUANTISED,
    "QLinearMatMul": _QUANTISED,
    "ConvInteger": _QUANTISED,
    "MatMulInteger": _QUANTISED,
}
"""Op -> what to do instead."""

DOMAINS: Mapping[str, str] = {
    "com.microsoft": "onnxruntime wrote it while optimising or quantising: give the model as the framework exported it",
    "ai.onnx.ml": "it is classical machine learning, not a network layer: export without it (zipmap=False in skl2onnx)",
}
"""Domain -> what to do instead."""

_NAMED_TYPES: Mapping[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}


def refuse_foreign(graph: onnx.GraphProto, name: str) -> None:
    """Refuse ops of other domains, control flow, sequences, quantised ops and ops that ONNX does not have.

    Raises:
        GraphError: names the op, the node, the model, and what to do.
    """
    for node in graph.node:
        where = f"(node {node.name or (node.output[0] if node.output else '')!r} of {name})"
        if node.domain not in ("", "ai.onnx"):
            cure = DOMAINS.get(node.domain, "mnx reads ONNX's own ops: export without custom ops")
            raise GraphError(f"op {node.domain}.{node.op_type} {where} cannot be read: {cure}")
        if node.op_type in REFUSED:
            raise GraphError(f"op {node.op_type} {where} cannot be read: {REFUSED[node.op_type]}")
        if not defs.has(node.op_type):
            raise GraphError(
                f"op {node.op_type} {where} does not exist in ONNX: the exporter wrote a broken file; "
                "replace that layer in the source model, or use another exporter"
            )


def refuse_inputs(inputs: Iterable[onnx.ValueInfoProto], name: str) -> None:
    """Refuse inputs without a batch axis, with further axes of unknown size, or in a float type other than float32.

    Raises:
        GraphError: names the input and what to do.
    """
    for value in inputs:
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            raise GraphError(f"input {value.name!r} of {name} is not a tensor: {_SEQUENCES}")
        if tensor.elem_type in _NAMED_TYPES:
            raise GraphError(
                f"input {value.name!r} of {name} is {_NAMED_TYPES[tensor.elem_type]}; mnx trains in float32: "
                "export the model in float32"
            )
        if not tensor.HasField("shape") or not tensor.shape.dim:
            raise GraphError(f"input {value.name!r} of {name} has no batch axis: export it with the batch as axis 0")
        loose = [str(axis) for axis, size in enumerate(tensor.shape.dim) if axis and not size.HasField("dim_value")]
        if loose:
            raise GraphError(
                f"input {value.name!r} of {name} has no fixed size on axis {', '.join(loose)}; only the batch (axis 0) "
                "may be open: export with fixed image sizes and lengths"
            )


def refuse_weight(array_type: str, weight: str, name: str) -> None:
    """Refuse a weight in a float type other than float32.

    Raises:
        GraphError: names the weight.
    """
    if array_type in _NAMED_TYPES.values():
        raise GraphError(
            f"weight {weight!r} of {name} is {array_type}; mnx trains in float32: export the model in float32"
        )
