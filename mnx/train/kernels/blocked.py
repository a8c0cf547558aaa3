"""Convolutions in the runtime's blocked layout: channels in blocks of 8 or 16, which one vector register holds.

ONNX Runtime's kernels for it are faster than those for channels first by a tenth to a half, the way into the layout
and back included, and use a second thread better; it takes them itself only where weights are constants. Which block
the processor has is not said anywhere, so that it is tried out: a small convolution must give the numbers of the plain
kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from mnx.graphs.model import Array
from mnx.train.kernels.graph import Graph, plain, window_of
from mnx.train.onnxruntime_sessions import session

BLOCKED = "com.microsoft.nchwc"
"""The domain of the runtime's ops in that layout."""
BLOCKS = (16, 8)
"""What a block may be."""
_TOLERANCE = 1e-4


def blocked_convolution(node: NodeProto, graph: Graph) -> bool:
    """Replace a Conv whose channels fill whole blocks."""
    window, (x, weight, *bias) = window_of(node), node.input
    shape, block = graph.shapes.get(weight, ()), graph.block
    if not fits(graph, shape) or not plain(window) or window.get("auto_pad", b"NOTSET") != b"NOTSET":
        return False
    (out, into, *_), name = shape, node.output[0]
    rows = graph.add("Reshape", [weight, graph.numbers(out // block, block, -1)], f"{name}:rows")
    turned = graph.add("Transpose", [rows], f"{name}:turned", perm=[0, 2, 1])
    inner = taps_outside(graph, turned, out // block, into // block, f"{name}:inner")
    weights = graph.add("Reshape", [inner, graph.numbers(*shape)], f"{name}:weights")
    convolved(graph, [x, weights, *bias], name, shape, window["pads"], window["dilations"])
    return True


def fits(graph: Graph, shape: Sequence[int]) -> bool:
    """Whether the weights (out, in, rows, columns) of a convolution fill whole blocks, and it gains by them."""
    block = graph.block
    return bool(block) and len(shape) == 4 and not any(size % block for size in shape[:2]) and max(shape[2:]) > 1


def taps_outside(graph: Graph, weight: str, out: int, into: int, output: str) -> str:
    """Add what makes weights (blocks out, blocks in, in, taps, out) blocked, taps before in and out.

    A Transpose that moves one axis is several times faster than one that moves more.
    """
    apart = graph.add("Reshape", [weight, graph.numbers(out, into, graph.block, -1, graph.block)], f"{output}:apart")
    return graph.add("Transpose", [apart], output, perm=[0, 1, 3, 2, 4])


def convolved(
    graph: Graph,
    inputs: Sequence[str],
    output: str,
    shape: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> None:
    """Add a convolution of stride 1 by blocked weights, from and to channels first; `shape` is that of its weights."""
    blocks = graph.add("ReorderInput", [inputs[0]], f"{output}:blocks", BLOCKED)
    attributes = {"kernel_shape": list(shape[2:]), "strides": [1, 1], "group": 1, "auto_pad": "NOTSET"}
    attributes |= {"pads": list(pads), "dilations": list(dilations)}
    made = graph.add("Conv", [blocks, *inputs[1:]], f"{output}:convolved", BLOCKED, **attributes)
    graph.add("ReorderOutput", [made], output, BLOCKED, channels=shape[0])


@cache
def block_size() -> int:
    """Channels of a block on this processor, 0 where the runtime has no such kernels."""
    random = np.random.default_rng(0)
    x, weight = (random.standard_normal(shape, np.float32) for shape in ((1, 16, 5, 5), (16, 16, 3, 3)))
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1] * 4, dilations=[1, 1], group=1)
    wanted = _run([node], {}, x, weight)
    for block in BLOCKS:
        graph = Graph({"w": weight.shape}, 1, block)
        blocked_convolution(node, graph)
        try:
            found = _run(graph.nodes, graph.constants, x, weight)
        except Exception:  # noqa: BLE001 - what is raised where a kernel is missing, whatever it is, means no
            continue
        if np.abs(found - wanted).max() <= _TOLERANCE * np.abs(wanted).max():
            return block
    return 0


def _run(nodes: list[NodeProto], constants: dict[str, Array], x: Array, weight: Array) -> Array:
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, each.shape) for name, each in (("x", x), ("w", weight))
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 16, 5, 5))
    held = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    proto = helper.make_model(
        helper.make_graph(nodes, "trial", inputs, [output], held),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(BLOCKED, 1)],
        ir_version=9,
    )
    (found,) = session(proto.SerializeToString(), "cpu", 1).run(None, {"x": x, "w": weight})
    return np.asarray(found)
