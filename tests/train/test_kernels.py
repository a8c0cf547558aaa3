"""Replacements of slow kernels give the numbers of the ops that they replace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper
from onnxruntime import InferenceSession

from mnx.graphs.canonical.fused import MICROSOFT
from mnx.graphs.model import Array
from mnx.graphs.verify import difference
from mnx.train.kernels import with_cuda_kernels, with_quick_kernels
from mnx.train.kernels.blocked import BLOCKED, block_size

ROUNDING = 1e-6


def run(proto: bytes, feeds: dict[str, Array]) -> list[Array]:
    return [np.asarray(each) for each in InferenceSession(proto, providers=["CPUExecutionProvider"]).run(None, feeds)]


def graph(node: NodeProto, feeds: dict[str, Array]) -> bytes:
    """A graph of one node."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in feeds.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output if name]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    made = helper.make_graph([node], "g", inputs, outputs)
    return helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString()


def ops(proto: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(proto).graph.node]


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def test_the_quick_relu_gradient_gives_the_same_numbers() -> None:
    random = np.random.default_rng(0)
    y = np.maximum(np.concatenate([random.standard_normal(1000) * 10.0**power for power in range(-37, 38)]), 0)
    feeds = {"d": random.standard_normal(len(y)).astype(np.float32), "y": y.astype(np.float32)}
    slow = graph(helper.make_node("ReluGrad", ["d", "y"], ["dx"], domain=MICROSOFT), feeds)
    quick = with_quick_kernels(slow, {}, 1)
    assert "ReluGrad" not in ops(quick)
    (expected,), (given,) = run(slow, feeds), run(quick, feeds)
    whole = (feeds["y"] == 0) | (feeds["y"] >= np.finfo(np.float32).tiny)
    np.testing.assert_array_equal(given[whole], expected[whole])
    assert whole.mean() > 0.99


def convolution(
    x: Sequence[int], out: int, kernel: Sequence[int], **attributes: Sequence[int]
) -> tuple[dict[str, Array], dict[str, Sequence[int]]]:
    """Its inputs, and its attributes with those not given."""
    axes = len(kernel)
    given = {"kernel_shape": kernel, "strides": [1] * axes, "dilations": [1] * axes, "pads": [0] * 2 * axes}
    return {"x": normal(*x), "w": normal(out, x[1], *kernel)}, {**given, **attributes}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("x", "out", "kernel", "attributes", "turned", "multiplied"),
    [
        ((2, 4, 7, 5), 4, (3, 3), {"pads": [1, 1, 1, 1]}, True, False),
        ((2, 16, 16, 15), 16, (3, 3), {"pads": [1, 1, 1, 1]}, True, True),
        ((2, 21, 20, 12), 19, (3, 5), {"pads": [0, 1, 2, 4]}, True, True),
        ((2, 16, 14, 19), 16, (3, 3), {"pads": [2, 0, 1, 4], "dilations": [1, 2]}, True, True),
        ((2, 16, 15, 14), 16, (1, 1), {}, True, False),
        ((2, 4, 16, 15), 4, (3, 3), {"pads": [1, 1, 1, 1]}, True, False),
        ((2, 4, 9), 3, (4,), {"pads": [1, 2]}, True, False),
        ((2, 4, 7, 5), 6, (3, 3), {"pads": [1, 1, 1, 1]}, False, False),
        ((2, 4, 16, 15), 4, (3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 1]}, False, False),
        ((2, 4, 7, 5), 4, (3, 3), {"pads": [3, 1, 1, 1]}, False, False),
        ((2, 16, 5, 6), 32, (3, 3), {"pads": [1, 1, 1, 1]}, block_size() > 0, False),
        ((2, 32, 15, 16), 16, (3, 3), {"pads": [1, 1, 1, 1]}, True, True),
        ((2, 32, 6, 5), 32, (5, 3), {"pads": [2, 0, 1, 2], "dilations": [1, 2]}, True, False),
        ((2, 32, 6, 5), 16, (1, 1), {}, True, False),
    ],
)
def test_the_quick_conv_gradient_gives_the_same_numbers(
    x: Sequence[int],
    out: int,
    kernel: Sequence[int],
    attributes: dict[str, Sequence[int]],
    turned: bool,
    multiplied: bool,
    threads: int,
) -> None:
    feeds, attributes = convolution(x, out, kernel, **attributes)
    (y,) = run(graph(helper.make_node("Conv", ["x", "w"], ["y"], **attributes), feeds), feeds)
    feeds = {"d": normal(*y.shape), **feeds}
    node = helper.make_node("ConvGrad", list(feeds), ["dx", "dw", "db"], domain=MICROSOFT, group=1, **attributes)
    slow = graph(node, feeds)
    quick = with_quick_kernels(slow, {name: array.shape for name, array in feeds.items()}, threads)
    assert ("Gather" in ops(quick)) == turned
    assert ("FusedMatMul" in ops(quick)) == (multiplied and threads > 1)
    for one, other in zip(run(slow, feeds), run(quick, feeds), strict=True):
        assert difference(one, other).relative < 3 * ROUNDING


