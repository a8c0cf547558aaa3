"""What replacements of ops know and add: shapes, threads, nodes, constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from mnx.graphs.model import Array


@dataclass
class Graph:
    """What is known of a graph, and what is added to it in place of one of its nodes.

    Attributes:
        shapes: of weights and other values by name; values that nothing is known of are left out.
        threads: that the graph is run with.
        block: channels of a block of the runtime's blocked layout, 0 where it has none; see `blocked`.
        makers: the node that makes a value, by the value's name.
        constants: that were added, by name.
        nodes: that stand in place of the node that is being replaced.
    """

    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    threads: int = 1
    block: int = 0
    makers: Mapping[str, NodeProto] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)

    def constant(self, name: str, array: Array) -> str:
        """Add a constant, once."""
        self.constants[name] = array
        return name

    def numbers(self, *values: int) -> str:
        """Add a constant of integers, once."""
        return self.constant(f"mnx:numbers/{'/'.join(map(str, values))}", np.array(values, np.int64))

    def add(self, op: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, whose name it returns."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output


def window_of(node: NodeProto) -> dict[str, Any]:
    """A convolution's attributes by name."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def plain(window: Mapping[str, Any]) -> bool:
    """Whether a convolution has stride 1 and one group, and says its paddings and dilations."""
    one = window.get("group", 1) == 1 and all(each == 1 for each in window.get("strides", ()))
    return one and "pads" in window and "dilations" in window
