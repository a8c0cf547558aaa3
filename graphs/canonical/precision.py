"""Every float as float32, which is what mnx trains in; `Precision` notes what the file had.

Cast(x, to=float16 | bfloat16 | float64) = Cast(x, to=float32), which is nothing where x is float32 already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mnx.graphs.model import Array, Precision

NAMES: Mapping[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}
"""The float types that are read."""

_OTHERS: frozenset[int] = frozenset(NAMES) - {TensorProto.FLOAT}
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "stash_type", "softmax_precision"})


def in_float32(graph: onnx.GraphProto, constants: dict[str, Array]) -> tuple[Precision, tuple[str, ...]]:
    """Bring inputs, outputs, constants and Casts to float32, in place; `constants` are those that are not in the graph.

    Numbers that float32 cannot hold become its largest, but infinity stays. Returns what there was, and in words what
    was changed.
    """
    weights: Counter[str] = Counter()
    for tensor in graph.initializer:
        if tensor.data_type in NAMES:
            weights[NAMES[tensor.data_type]] += int(np.prod(tensor.dims))
            if tensor.data_type != TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(single(numpy_helper.to_array(tensor)), tensor.name))
    for name, array in constants.items():
        if array.dtype.name in NAMES.values():
            weights[array.dtype.name] += array.size
            constants[name] = single(array)
    ends = [_retype(values, constants) for values in (graph.input, graph.output)]
    for node in graph.node:
        _retype_node(node)
    most = weights.most_common(1)[0][0] if weights else ends[0] or "float32"
    precision = Precision(most, ends[0] or most, ends[1] or most)
    odd = sorted({most, *weights, *filter(None, ends)} - {"float32"})
    change = (
        f"{', '.join(odd)} read as float32, in which mnx trains; what is trained is written in its own types "
        f"({precision}) as well"
    )
    return precision, (change,) if odd else ()


def single(array: Array) -> Array:
    """The array in float32."""
    if array.dtype == np.float32:
        return array
    limits = np.finfo(np.float32)
    with np.errstate(over="ignore"):
        found = array.astype(np.float32)
        wide = np.isinf(found) & ~np.isinf(array.astype(np.float64))
    found[wide] = np.sign(found[wide]) * limits.max
    return found


def _retype(values: list[onnx.ValueInfoProto], constants: dict[str, Array]) -> str:
    """Make floats float32; the float type of the first that the user sees, '' where there is none."""
    first = ""
    for value in values:
        element_type = value.type.tensor_type.elem_type
        if value.name not in constants and element_type in NAMES:
            first = first or NAMES[element_type]
        if element_type in _OTHERS:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return first


def _retype_node(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _OTHERS:
            attribute.i = TensorProto.FLOAT
        elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in _OTHERS:
            attribute.CopyFrom(helper.make_attribute(attribute.name, _single_tensor(attribute.t)))


def _single_tensor(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(single(numpy_helper.to_array(tensor)), tensor.name)
