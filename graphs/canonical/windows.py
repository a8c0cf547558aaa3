"""Explicit windows: kernel, strides, pads and dilations of Conv and pooling written out.

SAME: total pad = max((ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0) per axis; the odd
one lies at the end (UPPER) or the beginning (LOWER). VALID: no pads.
"""

from __future__ import annotations

from mnx.graphs.canonical.surgery import Graph, Node, error, extents, is_output, known_extents

_WINDOWED = frozenset({"Conv", "MaxPool", "AveragePool"})


def explicit_windows(graph: Graph) -> list[str]:
    """Write out the attributes of every Conv, MaxPool and AveragePool."""
    for node in graph.nodes:
        if node.op in _WINDOWED:
            _write_out(graph, node)
    return []


def _write_out(graph: Graph, node: Node) -> None:
    kernel = node.attrs.get("kernel_shape")
    if kernel is None:
        kernel = known_extents(graph, node, node.inputs[1])[2:]
    kernel = [int(size) for size in kernel]
    ones = [1] * len(kernel)
    strides, dilations = list(node.attrs.get("strides", ones)), list(node.attrs.get("dilations", ones))
    window: dict[str, object] = {"kernel_shape": kernel, "strides": strides}
    pads = _pads(graph, node, kernel, strides, dilations)
    window["pads"] = pads
    if node.op == "Conv":
        window |= {"dilations": dilations, "group": node.attrs.get("group", 1)}
    else:
        window["ceil_mode"] = node.attrs.get("ceil_mode", 0)
        if dilations != ones:
            window["dilations"] = dilations
    if node.op == "AveragePool" and any(pads):
        window["count_include_pad"] = node.attrs.get("count_include_pad", 0)
    if node.op == "MaxPool":
        for indices in node.outputs[1:]:
            if indices.outputs or is_output(graph, indices):
                raise error(graph, node, "gives its indices to others, which has no rule")
        node.outputs = node.outputs[:1]
    node.attrs = window


def _pads(graph: Graph, node: Node, kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    mode = node.attrs.get("auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * (2 * len(kernel))
    if mode == "NOTSET":
        return list(node.attrs.get("pads", [0] * (2 * len(kernel))))
    sizes = (extents(node.inputs[0]) or ())[2:]
    if len(sizes) != len(kernel) or not all(isinstance(size, int) for size in sizes):
        raise error(graph, node, f"has auto_pad={mode} over axes of unknown size: export with fixed image sizes")
    begins, ends = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-int(size) // stride) - 1) * stride + (width - 1) * dilation + 1 - int(size), 0)
        less, more = total // 2, total - total // 2
        begins.append(more if mode == "SAME_LOWER" else less)
        ends.append(less if mode == "SAME_LOWER" else more)
    return begins + ends
