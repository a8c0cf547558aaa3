"""Gradient ops whose CPU kernels are slow, as others that give the same numbers faster: op -> replacement.

ReluGrad(d, y) = d where y > 0, else 0. Its kernel is nine times slower than d * min(1, max(0, y * HUGE)), in which the
product with HUGE is at least 1 for every y > 0 that is not subnormal. It took an eighth of a step of a VGG.

ConvGrad(d, x, w) makes the gradient by x through a matrix of all windows. Where the stride is 1 it is also a Conv of d
with w turned by half a turn and its channels swapped, whose kernel is faster where w makes no more channels than it
reads: together an eighth less time. The gradient by w stays with ConvGrad.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from mnx.graphs.model import Array


@dataclass
class _Graph:
    """What replacements know: the shapes of weights; and the constants that they add, by name."""

    shapes: Mapping[str, Sequence[int]]
    constants: dict[str, Array] = field(default_factory=dict)

    def constant(self, name: str, array: Array) -> str:
        """Add a constant, once."""
        self.constants[name] = array
        return name


def with_quick_kernels(proto: bytes) -> bytes:
    """The same graph with the replacements made; for the CPU only."""
    model = onnx.ModelProto()
    model.ParseFromString(proto)
    known = {value.name: [each.dim_value for each in value.type.tensor_type.shape.dim] for value in model.graph.input}
    graph = _Graph(known)
    nodes = [new for node in model.graph.node for new in _replaced(node, graph)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in graph.constants.items())
    return bytes(model.SerializeToString())


def _replaced(node: NodeProto, graph: _Graph) -> Sequence[NodeProto]:
    replace = REPLACEMENTS.get((node.domain, node.op_type))
    return replace(node, graph) if replace else [node]


def _relu_gradient(node: NodeProto, graph: _Graph) -> Sequence[NodeProto]:
    arriving, y = node.input
    large, share = f"{node.name}:large", f"{node.name}:share"
    huge = graph.constant("mnx:huge", np.array(np.finfo(np.float32).max, np.float32))
    zero, one = (
        graph.constant(f"mnx:{name}", np.array(value, np.float32)) for name, value in (("zero", 0), ("one", 1))
    )
    return [
        helper.make_node("Mul", [y, huge], [large], name=large),
        helper.make_node("Clip", [large, zero, one], [share], name=share),
        helper.make_node("Mul", [arriving, share], list(node.output), name=node.name),
    ]


def _conv_gradient(node: NodeProto, graph: _Graph) -> Sequence[NodeProto]:
    window = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    arriving, _, weight = node.input
    shape = graph.shapes.get(weight, ())
    if not node.output[0] or not _turns(window, shape):
        return [node]
    out, into, *kernel = shape
    size = len(kernel)
    pads = [
        dilation * (side - 1) - pad
        for pad, side, dilation in zip(window["pads"], kernel * 2, list(window["dilations"]) * 2, strict=True)
    ]
    flat = graph.constant(f"{node.name}:flat", np.array([out, into, -1], np.int64))
    turn = graph.constant(f"{node.name}:turn", np.arange(math.prod(kernel))[::-1].astype(np.int64).copy())
    form = graph.constant(f"{node.name}:form", np.array([into, out, *kernel], np.int64))
    parts = [f"{node.name}:{part}" for part in ("flattened", "turned", "swapped", "weight")]
    by_x = helper.make_node("Conv", [arriving, parts[3]], [node.output[0]], name=f"{node.name}:by_x")
    by_x.attribute.extend(
        helper.make_attribute(name, value)
        for name, value in {
            "kernel_shape": kernel,
            "pads": pads,
            "strides": [1] * size,
            "dilations": list(window["dilations"]),
            "group": 1,
        }.items()
    )
    by_w = NodeProto()
    by_w.CopyFrom(node)
    by_w.output[0] = ""
    return [
        helper.make_node("Reshape", [weight, flat], parts[:1], name=parts[0]),
        helper.make_node("Gather", [parts[0], turn], parts[1:2], name=parts[1], axis=2),
        helper.make_node("Transpose", [parts[1]], parts[2:3], name=parts[2], perm=[1, 0, 2]),
        helper.make_node("Reshape", [parts[2], form], parts[3:], name=parts[3]),
        by_x,
        by_w,
    ]


def _turns(window: Mapping[str, Any], shape: Sequence[int]) -> bool:
    """Whether the gradient by x is a Conv, and a faster one."""
    if len(shape) < 3 or not all(shape) or window.get("group", 1) != 1 or shape[0] > shape[1]:
        return False
    if any(each != 1 for each in window.get("strides", ())) or "pads" not in window or "dilations" not in window:
        return False
    kernel = list(shape[2:]) * 2
    return all(
        pad <= dilation * (side - 1)
        for pad, side, dilation in zip(window["pads"], kernel, list(window["dilations"]) * 2, strict=True)
    )


REPLACEMENTS: Mapping[tuple[str, str], Callable[[NodeProto, _Graph], Sequence[NodeProto]]] = {
    ("com.microsoft", "ConvGrad"): _conv_gradient,
    ("com.microsoft", "ReluGrad"): _relu_gradient,
}
