"""Fused ops undone: what onnxruntime's optimiser and newer opsets write as one op, in the ops of the dialect.

FusedConv, FusedGemm = the layer, (Add,) the activation       FusedMatMul = alpha MatMul of transposed operands
QuickGelu(x) = Swish(x) = x sigmoid(alpha x)                  BiasGelu, FastGelu(x, b) = Gelu(x + b)
SkipLayerNormalization(x, s, ...) = LayerNormalization(x + s (+ b))
SimplifiedLayerNormalization(x) = RMSNormalization(x) = x / sqrt(mean(x^2) + epsilon) * scale
EmbedLayerNormalization = LayerNormalization(words[ids] + positions[:length] + segments[segment ids])

Attention has a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnx
from onnx import shape_inference

from mnx.graphs.canonical.expansion import Expansion
from mnx.graphs.canonical.fused_attention import attention, fused_attention, multi_head_attention
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array
from mnx.graphs.suggest import one_line

MICROSOFT = "com.microsoft"
Rule: TypeAlias = Callable[[Expansion], None]

_EPSILON = 1e-5
_SKIP_EPSILON = 1e-12
_SKIP_SUM = 3


def _activation(node: Expansion, x: str) -> None:
    """The activation that a fused layer names, behind x."""
    op = node.text("activation", "")
    parameters = node.reals("activation_params")
    alpha, beta = (node.real(f"activation_{name}", np.nan) for name in ("alpha", "beta"))
    first, second = parameters[:2] if len(parameters) > 1 else (parameters[0] if parameters else alpha, beta)
    if op in ("Relu", "Tanh", "Sigmoid"):
        node.last(op, x)
    elif op == "LeakyRelu":
        node.last(op, x, alpha=first)
    elif op == "HardSigmoid":
        node.last(op, x, alpha=first, beta=second)
    elif op == "Clip":
        node.last(op, x, node.number(first), node.number(second))
    else:
        raise node.error(f"has an activation {op!r} that mnx does not know")


def _fused_conv(node: Expansion) -> None:
    windows = {name: value for name, value in node.attributes.items() if not name.startswith("activation")}
    y = node.add("Conv", *node.inputs[:3], **windows)
    _activation(node, node.add("Add", y, node.input(3)) if node.input(3) else y)


def _fused_gemm(node: Expansion) -> None:
    factors = {name: value for name, value in node.attributes.items() if not name.startswith("activation")}
    _activation(node, node.add("Gemm", *node.inputs, **factors))


def _fused_matmul(node: Expansion) -> None:
    operands = []
    for side, name in zip("AB", node.inputs, strict=True):
        if node.integer(f"transBatch{side}", 0):
            raise node.error(f"transposes batches (transBatch{side}), which has no rule")
        if node.integer(f"trans{side}", 0):
            rank = len(node.shape(name))
            name = node.add("Transpose", name, perm=[*range(rank - 2), rank - 1, rank - 2])
        operands.append(name)
    alpha = node.real("alpha", 1.0)
    if alpha == 1:
        node.last("MatMul", *operands)
    else:
        node.last("Mul", node.add("MatMul", *operands), node.number(alpha))


def _swish(node: Expansion) -> None:
    alpha = node.real("alpha", 1.702 if node.op == "QuickGelu" else 1.0)
    x = node.inputs[0]
    node.last("Mul", x, node.add("Sigmoid", x if alpha == 1 else node.add("Mul", x, node.number(alpha))))


def _gelu(node: Expansion) -> None:
    x = node.add("Add", *node.inputs) if node.input(1) else node.inputs[0]
    node.last("Gelu", x, approximate="tanh" if node.op == "FastGelu" else "none")


def _bias_gelu(node: Expansion) -> None:
    node.last("Gelu", node.add("Add", *node.inputs), approximate="none")


def _layer_norm(node: Expansion) -> None:
    if any(node.outputs[1:]):
        raise node.error("gives its statistics to others: export the model in eval mode")
    node.last("LayerNormalization", *node.inputs, axis=node.integer("axis", -1), epsilon=node.real("epsilon", _EPSILON))


def _rms_norm(node: Expansion) -> None:
    if any(node.outputs[1:]):
        raise node.error("gives its statistics to others: export the model in eval mode")
    if node.integer("axis", -1) not in (-1, len(node.shape(node.inputs[0])) - 1):
        raise node.error("normalises over several axes, which has no rule")
    _root_mean_square(node, node.inputs[0], node.inputs[1], node.real("epsilon", _EPSILON))


def _root_mean_square(node: Expansion, x: str, scale: str, epsilon: float) -> None:
    mean = node.add("ReduceMean", node.add("Mul", x, x), node.integers([-1]), keepdims=1)
    root = node.add("Sqrt", node.add("Add", mean, node.number(epsilon)))
    node.last("Mul", node.add("Mul", x, node.add("Reciprocal", root)), scale)


def _skip_norm(node: Expansion) -> None:
    simplified = node.op.startswith("SkipSimplified")
    bias = node.input(3 if simplified else 4)
    given = node.outputs[_SKIP_SUM] if len(node.outputs) > _SKIP_SUM else ""
    if any(node.outputs[1:_SKIP_SUM]):
        raise node.error("gives its statistics to others: export the model in eval mode")
    total = node.add("Add", *node.inputs[:2], output="" if bias else given)
    if bias:
        total = node.add("Add", total, bias, output=given)
    epsilon = node.real("epsilon", _SKIP_EPSILON)
    if simplified:
        _root_mean_square(node, total, node.inputs[2], epsilon)
    else:
        node.last("LayerNormalization", total, *filter(None, node.inputs[2:4]), axis=-1, epsilon=epsilon)


def _embed_norm(node: Expansion) -> None:
    ids, segments, words, positions, kinds, scale, shift = node.inputs[:7]
    length = node.shape(ids)[1]
    place = node.input(8)
    if place:
        at = node.add("Gather", positions, place, axis=0)
    else:
        at = node.add("Slice", positions, node.integers([0]), node.integers([length]), node.integers([0]))
    total = node.add("Add", node.add("Gather", words, ids, axis=0), at)
    if segments and kinds:
        total = node.add("Add", total, node.add("Gather", kinds, segments, axis=0))
    if len(node.outputs) > 2 and node.outputs[2]:
        total = node.add("Identity", total, output=node.outputs[2])
    if len(node.outputs) > 1 and node.outputs[1] and node.input(7):
        node.add("ReduceSum", node.input(7), node.integers([1]), output=node.outputs[1], keepdims=0)
    node.last("LayerNormalization", total, scale, shift, axis=-1, epsilon=node.real("epsilon", _SKIP_EPSILON))


RULES: Mapping[tuple[str, str], Rule] = {
    (MICROSOFT, "FusedConv"): _fused_conv,
    (MICROSOFT, "FusedGemm"): _fused_gemm,
    (MICROSOFT, "FusedMatMul"): _fused_matmul,
    (MICROSOFT, "TransposeMatMul"): _fused_matmul,
    (MICROSOFT, "QuickGelu"): _swish,
    (MICROSOFT, "Gelu"): _gelu,
    (MICROSOFT, "FastGelu"): _gelu,
    (MICROSOFT, "BiasGelu"): _bias_gelu,
    (MICROSOFT, "LayerNormalization"): _layer_norm,
    (MICROSOFT, "SimplifiedLayerNormalization"): _rms_norm,
    (MICROSOFT, "SkipLayerNormalization"): _skip_norm,
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): _skip_norm,
    (MICROSOFT, "EmbedLayerNormalization"): _embed_norm,
    (MICROSOFT, "Attention"): fused_attention,
    (MICROSOFT, "MultiHeadAttention"): multi_head_attention,
    ("", "Swish"): _swish,
    ("", "RMSNormalization"): _rms_norm,
    ("", "Attention"): attention,
}
"""(domain, op) -> its expansion."""


def expand_fused(proto: onnx.ModelProto, constants: dict[str, Array], name: str) -> None:
    """Write every op of `RULES` in ops of the dialect, in place; new constants are added to `constants`.

    Args:
        proto: the network; large constants are inputs.
        constants: the large constants by name.
        name: what the model is called.

    Raises:
        GraphError: a shape that is needed is not known, or a node has an option without a rule.
    """
    graph = proto.graph
    taken = {value for node in graph.node for value in (*node.input, *node.output)}
    while any(_key(node) in RULES for node in graph.node):
        shapes, types = _shapes(proto)
        small = {tensor.name: tensor for tensor in graph.initializer}
        nodes: list[onnx.NodeProto] = []
        last = GraphError(f"the shapes of {name} are not known")
        done = False
        for node in graph.node:
            rule = RULES.get(_key(node))
            if rule is None:
                nodes.append(node)
                continue
            expansion = Expansion(node, name, shapes, types, constants, small, taken)
            try:
                rule(expansion)
            except KeyError as missing:
                last = expansion.error(f"reads {missing.args[0]!r}, whose shape is not known before the model runs")
                nodes.append(node)
                continue
            done = True
            nodes += expansion.nodes
            constants |= expansion.large
            graph.initializer.extend(expansion.small)
            graph.input.extend(expansion.declared())
        if not done:
            raise last
        del graph.node[:]
        graph.node.extend(nodes)


def _key(node: onnx.NodeProto) -> tuple[str, str]:
    return ("" if node.domain == "ai.onnx" else node.domain), node.op_type


def _shapes(proto: onnx.ModelProto) -> tuple[dict[str, tuple[int | str, ...]], dict[str, int]]:
    """What is known of shapes and element types; an axis whose size is not is 'unknown'."""
    try:
        graph = shape_inference.infer_shapes(proto, data_prop=True).graph
    except shape_inference.InferenceError as error:
        raise GraphError(f"shapes of {proto.graph.name} do not fit together: {one_line(error)}") from error
    shapes: dict[str, tuple[int | str, ...]] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            types[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            sizes = tensor.shape.dim
            shapes[value.name] = tuple(size.dim_value if size.HasField("dim_value") else "unknown" for size in sizes)
    return shapes, types
