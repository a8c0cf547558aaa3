"""Pads of space taken into the window behind them, where it alone reads them.

Conv(Pad(x, p; 0), pads=q) = Conv(x, pads=p+q)
AveragePool(Pad(x, p; 0)) = AveragePool(x, pads=p, count_include_pad=1), its own pads being 0 or counted too
MaxPool(Pad(x, p; v)) = MaxPool(x, pads=p) for v = -inf (the least float), and for v = 0 where x >= 0,
    its own pads being 0 and every pad smaller than the kernel, so that no window lies in the pads alone
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.canonical.surgery import Graph, Node, Tensor, bypass, extents, given, maker, sole_reader, values

_NONE_BELOW_ZERO = frozenset({"Relu", "Sigmoid", "Softmax", "Softplus", "HardSigmoid", "Exp", "Abs", "Sqrt"})
_KEEPS_SIGN = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Dropout", "Concat", "Add", "Mul", "Transpose"}
)
_PADS, _VALUE, _AXES = 1, 2, 3
_BESIDE_SPACE = 2


def folded_pads(graph: Graph) -> list[str]:
    """Take constant Pads into the Conv or pooling that alone reads them."""
    for node in [node for node in reversed(graph.nodes) if node.op == "Pad"]:
        reader = sole_reader(graph, node.outputs[0])
        pads = _space(node)
        if reader is None or pads is None or reader.inputs[0] is not node.outputs[0]:
            continue
        value = _value(node)
        if reader.op == "Conv" and value == 0:
            reader.attrs["pads"] = [int(a + b) for a, b in zip(reader.attrs["pads"], pads, strict=True)]
        elif reader.op == "AveragePool" and value == 0 and _averages(reader, pads):
            reader.attrs["pads"] = [int(a + b) for a, b in zip(reader.attrs["pads"], pads, strict=True)]
            reader.attrs["count_include_pad"] = 1
        elif reader.op == "MaxPool" and _is_least(node, value) and _window_holds(reader, pads):
            reader.attrs["pads"] = pads
        else:
            continue
        bypass(graph, node)
    return []


def _space(node: Node) -> list[int] | None:
    """The pads of the axes of space, begins then ends; None where there are others, fewer than none or none known."""
    shape, pads = extents(node.inputs[0]), values(node.inputs[_PADS])
    mode = node.attrs.get("mode", "constant")
    if shape is None or pads is None or mode != "constant" or (given(node, _VALUE) and values(node.inputs[2]) is None):
        return None
    rank = len(shape)
    axes = values(node.inputs[_AXES]) if given(node, _AXES) else np.arange(rank)
    if axes is None:
        return None
    full = np.zeros((2, rank), dtype=np.int64)
    full[:, [int(axis) % rank for axis in axes]] = pads.reshape(2, -1)
    if full[:, :_BESIDE_SPACE].any() or (full < 0).any():
        return None
    return [int(size) for size in full[:, _BESIDE_SPACE:].reshape(-1)]


def _value(node: Node) -> float:
    array = values(node.inputs[_VALUE]) if given(node, _VALUE) else None
    return 0.0 if array is None else float(array.reshape(()))


def _averages(pool: Node, pads: list[int]) -> bool:
    counted = not any(pool.attrs["pads"]) or pool.attrs.get("count_include_pad", 0)
    total = [a + b for a, b in zip(pool.attrs["pads"], pads, strict=True)]
    return bool(counted and _fits(pool, total))


def _window_holds(pool: Node, pads: list[int]) -> bool:
    return not any(pool.attrs["pads"]) and _fits(pool, pads)


def _fits(pool: Node, pads: list[int]) -> bool:
    kernel = [*pool.attrs["kernel_shape"], *pool.attrs["kernel_shape"]]
    plain = not pool.attrs.get("ceil_mode", 0) and "dilations" not in pool.attrs
    return plain and all(pad < size for pad, size in zip(pads, kernel, strict=True))


def _is_least(node: Node, value: float) -> bool:
    """Whether no number that arrives is less than the padded value."""
    return value <= float(np.finfo(np.float32).min) or (value == 0 and never_negative(node.inputs[0]))


def never_negative(value: Tensor) -> bool:
    """Whether what makes a value guarantees that it is at least 0."""
    array, node = values(value), maker(value)
    if array is not None:
        return bool((array >= 0).all())
    if node is None:
        return False
    if node.op == "Clip":
        least = values(node.inputs[1]) if given(node, 1) else None
        return least is not None and bool((least >= 0).all())
    data = node.inputs[:1] if node.op == "Dropout" else node.inputs
    return node.op in _NONE_BELOW_ZERO or (node.op in _KEEPS_SIGN and all(never_negative(tensor) for tensor in data))
