"""Fused attention undone.

    softmax(scale Q K^T + mask) V      heads side by side: (batch, tokens, heads d) <-> (batch, heads, tokens, d)

com.microsoft.Attention multiplies its one input by a weight that holds those of Q, K and V side by side;
com.microsoft.MultiHeadAttention and ONNX's Attention get Q, K and V.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from onnx import TensorProto

from mnx.graphs.canonical.expansion import Expansion

_FILTER = -10000.0
_RANK = 3


def fused_attention(node: Expansion) -> None:
    """Expand com.microsoft.Attention."""
    x, weight, bias = node.inputs[0], node.inputs[1], node.input(2)
    _refuse(node, past=node.input(4), rotary=node.integer("do_rotary", 0), past_and_present=any(node.outputs[1:]))
    matrix, shift = node.constant(weight), node.constant(bias) if bias else None
    if matrix is None or (bias and shift is None):
        raise node.error("has weights that are computed, which has no rule")
    third = matrix.shape[1] // 3
    sizes = [int(size) for size in node.attributes.get("qkv_hidden_sizes", (third, third, third))]
    ends = np.cumsum(sizes)
    heads = node.integer("num_heads", 1)
    projected = []
    for letter, size, end in zip("qkv", sizes, ends, strict=True):
        part = node.add("MatMul", x, node.array(f"{letter}.weight", matrix[:, end - size : end]))
        if shift is not None:
            part = node.add("Add", part, node.array(f"{letter}.bias", shift[end - size : end]))
        projected.append(_apart(node, part, heads, size // heads))
    length = node.shape(x)[1]
    masks = _masks(node, node.input(3), node.input(5), length)
    causal = _causal(node, node.integer("unidirectional", 0), length, length)
    _finish(node, projected, heads, sizes[0] // heads, sizes[2], masks, causal)


def multi_head_attention(node: Expansion) -> None:
    """Expand com.microsoft.MultiHeadAttention."""
    _refuse(node, past=node.input(6) or node.input(7), past_and_present=any(node.outputs[1:]))
    if not all(node.input(index) for index in range(3)) or any(
        len(node.shape(node.inputs[i])) != _RANK for i in range(3)
    ):
        raise node.error("has packed queries, keys or values, which has no rule")
    heads = node.integer("num_heads", 1)
    widths = [node.shape(name)[2] for name in node.inputs[:3]]
    bias = node.input(3)
    shift = node.constant(bias) if bias else None
    if bias and shift is None:
        raise node.error("has a bias that is computed, which has no rule")
    projected = []
    for letter, part, width, end in zip("qkv", node.inputs[:3], widths, np.cumsum(widths), strict=True):
        if shift is not None:
            part = node.add("Add", part, node.array(f"{letter}.bias", shift[end - width : end]))
        projected.append(_apart(node, part, heads, width // heads))
    lengths = node.shape(node.inputs[0])[1], node.shape(node.inputs[1])[1]
    masks = _masks(node, node.input(4), node.input(5), lengths[1])
    causal = _causal(node, node.integer("unidirectional", 0), *lengths)
    _finish(node, projected, heads, widths[0] // heads, widths[2], masks, causal)


def attention(node: Expansion) -> None:
    """Expand ONNX's own Attention (opset 23 and newer)."""
    _refuse(node, past=node.input(4) or node.input(5) or node.input(6), past_and_present=any(node.outputs[1:]))
    shapes = [node.shape(name) for name in node.inputs[:3]]
    packed = len(shapes[0]) == _RANK
    heads = node.integer("q_num_heads", 0) if packed else shapes[0][1]
    if heads != (node.integer("kv_num_heads", 0) if packed else shapes[1][1]):
        raise node.error("has groups of queries that share keys, which has no rule")
    widths = [shape[2] // heads if packed else shape[3] for shape in shapes]
    projected = node.inputs[:3]
    if packed:
        projected = [_apart(node, name, heads, width) for name, width in zip(projected, widths, strict=True)]
    lengths = [shape[1] if packed else shape[2] for shape in shapes]
    masks = [_declared_mask(node, node.input(3))] if node.input(3) else []
    causal = _causal(node, node.integer("is_causal", 0), *lengths[:2])
    _finish(node, projected, heads, widths[0], heads * widths[2], masks, causal, packed)


def _refuse(node: Expansion, **options: object) -> None:
    for name, given in options.items():
        if given:
            raise node.error(f"has an option without a rule: {name.replace('_', ' ')}")


def _apart(node: Expansion, x: str, heads: int, width: int) -> str:
    """(batch, tokens, heads d) -> (batch, heads, tokens, d)."""
    return node.add("Transpose", node.add("Reshape", x, node.integers([0, 0, heads, width])), perm=[0, 2, 1, 3])


def _finish(
    node: Expansion,
    projected: Sequence[str],
    heads: int,
    width: int,
    features: int,
    masks: Sequence[str],
    causal: str = "",
    together: bool = True,
) -> None:
    queries, keys, values = projected
    scale = node.real("scale", 0.0) or 1 / sqrt(width)
    turned = node.add("Transpose", keys, perm=[0, 1, 3, 2])
    scores = node.add("Mul", node.add("MatMul", queries, turned), node.number(scale))
    softcap = node.real("softcap", 0.0)
    if softcap:
        scores = node.add("Mul", node.add("Tanh", node.add("Div", scores, node.number(softcap))), node.number(softcap))
    for mask in masks:
        scores = node.add("Add", scores, mask)
    if causal:
        scores = node.add("Where", causal, scores, node.number(-np.inf))
    weights = node.add("Softmax", scores, axis=-1)
    if not together:
        node.last("MatMul", weights, values)
        return
    mixed = node.add("Transpose", node.add("MatMul", weights, values), perm=[0, 2, 1, 3])
    node.last("Reshape", mixed, node.integers([0, 0, features]))


def _masks(node: Expansion, mask: str, added: str, keys: int) -> list[str]:
    """Everything that com.microsoft ops add to the scores."""
    return [*([_padding(node, mask, keys)] if mask else []), *([added] if added else [])]


def _padding(node: Expansion, mask: str, keys: int) -> str:
    """From 1 for what counts and 0 for padding, (batch, keys) or (batch, queries, keys), or from lengths (batch)."""
    rank = len(node.shape(mask))
    if rank == 1:
        places = node.array("places", np.arange(keys, dtype=np.int32))
        lengths = node.add("Unsqueeze", node.add("Cast", mask, to=TensorProto.INT32), node.integers([1]))
        counts = node.add("Less", places, lengths)
    elif rank in (2, _RANK):
        counts = node.add("Cast", mask, to=TensorProto.BOOL)
    else:
        raise node.error(f"has a mask of rank {rank}, which has no rule")
    counts = node.add("Unsqueeze", counts, node.integers([1] if rank == _RANK else [1, 2]))
    return node.add("Where", counts, node.number(0.0), node.number(node.real("mask_filter_value", _FILTER)))


def _causal(node: Expansion, wanted: int, length: int, keys: int) -> str:
    """Which key each query may look at, '' for all."""
    if not wanted:
        return ""
    return node.array("causal", np.tril(np.ones((length, keys), dtype=bool)))


def _declared_mask(node: Expansion, mask: str) -> str:
    """A mask of booleans as numbers; one of numbers as it is."""
    boolean = node.type(mask) == TensorProto.BOOL
    return node.add("Where", mask, node.number(0.0), node.number(-np.inf)) if boolean else mask
