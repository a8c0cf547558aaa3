"""Stochastic depth (Huang et al. 2016), which a training export writes out; other draws of numbers are refused.

x * Cast(Less(RandomUniformLike(ones of shape (batch, 1, ..., 1)), keep)) / keep -> Dropout(x, 1 - keep)

ONNX has no op that drops whole examples: it becomes a Dropout whose name ends in `DROP_PATH`, which says so. In eval
mode both pass x through. With a mask in the shape of x it is a plain Dropout.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from mnx.graphs.canonical.draft import Draft

DROP_PATH = ".drop_path"
"""What the name of a Dropout ends in that drops whole examples."""

RANDOM = frozenset(
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"]
)
"""The ops that draw numbers."""
_CURE = "mnx trains with Dropout and stochastic depth only: export the model in eval mode"


def stochastic_depth(draft: Draft) -> None:
    """Turn products with random masks into Dropout, in place.

    Raises:
        GraphError: numbers are drawn for anything else.
    """
    makers = {name: node for node in draft.nodes for name in node.output}
    for place, node in enumerate(draft.nodes):
        found = _masked(node, makers, draft) if node.op_type == "Mul" else None
        if found is not None:
            x, keep, whole = found
            name = node.name or node.output[0]
            ratio = f"{node.output[0]}.ratio"
            draft.constants[ratio] = np.array(1 - keep, np.float32)
            dropout = helper.make_node("Dropout", [x, ratio], node.output[:1], name=name + DROP_PATH * whole)
            draft.nodes[place] = dropout
    draft.drop_dead()
    for node in draft.nodes:
        if node.op_type in RANDOM:
            raise draft.error(node, f"draws numbers whenever the model runs: {_CURE}")


def _masked(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], draft: Draft) -> tuple[str, float, bool] | None:
    """What a product masks, the share that it keeps, and whether whole examples go; None for other products."""
    for x, mask in (node.input, [*node.input][::-1]):
        drawn, scale = makers.get(mask), 1.0
        if drawn is not None and drawn.op_type in ("Div", "Mul"):
            number = _number(drawn.input[1], draft)
            if number is None or not number:
                continue
            scale, drawn = 1 / number if drawn.op_type == "Div" else number, makers.get(drawn.input[0])
        if drawn is not None and drawn.op_type == "Cast":
            drawn = makers.get(drawn.input[0])
        if drawn is None or drawn.op_type != "Less":
            continue
        source, keep = makers.get(drawn.input[0]), _number(drawn.input[1], draft)
        if source is None or source.op_type != "RandomUniformLike" or keep is None:
            continue
        limits = {each.name: each.f for each in source.attribute if each.name in ("low", "high")}
        if (limits.get("low", 0.0), limits.get("high", 1.0)) != (0.0, 1.0) or not np.isclose(
            scale * keep, 1, rtol=1e-5
        ):
            raise draft.error(source, f"makes a mask that is no Dropout's: {_CURE}")
        if source.input[0] == x:
            return x, keep, False
        if _an_example_each(makers.get(source.input[0]), makers, draft):
            return x, keep, True
        raise draft.error(
            source, f"makes a mask neither of the shape of what it masks nor of one number an example: {_CURE}"
        )
    return None


def _number(name: str, draft: Draft) -> float | None:
    array = draft.constants.get(name)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _an_example_each(node: onnx.NodeProto | None, makers: Mapping[str, onnx.NodeProto], draft: Draft) -> bool:
    """Whether a node makes a tensor of shape (something, 1, ..., 1), from a Concat of its sizes."""
    shape = {"ConstantOfShape": 0, "Expand": 1}.get(node.op_type) if node is not None else None
    sizes = makers.get(node.input[shape]) if node is not None and shape is not None else None
    if sizes is None or sizes.op_type != "Concat" or len(sizes.input) < 2:
        return False
    return sizes.input[0] not in draft.constants and all(_one(name, makers, draft) for name in sizes.input[1:])


def _one(name: str, makers: Mapping[str, onnx.NodeProto], draft: Draft) -> bool:
    """Whether a value is the constant 1, perhaps with another axis."""
    while name in makers and makers[name].op_type == "Unsqueeze":
        name = makers[name].input[0]
    return _number(name, draft) == 1