def test_a_first_layers_gradient_by_its_weights_alone_is_products_too() -> None:
    feeds, attributes = convolution((3, 16, 8, 16), 24, (3, 3), pads=[1, 1, 1, 1])
    feeds = {"d": normal(3, 24, 8, 16), **feeds}
    slow = graph(helper.make_node("ConvGrad", list(feeds), ["", "dw"], domain=MICROSOFT, group=1, **attributes), feeds)
    quick = with_quick_kernels(slow, {name: array.shape for name, array in feeds.items()}, 2)
    assert "ConvGrad" not in ops(quick)
    assert difference(run(slow, feeds)[0], run(quick, feeds)[0]).relative < 3 * ROUNDING


@pytest.mark.skipif(not block_size(), reason="ONNX Runtime has no blocked kernels for this processor")
@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_of_whole_blocks_gives_the_same_numbers(bias: bool) -> None:
    feeds, attributes = convolution((3, 32, 9, 7), 48, (3, 5), pads=[1, 2, 0, 3], dilations=[2, 1])
    feeds |= {"b": normal(48)} if bias else {}
    slow = graph(helper.make_node("Conv", list(feeds), ["y"], **attributes), feeds)
    quick = with_quick_kernels(slow, {name: array.shape for name, array in feeds.items()}, 1)
    assert BLOCKED in {node.domain for node in onnx.load_model_from_string(quick).graph.node}
    assert difference(run(slow, feeds)[0], run(quick, feeds)[0]).relative < ROUNDING


@pytest.mark.parametrize(
    ("x", "out", "kernel", "attributes"),
    [
        ((2, 32, 6, 6), 32, (3, 3), {"strides": [2, 2]}),
        ((2, 20, 6, 6), 32, (3, 3), {}),
        ((2, 32, 6, 6), 20, (3, 3), {}),
        ((2, 32, 6, 6), 32, (1, 1), {}),
        ((2, 32, 6), 32, (3,), {}),
    ],
)
def test_other_convolutions_stay_as_they_are(
    x: Sequence[int], out: int, kernel: Sequence[int], attributes: dict[str, Sequence[int]]
) -> None:
    feeds, attributes = convolution(x, out, kernel, **attributes)
    proto = graph(helper.make_node("Conv", ["x", "w"], ["y"], **attributes), feeds)
    assert ops(with_quick_kernels(proto, {name: array.shape for name, array in feeds.items()}, 2)) == ["Conv"]


def pooling(x: Sequence[int], kernel: Sequence[int], **attributes: Sequence[int] | int) -> bytes:
    """A max pooling and its gradient by x, as ONNX Runtime builds it."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["y", "places"], "pool", kernel_shape=kernel, **attributes),
        helper.make_node("Mul", ["y", "factor"], ["d"]),
        helper.make_node("MaxPoolGrad", ["d", "places"], ["dx"], "gradient", kernel_shape=kernel, **attributes),
    ]
    batch = ["batch", *x[1:]]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, batch) for name in ("x", "factor")]
    inputs[1].type.tensor_type.ClearField("shape")
    made = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("dx", TensorProto.FLOAT, batch)])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()


@pytest.mark.parametrize(
    ("x", "kernel", "attributes"),
    [
        ((3, 4, 8, 6), (2, 2), {"strides": [2, 2]}),
        ((3, 4, 9, 7), (2, 3), {"strides": [3, 3], "pads": [0, 1, 1, 1]}),
        ((2, 3, 9, 8), (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((2, 3, 9, 8), (3, 3), {"strides": [2, 2], "ceil_mode": 1}),
        ((2, 3, 7, 8), (3, 2), {"strides": [1, 1]}),
        ((2, 3, 9, 9), (2, 2), {"strides": [2, 2], "dilations": [2, 1]}),
        ((2, 3, 12), (3,), {"strides": [2]}),
        ((2, 3, 5, 6, 4), (2, 2, 2), {"strides": [2, 2, 2]}),
        ((2, 3, 5, 6, 4), (3, 2, 2), {"strides": [1, 2, 1]}),
        ((2, 3, 16, 16), (16, 16), {"strides": [16, 16]}),
        ((2, 3, 9, 8), (4, 4), {"strides": [1, 1]}),
    ],
)
def test_the_max_pool_gradient_for_cuda_gives_the_same_numbers(
    x: Sequence[int], kernel: Sequence[int], attributes: dict[str, Sequence[int] | int]
) -> None:
    """Windows that overlap add up what comes to one element, in another order."""
    slow = pooling(x, kernel, **attributes)
    quick = with_cuda_kernels(slow)
    assert "MaxPoolGrad" not in ops(quick)
    values = normal(*x)
    pooled = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(slow)).graph.value_info
    shape = next([each.dim_value for each in v.type.tensor_type.shape.dim] for v in pooled if v.name == "y")
    feeds = {"x": values, "factor": normal(x[0], *shape[1:])}
    (expected,), (given,) = run(slow, feeds), run(quick, feeds)
    assert np.any(expected)
    assert difference(expected, given, ROUNDING).passed


def test_windows_that_overlap_too_much_stay() -> None:
    """Every group of windows would take a tensor of the size of what is pooled."""
    slow = pooling((2, 3, 9, 8), (5, 4), strides=[1, 1])
    assert ops(with_cuda_kernels(slow)) == ops(slow)
