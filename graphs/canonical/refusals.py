"""What the canonical dialect cannot hold, refused by name before anything is rewritten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
from onnx import defs

from mnx.graphs.canonical import classical, fused
from mnx.graphs.errors import GraphError

_CONTROL_FLOW = "mnx reads static graphs: export the model with its branches and loops resolved"
_LOOP = (
    "mnx reads static graphs; a recurrent layer must be one op or be unrolled: export with unroll=True (Keras), or "
    "with torch, which writes LSTM and GRU as one op"
)
_SEQUENCES = "mnx reads tensors only: export the model without lists of tensors"
_QUANTISED = "mnx trains in float32: give the model as it was before quantisation"

REFUSED: Mapping[str, str] = {
    "If": _CONTROL_FLOW,
    "Loop": _LOOP,
    "Scan": _LOOP,
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
    "StatefulPartitionedCall": (
        "the exporter left a TensorFlow function in the file, which is broken: replace that layer in the source model, "
        "or export from Keras on the torch backend"
    ),
    "Erfc": (
        "it does not exist in ONNX, the exporter wrote a broken file: use the tanh form of GELU in the source model, "
        "or export from Keras on the torch backend"
    ),
}
"""Op -> what to do instead."""

DOMAINS: Mapping[str, str] = {
    "com.microsoft": "onnxruntime wrote it while optimising or quantising: give the model as the framework exported it",
    "com.microsoft.nchwc": (
        "onnxruntime wrote it for one kind of processor: give the model as the framework exported it, or optimise to "
        "level 'extended' only"
    ),
    "ai.onnx.ml": "it is classical machine learning, not a network layer: export without it (zipmap=False in skl2onnx)",
}
"""Domain -> what to do instead."""

EXPANDED = frozenset([*fused.RULES, *((classical.DOMAIN, op) for op in classical.RULES)])
"""(domain, op) of what is written out instead."""


def refuse_foreign(graph: onnx.GraphProto, name: str) -> None:
    """Refuse ops of other domains, control flow, sequences, quantised ops and ops that ONNX does not have.

    Raises:
        GraphError: names the op, the node, the model, and what to do.
    """
    for node in graph.node:
        where = f"(node {node.name or (node.output[0] if node.output else '')!r} of {name})"
        if (node.domain, node.op_type) in EXPANDED:
            continue
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
    """Refuse inputs without a batch axis or with further axes of unknown size.

    Raises:
        GraphError: names the input and what to do.
    """
    for value in inputs:
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            raise GraphError(f"input {value.name!r} of {name} is not a tensor: {_SEQUENCES}")
        if not tensor.HasField("shape") or not tensor.shape.dim:
            raise GraphError(f"input {value.name!r} of {name} has no batch axis: export it with the batch as axis 0")
        loose = [str(axis) for axis, size in enumerate(tensor.shape.dim) if axis and not size.HasField("dim_value")]
        if loose:
            raise GraphError(
                f"input {value.name!r} of {name} has no fixed size on axis {', '.join(loose)}; only the batch (axis 0) "
                "may be open: export with fixed image sizes and lengths"
            )
