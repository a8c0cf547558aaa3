"""Where each replacement stands: op -> what replaces it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import NodeProto, helper, numpy_helper

from mnx.graphs.canonical.fused import MICROSOFT
from mnx.train.kernels.blocked import BLOCKED, block_size, blocked_convolution
from mnx.train.kernels.convolution import convolution_gradient
from mnx.train.kernels.graph import Graph
from mnx.train.kernels.relu import relu_gradient

REPLACEMENTS: Mapping[tuple[str, str], Callable[[NodeProto, Graph], bool]] = {
    ("", "Conv"): blocked_convolution,
    (MICROSOFT, "ConvGrad"): convolution_gradient,
    (MICROSOFT, "ReluGrad"): relu_gradient,
}
"""Each adds what replaces a node to the graph, and says whether it did."""


def with_quick_kernels(proto: bytes, shapes: Mapping[str, Sequence[int]], threads: int) -> bytes:
    """The same graph with the replacements made; for the CPU only.

    Args:
        proto: a graph with gradients.
        shapes: of weights and other values by name, the batch aside; values that nothing is known of are left out.
        threads: that it will be run with.
    """
    model = onnx.ModelProto()
    model.ParseFromString(proto)
    convolves = any(node.op_type in ("Conv", "ConvGrad") for node in model.graph.node)
    graph = Graph(shapes, threads, block_size() if convolves else 0)
    for node in model.graph.node:
        replace = REPLACEMENTS.get((node.domain, node.op_type))
        if replace is None or not replace(node, graph):
            graph.nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(graph.nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in graph.constants.items())
    if any(node.domain == BLOCKED for node in graph.nodes):
        model.opset_import.append(helper.make_opsetid(BLOCKED, 1))
    return bytes(model.SerializeToString())
