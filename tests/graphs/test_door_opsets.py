"""Every opset from 9 to 25 is read: small networks in the words of each, against ONNX's reference on the original."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from reading import Array, check_dialect, original, same

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.model import OPSET
from mnx.graphs.proto import to_proto
from mnx.graphs.run import run

OPSETS = range(9, 26)
SIZE = 8


class Words:
    """A network written in the words of one opset."""

    def __init__(self, opset: int, shape: tuple[int, ...]) -> None:
        self.opset, self.shape = opset, shape
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(opset)

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        results = [name, *(f"{name}_{index}" for index in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), results, name, **attributes))
        return name

    def weight(self, *shape: int, positive: bool = False) -> str:
        array = 0.4 * self.random.standard_normal(shape).astype(np.float32)
        return self.constant(np.abs(array) + np.float32(0.5) if positive else array)

    def constant(self, array: Any, dtype: Any = None) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype=dtype), name))
        return name

    def indices(self, op: str, x: str, since: int, axes: list[int], **attributes: Any) -> str:
        if self.opset < since:
            return self.add(op, x, axes=axes, **attributes)
        return self.add(op, x, self.constant(axes, np.int64), **attributes)

    def model(self, y: str, classes: int = 3) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *self.shape])
        result = helper.make_tensor_value_info(y, TensorProto.FLOAT, ["N", classes])
        inputs = [x]
        old = self.opset == OPSETS[0]
        if old:
            inputs += [helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)) for w in self.weights]
        graph = helper.make_graph(self.nodes, "net", inputs, [result], self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        version = 3 if old else helper.find_min_ir_version_for(opsets)
        return helper.make_model(graph, opset_imports=opsets, ir_version=version)


def cnn(opset: int) -> onnx.ModelProto:
    net = Words(opset, (3, SIZE, SIZE))
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    x = net.add("Pad", "x", pads=pads) if opset < 11 else net.add("Pad", "x", net.constant(pads, np.int64))
    y = net.add("Conv", x, net.weight(4, 3, 3, 3), net.weight(4))
    norm = [net.weight(4, positive=index in (0, 3)) for index in range(4)]
    y = net.add("BatchNormalization", y, *norm, epsilon=1e-3)
    bounds = net.constant(0.0, np.float32), net.constant(6.0, np.float32)
    y = net.add("Clip", y, min=0.0, max=6.0) if opset < 11 else net.add("Clip", y, *bounds)
    y = net.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    scales = net.constant([1, 1, 2, 2], np.float32)
    if opset < 10:
        y = net.add("Upsample", y, scales, mode="nearest")
    elif opset < 11:
        y = net.add("Resize", y, scales, mode="nearest")
    else:
        words = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        region = net.constant([], np.float32) if opset < 13 else ""
        y = net.add("Resize", y, region, scales, mode="nearest", **words)
    y = net.add("AveragePool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    y = net.add("Conv", y, net.weight(6, 4, 1, 1))
    y = net.add("LeakyRelu", y, alpha=0.1)
    y = net.add("Dropout", y, ratio=0.5) if opset < 12 else net.add("Dropout", y, net.constant(0.5, np.float32))
    y = net.indices("ReduceMean", y, 18, [2, 3], keepdims=1)
    y = net.indices("Squeeze", y, 13, [2, 3])
    y = net.add("Gemm", y, net.weight(3, 6), net.weight(3), transB=1)
    return net.model(net.add("Softmax", y, axis=1))


def mlp(opset: int) -> onnx.ModelProto:
    net = Words(opset, (4, 5))
    y = net.add("Flatten", "x") if opset < 13 else net.add("Reshape", "x", net.constant([0, -1], np.int64))
    y = net.add("Gemm", y, net.weight(20, 8), net.weight(8))
    y = net.add("Elu", y, alpha=0.5)
    y = net.indices("Unsqueeze", y, 13, [2])
    y = net.indices("ReduceSum", y, 13, [2], keepdims=0)
    part = {"num_outputs": 2} if opset >= 18 else {}
    net.add("Split", y, axis=1, outputs=2, **part)
    y = net.add("Mul", net.nodes[-1].output[0], net.add("Sigmoid", net.nodes[-1].output[1]))
    if opset < 10:
        z = net.add("Slice", y, starts=[1], ends=[4], axes=[1])
    else:
        z = net.add("Slice", y, *(net.constant([number], np.int64) for number in (1, 4, 1)))
    y = net.add("Add", net.add("MatMul", z, net.weight(3, 4)), net.weight(4))
    y = net.add("MatMul", y, net.weight(4, 3))
    return net.model(net.add("Softmax", y, axis=1))


def computed(proto: onnx.ModelProto, x: Array) -> list[Array]:
    """What the original gives: onnxruntime where it knows the opset, else ONNX's reference."""
    if proto.opset_import[0].version <= OPSET:
        return original(proto, {"x": x})
    return list(ReferenceEvaluator(proto).run(None, {"x": x}))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("build", [cnn, mlp])
