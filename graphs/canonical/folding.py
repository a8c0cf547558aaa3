"""Constant subgraphs computed once: weights behind Identity, Transpose, Reshape or Cast, and arithmetic on shapes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from mnx.graphs.canonical.draft import Draft
from mnx.graphs.model import OPSET, Array, Shape

FOLDED = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "CastLike",
        "Ceil",
        "Clip",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Equal",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "GatherND",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "Log",
        "MatMul",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pad",
        "Pow",
        "Range",
        "Reciprocal",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Reshape",
        "Round",
        "ScatterND",
        "Sign",
        "Slice",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
    ]
)
"""The ops computed when everything they read is constant: those that exporters leave between a weight and its layer."""

_RENAMING = frozenset({"Identity", "Transpose", "Reshape", "Cast", "Squeeze", "Unsqueeze", "Flatten"})


def fold(draft: Draft) -> None:
    """Replace, in place, nodes that read constants only by the constants they make.

    A weight that only passes through a node of `_RENAMING` keeps its name; a plain Identity shares it, unless it stands
    for another parameter of the same value (see `_own`).
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in draft.nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    uses = {name: len(nodes) for name, nodes in readers.items()}
    own = _own(draft, readers)
    renamed: dict[str, str] = {}
    outputs = {value.name for value in draft.outputs}
    kept = []
    for node in draft.nodes:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if outputs.intersection(node.output) or not computable(node, draft.constants):
            kept.append(node)
            continue
        if node.output[0] in own and uses[node.input[0]] > 1:
            uses[node.input[0]] -= 1
            draft.constants[node.output[0]] = draft.constants[node.input[0]]
            continue
        if node.op_type == "Identity":
            renamed[node.output[0]] = node.input[0]
            uses[node.input[0]] += uses.get(node.output[0], 0) - 1
            continue
        results = computed(node, draft.constants)
        if node.op_type in _RENAMING and uses[node.input[0]] == 1:
            renamed[node.output[0]] = node.input[0]
            uses[node.input[0]] = uses.get(node.output[0], 0)
            draft.constants[node.input[0]] = results[node.output[0]]
        else:
            draft.constants |= results
    draft.nodes = kept
    draft.drop_dead()


def _own(draft: Draft, readers: Mapping[str, list[onnx.NodeProto]]) -> frozenset[str]:
    """Results of Identity that are parameters of their own, equal to another one when the model was exported.

    TorchScript keeps one of several equal parameters and writes `Identity(initializer)` for the others, under their
    dotted names, or under a made-up one where it had turned them; a module that is used twice has no Identity. A matrix
    under a made-up name is a parameter of its own where it belongs to a Conv or where its bias comes through Identity
    too: the matrix of a layer used twice looks alike, but its bias is read directly.
    """
    copies = {node.output[0] for node in draft.nodes if node.op_type == "Identity" and node.input[0] in draft.constants}

    def belongs(name: str) -> bool:
        if "." in name and "/" not in name and "::" not in name:
            return True
        layers = readers.get(name, [])
        if not name.startswith("onnx::") or not layers:
            return False
        behind = [add for layer in layers for value in layer.output for add in readers.get(value, [])]
        biases = {value for node in (*layers, *behind) for value in node.input} & (copies - {name})
        return all(layer.op_type == "Conv" for layer in layers) or bool(biases)

    return frozenset(name for name in copies if belongs(name))


def computable(node: onnx.NodeProto, constants: Mapping[str, Array]) -> bool:
    """Whether `node` is of `FOLDED` and reads nothing but `constants`."""
    return node.op_type in FOLDED and bool(node.input) and all(name in constants for name in node.input if name)


def computed(node: onnx.NodeProto, constants: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a computable node."""
    if node.op_type == "GatherElements":
        return {node.output[0]: _gathered(node, *(constants[name] for name in node.input))}
    feeds = {name: constants[name] for name in node.input if name}
    results = ReferenceEvaluator(node, opsets={"": OPSET}).run(None, feeds)
    return {name: array for name, array in zip(node.output, results, strict=True) if name}


def measured(node: onnx.NodeProto, shape: Shape) -> Array:
    """What a Shape or Size node makes of a value of this shape."""
    if node.op_type == "Size":
        return np.array(np.prod(shape), dtype=np.int64)
    limits = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[limits.get("start", 0) : limits.get("end", len(shape))], dtype=np.int64)


def _gathered(node: onnx.NodeProto, data: Array, indices: Array) -> Array:
    """GatherElements, which ONNX's reference implementation gets wrong for axes longer than 64."""
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0) % data.ndim
    within = tuple(slice(None) if here == axis else slice(size) for here, size in enumerate(indices.shape))
    return np.take_along_axis(data[within], np.where(indices < 0, indices + data.shape[axis], indices), axis)
