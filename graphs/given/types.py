"""A network that computes in float32 as a file in the float types that its user gave.

Constants and Casts take the weights' type. Where the user's inputs or outputs have another, a Cast stands between.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array, Precision

_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float64": TensorProto.DOUBLE,
}
_ALWAYS_SINGLE = {("Resize", 2), ("Upsample", 1)}
BFLOAT16_OPSET = 22
"""From this opset on convolutions and pools take bfloat16."""
_CASTING = frozenset({"to", "dtype"})


def in_types(proto: onnx.ModelProto, arrays: dict[str, Array], precision: Precision) -> None:
    """Bring a float32 model to `precision`, in place; `arrays` are its initializers that are not in `proto`.

    Raises:
        GraphError: a number is too large for the type.
    """
    graph, wanted = proto.graph, _TYPES[precision.weights]
    fixed = {node.input[index] for node in graph.node for op, index in _ALWAYS_SINGLE if _reads(node, op, index)}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in fixed:
            array = _converted(numpy_helper.to_array(tensor), tensor.name, precision.weights)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for name, array in arrays.items():
        if array.dtype == np.float32:
            arrays[name] = _converted(array, name, precision.weights)
    for node in graph.node:
        _retype(node, wanted, precision.weights)
    before = _cast(graph, graph.input, _TYPES[precision.inputs], wanted, behind=False)
    after = _cast(graph, graph.output, _TYPES[precision.outputs], wanted, behind=True)
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)


def _reads(node: onnx.NodeProto, op: str, index: int) -> bool:
    return bool(node.op_type == op and len(node.input) > index)


def _converted(array: Array, name: str, wanted: str) -> Array:
    with np.errstate(over="ignore"):
        found: Array = array.astype(helper.tensor_dtype_to_np_dtype(_TYPES[wanted]))
    if not np.array_equal(np.isfinite(found.astype(np.float32)), np.isfinite(array)) and wanted != "float64":
        raise GraphError(f"weight {name!r} has become too large for {wanted}: write the model in float32")
    return found


def _retype(node: onnx.NodeProto, wanted: int, name: str) -> None:
    for attribute in list(node.attribute):
        if attribute.name in _CASTING and attribute.i == TensorProto.FLOAT:
            attribute.i = wanted
        elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            array = _converted(numpy_helper.to_array(attribute.t), node.name, name)
            attribute.CopyFrom(helper.make_attribute(attribute.name, numpy_helper.from_array(array)))
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            array = _converted(np.array(helper.get_attribute_value(attribute), np.float32), node.name, name)
            attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(array)))


def _cast(
    graph: onnx.GraphProto, values: Iterable[onnx.ValueInfoProto], given: int, wanted: int, behind: bool
) -> list[onnx.NodeProto]:
    """Type the ends as the user has them; the Casts between them and the network, whose own values get new names."""
    casts = []
    for value in values:
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            continue
        value.type.tensor_type.elem_type = given
        if given == wanted:
            continue
        inner = f"{value.name}.inner"
        for node in graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    names[index] = inner if name == value.name else name
        ends = ([inner], [value.name], given) if behind else ([value.name], [inner], wanted)
        casts.append(helper.make_node("Cast", ends[0], ends[1], f"{inner}.Cast", to=ends[2]))
    return casts