def test_a_network_in_any_opset_is_read(build: Any, opset: int) -> None:
    proto = build(opset)
    onnx.checker.check_model(proto)
    model = canonicalise(proto, "net")
    check_dialect(model)
    assert [node.op for node in model.head] == ["Softmax"]
    shape = [axis.dim_value for axis in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    plain = onnx.ModelProto()
    plain.CopyFrom(proto)
    for node in plain.graph.node:
        if node.op_type == "Dropout":
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
    (expected,) = computed(plain, x)
    (found,) = run(model, x, include_ends=True).values()
    assert same(found, expected)
    again = canonicalise(to_proto(model, include_ends=True), "net")
    assert again.nodes == model.nodes


NEW: dict[str, tuple[int, str]] = {
    "Swish": (24, "g (float[N,4] x) => (float[N,4] y) { y = Swish<alpha = 1.5>(x) }"),
    "RMSNormalization": (
        23,
        """g (float[N,2,4] x) => (float[N,2,4] y) <float[4] s = {1.,2.,3.,0.5}>
        { y = RMSNormalization<epsilon = 0.1>(x, s) }""",
    ),
    "Attention": (
        23,
        "g (float[N,5,6] x) => (float[N,5,6] y) { y = Attention<q_num_heads = 2, kv_num_heads = 2>(x, x, x) }",
    ),
    "Attention of heads, causal, with a soft cap": (
        24,
        """g (float[N,2,5,4] x) => (float[N,2,5,4] y)
        { y = Attention<is_causal = 1, scale = 0.3, softcap = 2.>(x, x, x) }""",
    ),
    "Attention with a mask": (
        23,
        """g (float[N,3,6] x) => (float[N,3,6] y) <bool[1,1,3,3] m = {1,1,0,1,0,1,0,1,1}>
        { y = Attention<q_num_heads = 1, kv_num_heads = 1>(x, x, x, m) }""",
    ),
    "Attention with a mask of numbers": (
        23,
        """g (float[N,3,6] x) => (float[N,3,6] y) <float[1,1,3,3] m = {1.,1.,0.,1.,0.,1.,0.,1.,1.}>
        { y = Attention<q_num_heads = 1, kv_num_heads = 1>(x, x, x, m) }""",
    ),
    "RotaryEmbedding, by ONNX's definition": (
        23,
        """g (float[N,2,2,4] x) => (float[N,2,2,4] y)
        <float[2,2] c = {0.1,0.2,0.3,0.4}, float[2,2] s = {0.5,0.2,0.3,0.4}, int64[1,2] p = {0,1}>
        { b = Shape<start = 0, end = 1>(x) o = Constant<value_ints = [2]>() t = Concat<axis = 0>(b, o) q = Expand(p, t)
          y = RotaryEmbedding(x, c, s, q) }""",
    ),
    "Cast with a way to round": (
        25,
        'g (float[N,4] x) => (float[N,4] y) { i = Cast<to = 7, round_mode = "up">(x) y = Cast<to = 1>(i) }',
    ),
}


@pytest.mark.parametrize("name", NEW)
def test_ops_of_newer_opsets_are_written_out(name: str) -> None:
    opset, text = NEW[name]
    proto = onnx.parser.parse_model(f'<ir_version: 12, opset_import: ["": {opset}]> {text}')
    model = canonicalise(proto, "net")
    onnx.checker.check_model(to_proto(model, include_ends=True), full_check=True)
    shape = [axis.dim_value for axis in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    (expected,) = computed(proto, x)
    assert same(next(iter(run(model, x, include_ends=True).values())), expected)


def test_new_ops_without_a_definition_are_refused() -> None:
    text = "g (float[N,4,3] x) => (float[N,4,3] y) <int64[1] i = {0}> { y = TensorScatter(x, x, i) }"
    proto = onnx.parser.parse_model(f'<ir_version: 12, opset_import: ["": 24]> {text}')
    with pytest.raises(GraphError, match=r"op TensorScatter \(node 'y' of net\) came with an opset newer than 21"):
        canonicalise(proto, "net")


def test_new_attributes_are_refused() -> None:
    text = 'g (float[N,4,2,2] x) => (float[N,16,1,1] y) { y = SpaceToDepth<blocksize = 2, mode = "CRD">(x) }'
    proto = onnx.parser.parse_model(f'<ir_version: 13, opset_import: ["": 28]> {text}')
    with pytest.raises(GraphError, match=r"SpaceToDepth .* has an attribute 'mode' that came after opset 21"):
        canonicalise(proto, "net")
