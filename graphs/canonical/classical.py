"""What scikit-learn's exporter writes around a network: ops of the domain ai.onnx.ml, in ONNX's own.

ZipMap(p) = p, without its map from class to probability      Scaler(x) = (x - offset) * scale
ArrayFeatureExtractor(c, i) = Gather(c, i) of one row         (c of rank 1, made flat behind it)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "ai.onnx.ml"
Rule: TypeAlias = Callable[[onnx.GraphProto, onnx.NodeProto], list[onnx.NodeProto]]


def without_maps(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Cut every ZipMap, in place; its result becomes the tensor it reads. Says what was cut."""
    graph = proto.graph
    cut = {node.output[0]: node for node in graph.node if _is(node, "ZipMap")}
    if not cut:
        return ()
    kept = [node for node in graph.node if not _is(node, "ZipMap")]
    del graph.node[:]
    graph.node.extend(kept)
    for value in list(graph.value_info):
        if value.name in cut:
            graph.value_info.remove(value)
    for value in graph.output:
        if value.name in cut:
            classes = [*cut[value.name].attribute[0].ints, *cut[value.name].attribute[0].strings]
            value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, ["batch", len(classes)]))
            copied = helper.make_node("Identity", cut[value.name].input[:], [value.name], f"{value.name}.tensor")
            graph.node.append(copied)
    return (f"maps from class to probability left as tensors (ZipMap): {', '.join(cut)}",)


def expand_classical(graph: onnx.GraphProto) -> None:
    """Write the ops of `RULES` in ONNX's own, in place."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        rule = RULES.get(node.op_type) if node.domain == DOMAIN else None
        nodes += [node] if rule is None else rule(graph, node)
    del graph.node[:]
    graph.node.extend(nodes)


def _is(node: onnx.NodeProto, op: str) -> bool:
    return bool(node.domain == DOMAIN and node.op_type == op)


def _extractor(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    if ranks.get(node.input[0]) != 1:
        return [node]
    flat, picked, row = (f"{node.output[0]}.{word}" for word in ("flat", "picked", "row"))
    _constant(graph, f"{flat}.target", np.array([-1], np.int64))
    _constant(graph, row, np.array([0], np.int64))
    return [
        helper.make_node("Reshape", [node.input[1], f"{flat}.target"], [flat], flat),
        helper.make_node("Gather", [node.input[0], flat], [picked], picked, axis=0),
        helper.make_node("Unsqueeze", [picked, row], [node.output[0]], node.name),
    ]


def _scaler(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    values = {attribute.name: list(attribute.floats) for attribute in node.attribute}
    result = node.output[0]
    offset, scale, centred = (f"{result}.{word}" for word in ("offset", "scale", "centred"))
    _constant(graph, offset, np.array(values.get("offset") or [0.0], np.float32))
    _constant(graph, scale, np.array(values.get("scale") or [1.0], np.float32))
    return [
        helper.make_node("Sub", [node.input[0], offset], [centred], centred),
        helper.make_node("Mul", [centred, scale], [result], node.name),
    ]


def _constant(graph: onnx.GraphProto, name: str, array: np.typing.NDArray[np.generic]) -> None:
    graph.initializer.append(numpy_helper.from_array(array, name))


RULES: Mapping[str, Rule] = {"ArrayFeatureExtractor": _extractor, "Scaler": _scaler}
"""Op of ai.onnx.ml -> its expansion."""
