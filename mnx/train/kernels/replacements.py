"""Where each replacement stands: op -> what replaces it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import NodeProto, helper, numpy_helper

from mnx.graphs.canonical.fused import MICROSOFT
from mnx.train.kernels.blocked import BLOCKED, block_size, blocked_convolution
from mnx.train.kernels.convolution import convolution_gradient
from mnx.train.kernels.graph import Graph
from mnx.train.kernels.max_pool import max_pool_gradient
from mnx.train.kernels.relu import relu_gradient

Replacements = Mapping[tuple[str, str], Callable[[NodeProto, Graph], bool]]
"""Domain and op -> what adds that which replaces a node to the graph, and says whether it did."""

ON_CPU: Replacements = {
    ("", "Conv"): blocked_convolution,
    (MICROSOFT, "ConvGrad"): convolution_gradient,
    (MICROSOFT, "ReluGrad"): relu_gradient,
}
ON_CUDA: Replacements = {("", "MaxPoolGrad"): max_pool_gradient}


def with_quick_kernels(proto: bytes, shapes: Mapping[str, Sequence[int]], threads: int) -> bytes:
    """The same graph with kernels that are quicker on the CPU.

    Args:
        proto: a graph with gradients.
        shapes: of weights and other values by name, the batch aside; values that nothing is known of are left out.
        threads: that it will be run with.
    """
    model = onnx.ModelProto.FromString(proto)
    convolves = any(node.op_type in ("Conv", "ConvGrad") for node in model.graph.node)
    return _replaced(model, ON_CPU, Graph(shapes, threads, block_size() if convolves else 0))


def with_cuda_kernels(proto: bytes) -> bytes:
    """The same graph, a graph with gradients, with kernels that the CUDA provider has."""
    model = onnx.ModelProto.FromString(proto)
    makers = {output: node for node in model.graph.node for output in node.output}
    return _replaced(model, ON_CUDA, Graph(makers=makers))


def _replaced(model: onnx.ModelProto, replacements: Replacements, graph: Graph) -> bytes:
    for node in model.graph.node:
        replace = replacements.get((node.domain, node.op_type))
        if replace is None or not replace(node, graph):
            graph.nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(graph.nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in graph.constants.items())
    if any(node.domain == BLOCKED for node in graph.nodes):
        model.opset_import.append(helper.make_opsetid(BLOCKED, 1))
    return bytes(model.SerializeToString())
