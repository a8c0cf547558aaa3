"""One node on its way to several: what it reads, its options, and the nodes and constants that take its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mnx.graphs.canonical.draft import SMALL
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array


@dataclass
class Expansion:
    """The place of one node in a graph, which a rule fills; `nodes`, `large` and `small` are what it made."""

    node: onnx.NodeProto
    model: str
    shapes: Mapping[str, tuple[int | str, ...]]
    types: Mapping[str, int]
    constants: Mapping[str, Array]
    initializers: Mapping[str, onnx.TensorProto]
    taken: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    large: dict[str, Array] = field(default_factory=dict)
    small: list[onnx.TensorProto] = field(default_factory=list)

    @property
    def op(self) -> str:
        """The node's op."""
        return str(self.node.op_type)

    @property
    def inputs(self) -> list[str]:
        """What it reads."""
        return list(self.node.input)

    @property
    def outputs(self) -> list[str]:
        """What it makes."""
        return list(self.node.output)

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes."""
        return {attribute.name: helper.get_attribute_value(attribute) for attribute in self.node.attribute}

    def input(self, index: int) -> str:
        """The name of input `index`, '' where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return int(self.attributes.get(name, default))

    def real(self, name: str, default: float) -> float:
        """A float attribute, the shortest number that gives the same float32."""
        return float(str(np.float32(self.attributes.get(name, default))))

    def reals(self, name: str) -> list[float]:
        """A list of floats."""
        return [float(value) for value in self.attributes.get(name, ())]

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value; axes of open size (the batch) are -1.

        Raises:
            KeyError: not known yet.
        """
        if "unknown" in self.shapes[name][1:]:
            raise KeyError(name)
        return tuple(size if isinstance(size, int) else -1 for size in self.shapes[name])

    def type(self, name: str) -> int:
        """The element type of a value; KeyError where it is not known yet."""
        return self.types[name]

    def constant(self, name: str) -> Array | None:
        """The numbers of a constant, None for what the network computes."""
        if name in self.initializers:
            return np.asarray(numpy_helper.to_array(self.initializers[name]))
        return self.constants.get(name)

    def add(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node and return what it makes."""
        result = output or self._fresh(op)
        name = self.node.name and f"{self.node.name}/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [result], name, **attributes))
        return result

    def last(self, op: str, *inputs: str, **attributes: Any) -> None:
        """Append the node that makes what the whole made first; it keeps the name."""
        self.nodes.append(helper.make_node(op, list(inputs), [self.outputs[0]], self.node.name, **attributes))

    def number(self, value: float) -> str:
        """A 0-d float32 constant."""
        return self.array("number", np.array(value, dtype=np.float32))

    def integers(self, values: Sequence[int]) -> str:
        """A 1-D int64 constant."""
        return self.array("integers", np.array(values, dtype=np.int64))

    def array(self, wish: str, array: Array) -> str:
        """A constant."""
        name = self._fresh(wish)
        if array.size > SMALL:
            self.large[name] = array
        else:
            self.small.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def declared(self) -> list[onnx.ValueInfoProto]:
        """The large constants as the inputs that stand for them."""
        return [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape))
            for name, array in self.large.items()
        ]

    def error(self, problem: str) -> GraphError:
        """An error that names the node and the model."""
        domain = f"{self.node.domain}." if self.node.domain else ""
        name = self.node.name or self.outputs[0]
        return GraphError(
            f"op {domain}{self.op} (node {name!r} of {self.model}) {problem}; "
            "give the model as the framework exported it"
        )

    def _fresh(self, wish: str) -> str:
        name, count = f"{self.outputs[0]}.{wish}", 1
        while name in self.taken:
            name, count = f"{self.outputs[0]}.{wish}_{count}", count + 1
        self.taken.add(name)
        return name
