"""A network on its way into the canonical dialect: ONNX nodes, constants by name, and the shapes of all values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx
from onnx import helper, numpy_helper

from mnx.graphs.errors import GraphError
from mnx.graphs.model import IR_VERSION, OPSET, Array, Precision

SMALL = 1024
"""Constants of up to this many elements may decide a shape; shape inference gets larger ones by shape only."""

Extent: TypeAlias = int | str
"""The size of an axis; one that changes with the batch is a string, `BATCH` where it is the batch itself."""


@dataclass
class Draft:
    """A graph without functions, foreign ops, Constant nodes and dead nodes, at the dialect's opset.

    The steps in front of the passes change it in place; it belongs to one call of `canonicalise`.
    """

    name: str
    nodes: list[onnx.NodeProto]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]
    constants: dict[str, Array]
    shapes: dict[str, tuple[Extent, ...]] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    precision: Precision = field(default_factory=Precision)

    def proto(self, extra: Mapping[str, Array] | None = None, batch: int | None = None) -> onnx.ModelProto:
        """The graph as a light protobuf: constants of up to `SMALL` elements by value, others as inputs.

        Args:
            extra: further constants, which replace the nodes that make them.
            batch: the size to give axis 0 of every input.
        """
        constants = {**self.constants, **(extra or {})}
        small = {name: array for name, array in constants.items() if array.size <= SMALL}
        large = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape))
            for name, array in constants.items()
            if name not in small
        ]
        inputs = [_copy(value) for value in self.inputs]
        for value in inputs:
            if batch is not None:
                value.type.tensor_type.shape.dim[0].dim_value = batch
        nodes = [node for node in self.nodes if not all(name in constants for name in node.output if name)]
        graph = helper.make_graph(
            nodes,
            self.name,
            [*inputs, *large],
            [onnx.ValueInfoProto(name=value.name) for value in self.outputs],
            [numpy_helper.from_array(array, name) for name, array in small.items()],
        )
        return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])

    def drop_dead(self) -> None:
        """Drop the nodes that no output needs, and the constants that no node reads."""
        self.nodes = live(self.nodes, [value.name for value in self.outputs])
        read = {name for node in self.nodes for name in node.input}
        self.constants = {name: array for name, array in self.constants.items() if name in read}

    def error(self, node: onnx.NodeProto, problem: str) -> GraphError:
        """An error that names the node and the model."""
        name = node.name or (node.output[0] if node.output else "")
        return GraphError(f"{node.op_type} node {name!r} of {self.name} {problem}")


def live(nodes: Iterable[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs depend on, in the order given (which is one of execution)."""
    wanted, kept = set(outputs), []
    for node in reversed(list(nodes)):
        if wanted.intersection(name for name in node.output if name):
            kept.append(node)
            wanted.update(node.input)
            wanted.update(_captured(node))
    return kept[::-1]


def _captured(node: onnx.NodeProto) -> set[str]:
    """What the bodies of a control-flow node read from outside (and, harmlessly, inside) of them."""
    bodies = [body for attribute in node.attribute for body in (attribute.g, *attribute.graphs)]
    return {name for body in bodies for inner in body.node for name in (*inner.input, *_captured(inner))}


def _copy(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    copied = onnx.ValueInfoProto()
    copied.CopyFrom(value)
    return copied
