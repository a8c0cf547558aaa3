"""The small moves of graph editing that all passes are made of, on an onnx-graphsurgeon graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from mnx.graphs.canonical.draft import Extent
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array

Graph: TypeAlias = Any
Node: TypeAlias = Any
Tensor: TypeAlias = Any


def values(tensor: Tensor) -> Array | None:
    """The numbers of a constant, None for what the network computes."""
    return np.asarray(tensor.values) if isinstance(tensor, gs.Constant) else None


def extents(tensor: Tensor) -> tuple[Extent, ...] | None:
    """The shape of a value, None where it is not known."""
    return None if tensor.shape is None else tuple(tensor.shape)


def known_extents(graph: Graph, node: Node, tensor: Tensor) -> tuple[Extent, ...]:
    """The shape of a value that `node` reads or makes.

    Raises:
        GraphError: it is not known.
    """
    found = extents(tensor)
    if found is None:
        raise error(graph, node, f"has a value {tensor.name!r} whose shape is not known before the model runs")
    return found


def error(graph: Graph, node: Node, problem: str) -> GraphError:
    """An error that names the node and the model."""
    name = node.name or (node.outputs[0].name if node.outputs else "")
    return GraphError(f"{node.op} node {name!r} of {graph.name} {problem}")


def given(node: Node, index: int) -> bool:
    """Whether input `index` is there."""
    return len(node.inputs) > index and not node.inputs[index].is_empty()


def is_output(graph: Graph, tensor: Tensor) -> bool:
    """Whether the value is an output of the graph."""
    return any(output is tensor for output in graph.outputs)


def sole_reader(graph: Graph, tensor: Tensor) -> Node | None:
    """The one node that reads the value, once; None where others do or it is an output of the graph."""
    return tensor.outputs[0] if len(tensor.outputs) == 1 and not is_output(graph, tensor) else None


def maker(tensor: Tensor) -> Node | None:
    """The node that makes the value, None for inputs and constants."""
    return tensor.inputs[0] if tensor.inputs else None


def fresh_name(graph: Graph, wish: str) -> str:
    """`wish`, numbered where a value of the graph already has that name."""
    taken = graph.tensors()
    name, count = wish, 1
    while name in taken:
        name, count = f"{wish}_{count}", count + 1
    return name


def constant(graph: Graph, wish: str, array: Array) -> Tensor:
    """A new constant, called `wish` if that name is free."""
    return gs.Constant(fresh_name(graph, wish), np.asarray(array))


def set_node(
    node: Node,
    op: str,
    inputs: Iterable[Tensor] | None = None,
    outputs: Iterable[Tensor] | None = None,
    **attributes: Any,
) -> None:
    """Make `node` another operation, keeping its name and place, and its inputs and outputs where none are given."""
    node.op, node.attrs = op, attributes
    if inputs is not None:
        node.inputs = list(inputs)
    if outputs is not None:
        node.outputs = list(outputs)


def remove(graph: Graph, node: Node) -> None:
    """Take a node out of the graph."""
    node.inputs.clear()
    node.outputs.clear()
    del graph.nodes[position(graph, node)]


def position(graph: Graph, node: Node) -> int:
    """The index of this very node in the order of execution."""
    return next(index for index, other in enumerate(graph.nodes) if other is node)


def insert_behind(graph: Graph, node: Node, op: str, shape: Iterable[Extent], **attributes: Any) -> Node:
    """Insert a one-input node behind `node`, over its output's name and readers; `shape` is of what lies between."""
    between = gs.Variable(fresh_name(graph, f"{node.outputs[0].name}.{node.op}"), node.outputs[0].dtype, list(shape))
    final = node.outputs[0]
    node.outputs = [between]
    added = gs.Node(op, f"{node.name}.{op}" if node.name else "", attributes, [between], [final])
    graph.nodes.insert(position(graph, node) + 1, added)
    return added


def bypass(graph: Graph, node: Node) -> bool:
    """Remove a node whose first output equals its first input; readers of the one read the other.

    Where the output is an output of the graph, its name moves to the node before. That is not possible when the value
    before is itself an input, an output or a constant: then nothing changes and the answer is False.
    """
    source, result = node.inputs[0], node.outputs[0]
    before = maker(source)
    if is_output(graph, result):
        if before is None or is_output(graph, source):
            return False
        remove(graph, node)
        result.shape, result.dtype = source.shape, source.dtype
        redirect(source, result)
        before.outputs = [result if output is source else output for output in before.outputs]
        return True
    remove(graph, node)
    redirect(result, source)
    return True


def redirect(old: Tensor, new: Tensor) -> None:
    """Let every reader of `old` read `new`."""
    for reader in list(old.outputs):
        for index, tensor in enumerate(reader.inputs):
            if tensor is old:
                reader.inputs[index] = new


def insert_before(
    graph: Graph, node: Node, op: str, inputs: Iterable[Tensor], shape: Iterable[Extent] | None, **attributes: Any
) -> Tensor:
    """Insert a new node before `node` and return what it makes, a value of this shape and of its first input's type."""
    inputs = list(inputs)
    name = f"{node.name}.{op}" if node.name else ""
    wish = fresh_name(graph, f"{node.outputs[0].name}.{op}")
    result = gs.Variable(wish, inputs[0].dtype, None if shape is None else list(shape))
    graph.nodes.insert(position(graph, node), gs.Node(op, name, attributes, inputs, [result]))
    return result


def insert_at(graph: Graph, place: int, node: Node) -> None:
    """Put a new node at this place in the order of execution."""
    graph.nodes.insert(place, node)


def replace_node(graph: Graph, old: Node, new: Tensor) -> None:
    """Let `new` take the place of the one output of `old`, which goes; an output of the graph keeps its name."""
    set_node(old, "Identity", [new])
    bypass(graph, old)
