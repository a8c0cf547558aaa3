"""Constant subgraphs computed once: weights behind Identity, Transpose, Reshape or Cast, and arithmetic on shapes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx.reference import ReferenceEvaluator

from mnx.graphs.canonical.draft import Draft
from mnx.graphs.model import OPSET, Array

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
        "Greater",
        "GreaterOrEqual",
        "Identity",
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

    A weight that only passes through a node of `_RENAMING` keeps its name; a plain Identity shares it.
    """
    uses: dict[str, int] = {}
    for node in draft.nodes:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    renamed: dict[str, str] = {}
    outputs = {value.name for value in draft.outputs}
    kept = []
    for node in draft.nodes:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if outputs.intersection(node.output) or not computable(node, draft.constants):
            kept.append(node)
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


def computable(node: onnx.NodeProto, constants: Mapping[str, Array]) -> bool:
    """Whether `node` is of `FOLDED` and reads nothing but `constants`."""
    return node.op_type in FOLDED and bool(node.input) and all(name in constants for name in node.input if name)


def computed(node: onnx.NodeProto, constants: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a computable node."""
    feeds = {name: constants[name] for name in node.input if name}
    results = ReferenceEvaluator(node, opsets={"": OPSET}).run(None, feeds)
    return {name: array for name, array in zip(node.output, results, strict=True) if name}
