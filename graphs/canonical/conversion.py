"""Between the forms of a network: a `Draft` to an onnx-graphsurgeon graph for editing, and that to a `Model`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from mnx.graphs.canonical.draft import Draft
from mnx.graphs.canonical.surgery import Graph, error
from mnx.graphs.canonical.surgery import Node as GraphNode
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array, Attribute, Model, Node, Port

_NOTHING: Array = np.empty(0, np.float32)
"""In place of a weight in a graph that is used up: its nodes and values hold each other until cycles are collected."""


def to_graph(draft: Draft) -> Graph:
    """The draft for editing: every constant with its numbers, every value with its shape."""
    graph = gs.import_onnx(draft.proto())
    graph.name = draft.name
    for name, tensor in graph.tensors().items():
        if name in draft.constants:
            if isinstance(tensor, gs.Variable):
                tensor.to_constant(draft.constants[name])
        else:
            tensor.shape = list(draft.shapes[name]) if name in draft.shapes else None
            tensor.dtype = _dtype(draft.types.get(name, onnx.TensorProto.UNDEFINED))
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name not in draft.constants]
    return graph


def to_model(graph: Graph, changes: Iterable[str]) -> Model:
    """The edited graph as a model; the graph is used up.

    Raises:
        GraphError: an output does not depend on the inputs, or a node has an attribute that the dialect cannot hold.
    """
    made = {output.name for node in graph.nodes for output in node.outputs}
    for output in graph.outputs:
        if output.name not in made:
            raise GraphError(f"output {output.name!r} of {graph.name} does not depend on its inputs: nothing to train")
    constants = {
        tensor.name: tensor for node in graph.nodes for tensor in node.inputs if isinstance(tensor, gs.Constant)
    }
    weights: dict[str, Array] = {}
    for name, tensor in constants.items():
        array = np.asarray(tensor.values)
        array.flags.writeable = False
        weights[name] = array
        tensor.values = _NOTHING
    nodes = tuple(_node(graph, node) for node in graph.nodes)
    inputs, outputs = (tuple(_port(tensor) for tensor in ends) for ends in (graph.inputs, graph.outputs))
    return Model(graph.name, inputs, outputs, nodes, weights, changes=tuple(changes))


def _port(tensor: gs.Variable) -> Port:
    return Port(tensor.name, np.dtype(tensor.dtype).name, tuple(int(size) for size in tensor.shape[1:]))


def _node(graph: Graph, node: GraphNode) -> Node:
    attributes: dict[str, Attribute] = {}
    for name, value in node.attrs.items():
        plain = _attribute(value)
        if plain is None:
            raise error(graph, node, f"has an attribute {name!r} that mnx cannot hold: {type(value).__name__}")
        attributes[name] = plain
    inputs = [tensor.name for tensor in node.inputs]
    while inputs and not inputs[-1]:
        inputs.pop()
    return Node(node.name, node.op, tuple(inputs), tuple(tensor.name for tensor in node.outputs), attributes)


def _attribute(value: object) -> Attribute | None:
    """A plain attribute; floats are the shortest that give the same float32, so that 1e-5 is 1e-5."""
    if isinstance(value, float):
        return float(str(np.float32(value)))
    if isinstance(value, int | str):
        return value
    if isinstance(value, list | tuple):
        items = [_attribute(item) for item in value]
        if all(isinstance(item, int) for item in items):
            return tuple(item for item in items if isinstance(item, int))
        if all(isinstance(item, float) for item in items):
            return tuple(item for item in items if isinstance(item, float))
        if all(isinstance(item, str) for item in items):
            return tuple(item for item in items if isinstance(item, str))
    return None


def _dtype(element_type: int) -> np.dtype[np.generic] | None:
    if element_type == onnx.TensorProto.UNDEFINED:
        return None
    return np.dtype(helper.tensor_dtype_to_np_dtype(element_type))
