"""Any opset from 9 on brought to the dialect's.

Older models are converted upwards by ONNX. Newer ones hold, for the most part, the same ops with further element types:
ops that are new are written out, by a rule of `fused` or by ONNX's own definition of them, and the number is changed.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import defs, helper, inliner, numpy_helper, shape_inference, version_converter

from mnx.graphs.canonical.fused import RULES
from mnx.graphs.errors import GraphError
from mnx.graphs.model import OPSET
from mnx.graphs.suggest import one_line

_OLDEST = 9
_COORDINATES = 11
"""From this opset on Resize says from where it reads; before it read from the corner of a place."""

_NEW_ATTRIBUTES = frozenset({"round_mode", "saturate", "stash_type"})


def converted(proto: onnx.ModelProto, version: int, name: str) -> onnx.ModelProto:
    """The model in the opset of the dialect; ops of `fused.RULES` stay as they are.

    Raises:
        GraphError: the opset is too old, cannot be converted, or an op is new and has no definition by others.
    """
    if version < _OLDEST:
        raise GraphError(f"{name} is in opset {version}; mnx reads {_OLDEST} and newer: export with a newer opset")
    if version > OPSET:
        return _lowered(proto, version, name)
    if version == OPSET:
        return proto
    try:
        made = version_converter.convert_version(proto, OPSET)
        return _named(_from_corners(made, proto) if version < _COORDINATES else made, proto)
    except (version_converter.ConvertError, RuntimeError) as error:
        raise GraphError(
            f"{name} is in opset {version} and cannot be brought to {OPSET} ({one_line(error)}): "
            f"export with opset 17 to {OPSET}"
        ) from error


def _named(converted: onnx.ModelProto, proto: onnx.ModelProto) -> onnx.ModelProto:
    """Call the constants that ONNX made of attributes after who reads them: ONNX numbers them through the model."""
    known = {value for node in proto.graph.node for value in (*node.input, *node.output)}
    made = {node.output[0]: node for node in converted.graph.node if node.op_type == "Constant"}
    names: dict[str, str] = {}
    for node in converted.graph.node:
        for index, name in enumerate(node.input):
            wish = f"{node.output[0]}.input{index}"
            if name in made and name not in known and wish not in known:
                node.input[index] = made[name].output[0] = names.setdefault(name, wish)
    return converted


def _from_corners(converted: onnx.ModelProto, proto: onnx.ModelProto) -> onnx.ModelProto:
    """Let every Resize read from where Upsample and the first Resize did, and make the value that they made.

    ONNX's converter does not say the one, and gives what stands for an Upsample a number as its name.
    """
    numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in converted.graph.initializer}
    before = [node.output[0] for node in proto.graph.node if node.op_type in ("Upsample", "Resize")]
    after = [node for node in converted.graph.node if node.op_type == "Resize"]
    names = {node.output[0]: name for node, name in zip(after, before, strict=True)}
    for node in after:
        scales = numbers.get(node.input[2])
        smaller = scales is not None and scales.min(initial=1) < 1
        words = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil" if smaller else "floor"}
        node.attribute.extend(helper.make_attribute(name, word) for name, word in words.items())
        node.input[1] = ""
    for node in converted.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    return converted


def _lowered(proto: onnx.ModelProto, version: int, name: str) -> onnx.ModelProto:
    new = {node.op_type for node in proto.graph.node if _is_new(node) and ("", node.op_type) not in RULES}
    defined = [("", op) for op in sorted(new) if _has_definition(op, version)]
    if defined:
        proto = _defined_by_others(proto, defined, name)
    for node in proto.graph.node:
        if _is_new(node) and ("", node.op_type) not in RULES:
            raise GraphError(
                f"op {node.op_type} (node {node.name or node.output[0]!r} of {name}) came with an opset newer than "
                f"{OPSET}, which mnx reads by its parts only, and has none: export with opset 17 to {OPSET}"
            )
        if node.domain in ("", "ai.onnx") and ("", node.op_type) not in RULES:
            _drop_new_attributes(node, name)
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = OPSET
    return proto


def _defined_by_others(proto: onnx.ModelProto, ops: list[tuple[str, str]], name: str) -> onnx.ModelProto:
    """The model with these ops as ONNX defines them; the types that this takes stand in `value_info` meanwhile."""
    given = {value.name for value in proto.graph.input}
    proto = shape_inference.infer_shapes(proto, data_prop=True)
    for tensor in proto.graph.initializer:
        if tensor.name not in given:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            proto.graph.value_info.append(value)
    try:
        proto = inliner.inline_selected_functions(proto, ops, inline_schema_functions=True)
    except RuntimeError as error:
        listed = ", ".join(op for _, op in ops)
        raise GraphError(
            f"{listed} of {name} cannot be written out ({one_line(error)}): export with opset 17 to {OPSET}"
        ) from error
    del proto.graph.value_info[:]
    return proto


def _is_new(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx") and not defs.has(node.op_type, max_inclusive_version=OPSET)


def _has_definition(op: str, version: int) -> bool:
    schema: Any = defs.get_schema(op, version)
    return bool(schema.has_function or schema.has_context_dependent_function)


def _drop_new_attributes(node: onnx.NodeProto, name: str) -> None:
    known = defs.get_schema(node.op_type, OPSET).attributes
    for attribute in list(node.attribute):
        if attribute.name in known:
            continue
        if attribute.name not in _NEW_ATTRIBUTES:
            raise GraphError(
                f"op {node.op_type} (node {node.name or node.output[0]!r} of {name}) has an attribute "
                f"{attribute.name!r} that came after opset {OPSET}: export with opset 17 to {OPSET}"
            )
        node.attribute.remove(attribute)
