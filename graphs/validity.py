"""ONNX's own checks of a model whose large weights are kept apart."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper, shape_inference

from mnx.graphs.model import Array
from mnx.graphs.suggest import one_line


def problem(proto: onnx.ModelProto, arrays: Mapping[str, Array]) -> str:
    """What ONNX's checker or its strict inference of types and shapes finds wrong, '' where nothing is.

    Args:
        proto: a model without its large weights.
        arrays: these, which are checked by their types and shapes.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    declared = {value.name for value in proto.graph.input}
    for name, array in arrays.items():
        if name not in declared:
            element_type = helper.np_dtype_to_tensor_dtype(array.dtype)
            whole.graph.input.append(helper.make_tensor_value_info(name, element_type, list(array.shape)))
    try:
        onnx.checker.check_model(whole)
        shape_inference.infer_shapes(whole, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        return one_line(error)
    return ""
