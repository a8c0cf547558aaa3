"""If whose condition is the same for every input: the branch that it takes, in place of the node.

The condition may hang on shapes (exporters write `x.squeeze(1)` so); it is computed at two batch sizes, 7 and 11.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from mnx.graphs.canonical.draft import live
from mnx.graphs.canonical.folding import FOLDED, measured
from mnx.graphs.model import Array

_SIZES = (7, 11)
_MEASURING = frozenset({"Shape", "Size"})
_MAKING = frozenset({"Constant"})


def resolve_branches(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Put the branch taken in place of every If that always takes the same, in place; says which."""
    resolved: list[str] = []
    while True:
        node = next(
            (node for node in proto.graph.node if node.op_type == "If" and _taken(proto, node) is not None), None
        )
        if node is None:
            return (f"branches that are always taken put in place of: {', '.join(resolved)}",) if resolved else ()
        resolved.append(node.name or node.output[0])
        branch = "then_branch" if _taken(proto, node) else "else_branch"
        body = next(attribute.g for attribute in node.attribute if attribute.name == branch)
        _inline(proto.graph, node, body)


def _taken(proto: onnx.ModelProto, node: onnx.NodeProto) -> bool | None:
    """The condition, None where it depends on the input."""
    one, other = (_value(proto, node.input[0], size) for size in _SIZES)
    if one is None or other is None or one.item() != other.item():
        return None
    return bool(one.item())


def _value(proto: onnx.ModelProto, name: str, batch: int) -> Array | None:
    """A value that depends on constants and shapes alone, at one batch size."""
    cone = live(_before(proto.graph.node, name), [name])
    constants: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in proto.graph.initializer}
    shapes: dict[str, tuple[int, ...]] = (
        _shapes(proto, batch) if any(node.op_type in _MEASURING for node in cone) else {}
    )
    nodes = []
    for node in cone:
        if node.op_type in _MEASURING and node.input[0] in shapes:
            size = measured(node, shapes[node.input[0]])
            constants[node.output[0]] = numpy_helper.from_array(size, node.output[0])
        elif node.op_type in FOLDED or node.op_type in _MAKING:
            nodes.append(node)
    nodes = live(nodes, [name])
    made = {output for node in nodes for output in node.output}
    read = {value for node in nodes for value in node.input if value} | {name}
    if not read <= made | set(constants):
        return None
    used = [constants[value] for value in read - made]
    graph = helper.make_graph(nodes, "condition", [], [onnx.ValueInfoProto(name=name)], used)
    model = helper.make_model(graph, opset_imports=list(proto.opset_import), ir_version=proto.ir_version)
    return np.asarray(next(iter(ReferenceEvaluator(model).run(None, {}))))


def _before(nodes: Iterable[onnx.NodeProto], name: str) -> list[onnx.NodeProto]:
    found = []
    for node in nodes:
        found.append(node)
        if name in node.output:
            break
    return found


def _shapes(proto: onnx.ModelProto, batch: int) -> dict[str, tuple[int, ...]]:
    sized = onnx.ModelProto()
    sized.CopyFrom(proto)
    constants = {tensor.name for tensor in proto.graph.initializer}
    for value in sized.graph.input:
        axes = value.type.tensor_type.shape.dim
        if value.name not in constants and axes and not axes[0].HasField("dim_value"):
            axes[0].dim_value = batch
    for value in sized.graph.output:
        value.ClearField("type")
    graph = shape_inference.infer_shapes(sized, data_prop=True).graph
    return {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info)
        if value.type.tensor_type.HasField("shape")
        and all(size.HasField("dim_value") for size in value.type.tensor_type.shape.dim)
    }


def _inline(graph: onnx.GraphProto, node: onnx.NodeProto, body: onnx.GraphProto) -> None:
    """Put the nodes of `body` where `node` is; its own values get the node's name in front."""
    prefix = node.name or node.output[0]
    inner = {name for each in body.node for name in each.output} | {tensor.name for tensor in body.initializer}
    names = {name: f"{prefix}/{name}" for name in inner if name}
    nodes = []
    for each in body.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(each)
        copied.name = each.name and f"{prefix}/{each.name}"
        _rename(copied, names)
        nodes.append(copied)
    for tensor in body.initializer:
        added = graph.initializer.add()
        added.CopyFrom(tensor)
        added.name = names[tensor.name]
    for value, result in zip(body.output, node.output, strict=True):
        nodes.append(helper.make_node("Identity", [names.get(value.name, value.name)], [result], f"{prefix}/{result}"))
    kept: list[onnx.NodeProto] = []
    for each in graph.node:
        kept += nodes if each.output[:] == node.output[:] else [each]
    del graph.node[:]
    graph.node.extend(kept)


def _rename(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Rename what the node and the bodies in it read and make."""
    for values in (node.input, node.output):
        for index, name in enumerate(values):
            values[index] = names.get(name, name)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            own = {name for each in body.node for name in each.output}
            for each in body.node:
                _rename(each, {old: new for old, new in names.items() if old not in own})
            for value in body.output:
                value.name = names.get(value.name, value.name) if value.name not in own else value.name
