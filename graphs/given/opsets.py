"""The dialect, which is opset 21, in the words of another opset.

An op without an entry has meant the same since opset 9, or since it exists. What an older opset does not know of an
op's attributes goes where it is the default. From opset 22 on ops gained element types only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper, shape_inference

from mnx.graphs.canonical.expansion import Expansion
from mnx.graphs.given.inputs import (
    axes,
    clip,
    constant,
    cut,
    dropout,
    gemm,
    hardmax,
    pad,
    resize,
    shape,
    softmax,
    split,
    top_k,
)
from mnx.graphs.given.place import NeedsOpset, Write, again
from mnx.graphs.given.written_out import gelu, group_norm, hard_swish, layer_norm, mish
from mnx.graphs.model import OPSET, Array
from mnx.graphs.proto import inferable


class Older(NamedTuple):
    """From which opset on the dialect's form of an op is legal, and what it is written as before."""

    since: int
    write: Write


OLDER: Mapping[str, Older] = {
    "Clip": Older(11, clip),
    "Constant": Older(12, constant),
    "Dropout": Older(12, dropout),
    "Gelu": Older(20, gelu),
    "Gemm": Older(11, gemm),
    "GroupNormalization": Older(21, group_norm),
    "HardSwish": Older(14, hard_swish),
    "Hardmax": Older(13, hardmax),
    "LayerNormalization": Older(17, layer_norm),
    "LogSoftmax": Older(13, softmax),
    "Mish": Older(18, mish),
    "Pad": Older(19, pad),
    "ReduceL1": Older(18, axes(18)),
    "ReduceL2": Older(18, axes(18)),
    "ReduceLogSum": Older(18, axes(18)),
    "ReduceLogSumExp": Older(18, axes(18)),
    "ReduceMax": Older(18, axes(18)),
    "ReduceMean": Older(18, axes(18)),
    "ReduceMin": Older(18, axes(18)),
    "ReduceProd": Older(18, axes(18)),
    "ReduceSum": Older(13, axes(13)),
    "ReduceSumSquare": Older(18, axes(18)),
    "Resize": Older(19, resize),
    "Shape": Older(15, shape),
    "Slice": Older(10, cut),
    "Softmax": Older(13, softmax),
    "Split": Older(18, split),
    "Squeeze": Older(13, axes(13)),
    "TopK": Older(10, top_k),
    "Unsqueeze": Older(13, axes(13)),
}
"""Op -> its older form: a new one is one entry here, its rule in the file of its kind, one test row."""

_FROM_BEHIND = 11
"""From this opset on an axis may be counted from behind."""
_AXES = ("axis", "axes")


class _Known(NamedTuple):
    shapes: dict[str, tuple[int | str, ...]]
    types: dict[str, int]


def in_opset(
    proto: onnx.ModelProto, arrays: Mapping[str, Array], opset: int, name: str
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model in another opset, and its large weights.

    Args:
        proto: a model in the dialect without its large weights, which is not changed.
        arrays: its large weights.
        opset: the opset to write.
        name: what the model is called.

    Raises:
        NeedsOpset: a node cannot be said in it.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    made.opset_import[0].version = opset
    if opset >= OPSET:
        return made, dict(arrays)
    known = _known(proto, arrays)
    initializers = {tensor.name: tensor for tensor in made.graph.initializer}
    taken = {*known.shapes, *initializers, *arrays, *(value for node in made.graph.node for value in node.output)}
    nodes: list[onnx.NodeProto] = []
    large = dict(arrays)
    constants = {**arrays, **_of_nodes(made.graph)}
    for node in made.graph.node:
        place = Expansion(node, name, known.shapes, known.types, constants, initializers, taken)
        _fill(place, opset)
        nodes += place.nodes
        large |= place.large
        initializers |= {tensor.name: tensor for tensor in place.small}
    read = {value for node in nodes for value in node.input} | {value.name for value in made.graph.output}
    nodes = [node for node in nodes if node.op_type != "Constant" or node.output[0] in read]
    kept = [tensor for tensor in initializers.values() if tensor.name in read]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(kept)
    return made, large


def _of_nodes(graph: onnx.GraphProto) -> dict[str, Array]:
    """The numbers of Constant nodes, which stand before and behind the body."""
    found = {}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name.startswith(("value_int", "value_float")):
            found[node.output[0]] = np.array(helper.get_attribute_value(node.attribute[0]))
    return found


def _fill(place: Expansion, opset: int) -> None:
    """Write a node, or those that take its place."""
    older = OLDER.get(place.op)
    if older is not None and opset < older.since:
        older.write(place, opset)
    if not place.nodes:
        again(place, place.inputs)
    for node in place.nodes:
        _plain(place, node, opset)


def _plain(place: Expansion, node: onnx.NodeProto, opset: int) -> None:
    """Drop attributes that hold the default of the dialect and that the opset does not know.

    Raises:
        NeedsOpset: the opset does not know the op, or what an attribute says.
    """
    if not defs.has(node.op_type, opset):
        raise NeedsOpset(place, _first(node.op_type), "did not exist")
    known: Any = defs.get_schema(node.op_type, opset).attributes
    for attribute in list(node.attribute):
        if attribute.name not in known:
            if not _is_default(node.op_type, attribute):
                since = _first(node.op_type, attribute.name)
                raise NeedsOpset(place, since, f"has another {attribute.name} than {node.op_type} had in opset {opset}")
            node.attribute.remove(attribute)
        elif attribute.name in _AXES and opset < _FROM_BEHIND and node.input[0] in place.shapes:
            _count_from_front(attribute, len(place.shapes[node.input[0]]))


def _count_from_front(attribute: onnx.AttributeProto, rank: int) -> None:
    if attribute.type == onnx.AttributeProto.INT:
        attribute.i %= rank
    else:
        attribute.ints[:] = [axis % rank for axis in attribute.ints]


def _is_default(op: str, attribute: onnx.AttributeProto) -> bool:
    value = helper.get_attribute_value(attribute)
    if attribute.name == "dilations":
        return set(value) == {1}
    default: Any = defs.get_schema(op, OPSET).attributes[attribute.name].default_value
    return bool(default.type and helper.get_attribute_value(default) == value)


def _first(op: str, attribute: str = "") -> int:
    """The first opset that has the op, with this attribute if one is asked for."""
    return next(
        opset
        for opset in range(1, OPSET + 1)
        if defs.has(op, opset) and (not attribute or attribute in defs.get_schema(op, opset).attributes)
    )


def _known(proto: onnx.ModelProto, arrays: Mapping[str, Array]) -> _Known:
    """The shapes and element types of all values; axes of open size by name."""
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    inferable(whole)
    whole.graph.input.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape))
        for name, array in arrays.items()
    )
    graph = shape_inference.infer_shapes(whole, data_prop=True).graph
    shapes: dict[str, tuple[int | str, ...]] = {
        tensor.name: tuple(numpy_helper.to_array(tensor).shape) for tensor in graph.initializer
    }
    types = {tensor.name: int(tensor.data_type) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        types[value.name] = int(tensor.elem_type)
        if tensor.HasField("shape"):
            shapes[value.name] = tuple(
                axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "open" for axis in tensor.shape.dim
            )
    return _Known(shapes, types)
