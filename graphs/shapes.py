"""Shapes of every value of a model, from ONNX shape inference alone: no weight is read, nothing is run."""

from __future__ import annotations

import onnx
from onnx import shape_inference

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array, Model, Shape
from mnx.graphs.proto import inferable, to_proto
from mnx.graphs.suggest import one_line

_SMALL = 8
"""Float constants of up to this many elements go in by value: those that decide a shape (Resize scales) are short."""


def shapes(model: Model, batch: int) -> dict[str, Shape]:
    """Value name -> shape, batch axis included, for inputs, weights and everything the body's nodes make.

    Args:
        model: a canonical model; weights may be zero-stride stand-ins, only their shapes count.
        batch: the size of the batch axis.

    Raises:
        GraphError: shapes contradict each other, or a node's output has no full shape.
    """
    by_shape = [name for name, array in model.weights.items() if not _decides_shapes(array)]
    proto = to_proto(model, by_shape, batch=batch)
    for value in proto.graph.output:
        value.ClearField("type")
    inferable(proto)
    try:
        inferred = shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError as error:
        raise GraphError(f"shapes of {model.name} do not fit together: {one_line(error)}") from error
    found = {port.name: (batch, *port.shape) for port in model.inputs}
    found |= {name: array.shape for name, array in model.weights.items()}
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        shape = _full_shape(value)
        if shape is not None:
            found[value.name] = shape
    for node in model.nodes:
        for name in node.outputs:
            if name and name not in found:
                raise GraphError(
                    f"the shape of {name!r} ({node.op} node {node.name!r} of {model.name}) is not known before "
                    "the model runs; mnx needs fixed shapes beside the batch: export with fixed image sizes and lengths"
                )
    return found


def _decides_shapes(array: Array) -> bool:
    return array.dtype.kind != "f" or array.size <= _SMALL


def _full_shape(value: onnx.ValueInfoProto) -> Shape | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(axis.HasField("dim_value") for axis in tensor.shape.dim):
        return None
    return tuple(axis.dim_value for axis in tensor.shape.dim)
