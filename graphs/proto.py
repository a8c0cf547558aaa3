"""A `Model` as an ONNX protobuf: the form in which runtimes, the checker and shape inference take it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mnx.graphs.model import IR_VERSION, OPSET, Array, Model, Node, Port

PRODUCER = "mnx"
_KEEP_SHAPE = frozenset({"GroupNormalization"})
"""Ops that keep the shape of their first input, of which ONNX shape inference does not know it (onnx 1.23)."""
BATCH = "batch"
"""The name of the symbolic batch axis."""


def to_proto(
    model: Model,
    weights_as_inputs: Collection[str] = (),
    extra_outputs: Sequence[str] = (),
    *,
    include_ends: bool = False,
    batch: int | str = BATCH,
) -> onnx.ModelProto:
    """The model as ONNX, IR version 10, opset 21.

    Args:
        model: the model; other domains than ONNX's own are imported in version 1.
        weights_as_inputs: weights that become inputs (behind the model's own, in the order of `model.weights`)
            instead of initializers; their values are not read.
        extra_outputs: values of the body to give out behind the model's outputs, without a declared type.
        include_ends: put the entry in front and the head behind, so that what they read and make takes the place of
            the body's inputs and outputs (a saved file); otherwise those are the body's own (channels first; logits).
        batch: the batch axis: a name, or a fixed size.
    """
    given = set(weights_as_inputs)
    as_inputs = [
        helper.make_tensor_value_info(name, _element_type(array.dtype), list(array.shape))
        for name, array in model.weights.items()
        if name in given
    ]
    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        for name, array in model.weights.items()
        if name not in given
    ]
    outputs = [_value_info(port, batch) for port in model.outputs]
    inputs = model.inputs
    if include_ends:
        inputs, outputs = inputs_before_entry(model), _outputs_behind_head(model, batch)
    outputs += [onnx.ValueInfoProto(name=name) for name in extra_outputs]
    nodes = (*model.entry, *model.nodes, *model.head) if include_ends else model.nodes
    graph = helper.make_graph(
        [_node(node) for node in nodes],
        model.name,
        [*(_value_info(port, batch) for port in inputs), *as_inputs],
        outputs,
        initializers,
    )
    domains = sorted({node.domain for node in nodes} - {""})
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    proto = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets, producer_name=PRODUCER)
    helper.set_model_props(proto, dict(model.metadata))
    return proto


def inferable(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Change `proto` so that shape inference knows the shapes of ops it has no function for; nothing else is right."""
    for node in proto.graph.node:
        if node.op_type in _KEEP_SHAPE:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
    return proto


def ends_of_head(model: Model, port: Port) -> tuple[str, ...]:
    """The values of the head that take the place of the body's output `port`; the port itself where it feeds none."""
    if model.results:
        return tuple(result.name for result in model.results)
    reached: list[str] = [port.name]
    read: set[str] = set()
    for node in model.head:
        if any(value in reached for value in node.inputs):
            read.update(node.inputs)
            reached += node.outputs
    return tuple(value for value in reached if value not in read)


def inputs_before_entry(model: Model) -> tuple[Port, ...]:
    """The user's own ports: for each input of the body what the entry reads to make it; the port itself elsewhere."""
    return tuple(_before_entry(model, port) for port in model.inputs)


def _before_entry(model: Model, port: Port) -> Port:
    for node in reversed(model.entry):
        if port.name in node.outputs:
            order = node.integers("perm", ())
            before = tuple(port.shape[order.index(axis) - 1] for axis in range(1, len(order)))
            port = Port(node.inputs[0], port.dtype, before)
    return port


def as_user_gives(model: Model, x: Array, place: int = 0) -> Array:
    """The examples x that a body input takes, the first or another, in the layout of the user's own input."""
    value = model.inputs[place].name
    for node in reversed(model.entry):
        if value in node.outputs:
            value, x = node.inputs[0], np.transpose(x, np.argsort(node.integers("perm", ())))
    return x


def _outputs_behind_head(model: Model, batch: int | str) -> list[onnx.ValueInfoProto]:
    if model.results:
        return [_value_info(port, batch) for port in model.results]
    return [
        _value_info(Port(name, port.dtype, port.shape), batch)
        for port in model.outputs
        for name in ends_of_head(model, port)
    ]


def _node(node: Node) -> onnx.NodeProto:
    proto = helper.make_node(node.op, node.inputs, node.outputs, name=node.name, domain=node.domain)
    proto.attribute.extend(
        helper.make_attribute(name, list(value) if isinstance(value, tuple) else value)
        for name, value in node.attributes.items()
        if value != ()
    )
    return proto


def _value_info(port: Port, batch: int | str) -> onnx.ValueInfoProto:
    dimensions: Iterable[int | str] = (batch, *port.shape)
    return helper.make_tensor_value_info(port.name, _element_type(np.dtype(port.dtype)), list(dimensions))


def _element_type(dtype: np.dtype[np.generic]) -> TensorProto.DataType:
    return helper.np_dtype_to_tensor_dtype(dtype)
