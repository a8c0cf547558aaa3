"""Every canonical pass on a small network: the same results as before, and the nodes that the dialect has."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from reading import check_dialect, images, network, original, preserved, same

from mnx.graphs.canonical.canonicalise import PASSES, canonicalise
from mnx.graphs.model import Array, Model, Node
from mnx.graphs.onnx_file import to_proto
from mnx.graphs.run import run

# name: (opset, network, the ops of the canonical body)
CASES: dict[str, tuple[int, str, str]] = {
    "constant node": (
        21,
        "g (float[N,2] x) => (float[N,2] y) { c = Constant<value = float[2] {1., 2.}>() y = Mul(x, c) }",
        "Mul",
    ),
    "constants of every kind": (
        21,
        """g (float[N,2] x) => (float[N,4] y) {
            s = Constant<value_ints = [0, -1]>() f = Constant<value_float = 2.0>()
            m = Mul(x, f) r = Reshape(m, s) y = Concat<axis = 1>(r, x) }""",
        "Mul Concat",
    ),
    "weight behind Transpose": (
        21,
        "g (float[N,3] x, float[4,3] w) => (float[N,4] y) { t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t) }",
        "Gemm",
    ),
    "weight behind Identity, Cast, Reshape": (
        21,
        """g (float[N,3] x, float[12] w) => (float[N,4] y) <int64[2] s = {4, 3}> {
            i = Identity(w) c = Cast<to = 1>(i) r = Reshape(c, s) y = Gemm<transB = 1>(x, r) }""",
        "Gemm",
    ),
    "bias grown by Expand and CastLike": (
        21,
        """g (float[N,3,5,5] x, float[4,3,3,3] w) => (float[N,4,3,3] y) {
            z = Constant<value_float = 0.5>() o = Constant<value_ints = [1]>() s = Shape<start = 0, end = 1>(w)
            e = Expand(s, o) c = CastLike(z, x) b = Expand(c, e) y = Conv(x, w, b) }""",
        "Conv",
    ),
    "Identity in the middle and at the end": (
        21,
        """g (float[N,3] x) => (float[N,3] y) {
            a = Identity(x) b = Relu(a) c = Identity(b) d = Tanh(c) y = Identity(d) }""",
        "Relu Tanh",
    ),
    "what passes through": (
        21,
        """g (float[N,3,4,4] x) => (float[N,3,4,4] y) <int64[4] s = {0, 3, 4, 4}> {
            a = Relu(x) b = Reshape(a, s) c = Transpose<perm = [0, 1, 2, 3]>(b) d = Cast<to = 1>(c)
            e = Concat<axis = 1>(d) f = AveragePool<kernel_shape = [1, 1]>(e) y = Tanh(f) }""",
        "Relu Tanh",
    ),
    "Dropout of opset 11": (
        11,
        "g (float[N,3] x) => (float[N,3] y) { a, mask = Dropout<ratio = 0.25>(x) y = Relu(a) }",
        "Dropout Relu",
    ),
    "Dropout of opset 13": (
        13,
        """g (float[N,3] x) => (float[N,3] y) {
            r = Constant<value_float = 0.25>() a = Dropout(x, r) b = Relu(a) z = Constant<value_float = 0.0>()
            y = Dropout(b, z) }""",
        "Dropout Relu",
    ),
    "Conv with SAME_UPPER": (
        21,
        """g (float[N,3,7,8] x, float[4,3,3,4] w) => (float[N,4,4,4] y) {
            y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w) }""",
        "Conv",
    ),
    "Conv with SAME_LOWER": (
        21,
        """g (float[N,3,8,8] x, float[4,3,2,3] w) => (float[N,4,8,8] y) {
            y = Conv<auto_pad = "SAME_LOWER">(x, w) }""",
        "Conv",
    ),
    "Conv with VALID": (
        21,
        'g (float[N,3,8,8] x, float[4,3,3,3] w) => (float[N,4,6,6] y) { y = Conv<auto_pad = "VALID">(x, w) }',
        "Conv",
    ),
    "pools with SAME": (
        21,
        """g (float[N,3,7,7] x) => (float[N,3,2,2] y) {
            a = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [2, 2], strides = [2, 2]>(x)
            y = AveragePool<auto_pad = "SAME_LOWER", kernel_shape = [3, 3], strides = [2, 2]>(a) }""",
        "MaxPool AveragePool",
    ),
    "pools with defaults": (
        21,
        """g (float[N,3,7,7] x) => (float[N,3,4,4] y) {
            a = MaxPool<kernel_shape = [2, 2]>(x)
            y = AveragePool<kernel_shape = [3, 3], pads = [0, 0, 1, 1], strides = [2, 2], count_include_pad = 1,
                            ceil_mode = 1>(a) }""",
        "MaxPool AveragePool",
    ),
    "ReduceMean over space": (
        21,
        """g (float[N,3,4,4] x) => (float[N,3] y) <int64[2] a = {-2, -1}> {
            y = ReduceMean<keepdims = 0>(x, a) }""",
        "GlobalAveragePool Flatten",
    ),
    "ReduceMean of opset 13": (
        13,
        """g (float[N,3,4,4] x) => (float[N,3] y) {
            m = ReduceMean<axes = [2, 3], keepdims = 1>(x) y = Flatten(m) }""",
        "GlobalAveragePool Flatten",
    ),
    "AveragePool over all": (
        21,
        "g (float[N,3,4,4] x) => (float[N,3] y) { p = AveragePool<kernel_shape = [4, 4]>(x) y = Flatten(p) }",
        "GlobalAveragePool Flatten",
    ),
    "Squeeze behind pooling": (
        21,
        """g (float[N,3,4,4] x) => (float[N,3] y) <int64[2] a = {2, 3}> {
            p = GlobalAveragePool(x) y = Squeeze(p, a) }""",
        "GlobalAveragePool Flatten",
    ),
    "Reshape by computed shape": (
        17,
        """g (float[N,3,4,4] x) => (float[N,48] y) {
            z = Constant<value = int64 {0}>() o = Constant<value = int64[1] {-1}>() f = Constant<value = int64[1] {0}>()
            s = Shape(x) n = Gather<axis = 0>(s, z) u = Unsqueeze(n, f) t = Concat<axis = 0>(u, o)
            y = Reshape(x, t) }""",
        "Flatten",
    ),
    "Reshape with open batch": (
        21,
        "g (float[N,3,4,4] x) => (float[N,48] y) <int64[2] s = {-1, 48}> { y = Reshape(x, s) }",
        "Flatten",
    ),
    "Flatten from behind": (
        21,
        "g (float[N,3,4,4] x) => (float[N,48] y) { f = Flatten<axis = -3>(x) g = Flatten<axis = 1>(f) y = Relu(g) }",
        "Flatten Relu",
    ),
    "MatMul and Add": (
        21,
        "g (float[N,3] x, float[3,4] w, float[4] b) => (float[N,4] y) { m = MatMul(x, w) y = Add(b, m) }",
        "Gemm",
    ),
    "Gemm with factors": (
        21,
        """g (float[N,3] x, float[3,4] w, float[1,4] b) => (float[N,4] y) {
            y = Gemm<alpha = 0.5, beta = 3.0>(x, w, b) }""",
        "Gemm",
    ),
    "Gemm with one number as bias": (
        21,
        "g (float[N,3] x, float[4,3] w, float b) => (float[N,4] y) { y = Gemm<transB = 1>(x, w, b) }",
        "Gemm",
    ),
    "Gemm inside baked Reshapes": (
        21,
        """g (float[N,3] x, float[3,4] w, float[4] b) => (float[N,4] y) <int64[2] s = {-1, 3}, int64[2] t = {-1, 4}> {
            r = Reshape(x, s) m = Gemm(r, w, b) y = Reshape(m, t) }""",
        "Gemm",
    ),
    "shared weight of two layers": (
        21,
        """g (float[N,3] x, float[3,3] w) => (float[N,3] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }""",
        "Gemm Relu Gemm",
    ),
    "Add behind Conv": (
        21,
        """g (float[N,3,4,4] x, float[4,3,1,1] w, float[4] b, float[4,1,1] c) => (float[N,4,4,4] y) {
            m = Conv(x, w, b) y = Add(m, c) }""",
        "Conv",
    ),
    "Add of one number behind Conv": (
        21,
        """g (float[N,3,4,4] x, float[4,3,1,1] w, float c) => (float[N,4,4,4] y) { m = Conv(x, w) y = Add(m, c) }""",
        "Conv",
    ),
    "Add over space stays": (
        21,
        """g (float[N,3,4,4] x, float[4,3,1,1] w, float[4] c) => (float[N,4,4,4] y) { m = Conv(x, w) y = Add(m, c) }""",
        "Conv Add",
    ),
    "Add behind a Conv that others read stays": (
        21,
        """g (float[N,3,4,4] x, float[4,3,1,1] w, float[4,1,1] c) => (float[N,4,4,4] y) {
            m = Conv(x, w) a = Add(m, c) y = Mul(a, m) }""",
        "Conv Add Mul",
    ),
    "bias before BatchNormalization": (
        15,
        """g (float[N,3,4,4] x, float[4,3,1,1] w, float[4] b, float[4] s, float[4] t, float[4] m, float[4] v)
            => (float[N,4,4,4] y) { c = Conv(x, w, b) y = BatchNormalization<epsilon = 0.01>(c, s, t, m, v) }""",
        "Conv BatchNormalization",
    ),
    "bias before BatchNormalization that shares its mean": (
        15,
        """g (float[N,3] x, float[4,3] w, float[4] b, float[4] s, float[4] v) => (float[N,4] y) {
            c = Gemm<transB = 1>(x, w, b) n = BatchNormalization(c, s, b, b, v)
            y = BatchNormalization(n, s, b, b, v) }""",
        "Gemm BatchNormalization BatchNormalization",
    ),
    "Max with 0 and open Clip": (
        21,
        """g (float[N,3] x) => (float[N,3] y) {
            z = Constant<value_float = 0.0>() m = Max(x, z) t = Tanh(m) y = Clip(t, z) }""",
        "Relu Tanh Relu",
    ),
    "Clip of opset 9": (
        9,
        "g (float[N,3] x) => (float[N,3] y) { y = Clip<min = -0.5, max = 0.25>(x) }",
        "Clip",
    ),
    "Clip with one bound": (
        21,
        "g (float[N,3] x) => (float[N,3] y) { u = Constant<value_floats = [0.25]>() s = Squeeze(u) y = Clip(x, , s) }",
        "Clip",
    ),
    "LeakyRelu": (21, "g (float[N,3] x) => (float[N,3] y) { y = LeakyRelu(x) }", "LeakyRelu"),
    "final Softmax": (
        11,
        "g (float[N,3] x, float[3,4] w) => (float[N,4] y) { m = MatMul(x, w) y = Softmax<axis = 1>(m) }",
        "Gemm",
    ),
    "final Sigmoid behind Identity": (
        21,
        "g (float[N,3] x, float[3,1] w) => (float[N,1] y) { m = MatMul(x, w) s = Sigmoid(m) y = Identity(s) }",
        "Gemm",
    ),
    "residual block": (
        21,
        """g (float[N,3,4,4] x, float[3,3,3,3] w) => (float[N,3,4,4] y) {
            c = Conv<auto_pad = "SAME_UPPER">(x, w) a = Add(c, x) y = Relu(a) }""",
        "Conv Add Relu",
    ),
    "Expand to its own shape": (
        21,
        "g (float[N,3] x) => (float[N,3] y) { a = Relu(x) s = Shape(x) e = Expand(a, s) y = Tanh(e) }",
        "Relu Tanh",
    ),
    "dead node": (
        21,
        "g (float[N,3] x) => (float[N,3] y) { dead = Erf(x) y = Relu(x) }",
        "Relu",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_canonical_model_computes_what_the_original_does(name: str) -> None:
    opset, text, ops = CASES[name]
    proto = network(text, opset)
    before = proto.SerializeToString()
    model = canonicalise(proto, "net")
    assert proto.SerializeToString() == before
    assert [node.op for node in model.nodes] == ops.split()
    check_dialect(model)
    assert preserved(model, proto)


@pytest.mark.parametrize("name", CASES)
def test_canonical_models_stay_as_they_are(name: str) -> None:
    opset, text, _ = CASES[name]
    first = canonicalise(network(text, opset), "net")
    second = canonicalise(to_proto(first, include_ends=True), "net")
    assert second.nodes == first.nodes
    assert (second.inputs, second.outputs, second.head) == (first.inputs, first.outputs, first.head)
    assert list(second.weights) == list(first.weights)
    assert second.changes == ()


def _attribute(op: str, **attributes: tuple[int, ...]) -> Callable[[Model], Model]:
    def change(model: Model) -> Model:
        nodes = [
            Node(node.name, node.op, node.inputs, node.outputs, {**node.attributes, **attributes})
            if node.op == op
            else node
            for node in model.nodes
        ]
        return model.replace(nodes=tuple(nodes))

    return change


def _weight(op: str, index: int, change: Callable[[Array], Array]) -> Callable[[Model], Model]:
    def changed(model: Model) -> Model:
        name = next(node.inputs[index] for node in model.nodes if node.op == op)
        return model.with_weights({name: change(model.weights[name])})

    return changed


# What a wrong pass would have made of a case: the comparison must see it.
BROKEN: dict[str, Callable[[Model], Model]] = {
    "Conv with SAME_UPPER": _attribute("Conv", pads=(1, 2, 1, 1)),
    "Conv with SAME_LOWER": _attribute("Conv", pads=(0, 1, 1, 1)),
    "shared weight of two layers": _weight("Gemm", 1, np.transpose),
    "Gemm with factors": _weight("Gemm", 1, lambda weight: 2 * weight),
    "Gemm with one number as bias": _weight("Gemm", 2, lambda bias: 0 * bias),
    "Add behind Conv": _weight("Conv", 2, lambda bias: bias[::-1]),
    "bias before BatchNormalization": _weight("BatchNormalization", 3, lambda mean: -mean),
    "final Softmax": lambda model: model.replace(head=(Node("head", "LogSoftmax", ("m",), ("y",)),)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_comparison_sees_a_broken_twin(name: str) -> None:
    opset, text, _ = CASES[name]
    proto = network(text, opset)
    assert not preserved(BROKEN[name](canonicalise(proto, "net")), proto)


def test_every_pass_has_its_own_words() -> None:
    names = [name for name, _ in PASSES]
    assert len(set(names)) == len(names)


TRAINING = """g (float[N,3,4,4] x, float[4,3,1,1] w, float[4] s, float[4] t, float[4] m, float[4] v)
    => (float[N,4,4,4] y) {
    c = Conv(x, w) n, mean, var = BatchNormalization<training_mode = 1, momentum = 0.8>(c, s, t, m, v) y = Relu(n) }"""


def test_a_training_batch_norm_becomes_the_one_with_running_statistics() -> None:
    proto = network(TRAINING)
    model = canonicalise(proto, "net")
    check_dialect(model)
    plain = network(TRAINING.replace("n, mean, var", "n").replace("training_mode = 1, ", ""))
    assert preserved(model, plain)
    inputs = images(proto, 5)
    assert not same(run(model, inputs)["y"], original(proto, inputs)[0])
    assert same(run(model, inputs, batch_statistics=True)["y"], original(proto, inputs)[0])
    assert model.nodes[1].attributes["momentum"] == 0.8


def test_running_statistics_as_outputs_are_dropped_in_words() -> None:
    proto = network(TRAINING)
    proto.graph.output.append(helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, [4]))
    model = canonicalise(proto, "net")
    assert [port.name for port in model.outputs] == ["y"]
    assert any("mean" in change for change in model.changes)


def test_shared_rank_one_constants_are_split_and_shared_matrices_are_not() -> None:
    proto = network(
        """g (float[N,3] x, float[3,3] w, float[3] s) => (float[N,3] y) {
            a = Gemm<transB = 1>(x, w, s) b = BatchNormalization(a, s, s, s, s) y = Gemm<transB = 1>(b, w, s) }"""
    )
    proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([0.5, 1.0, 2.0], dtype=np.float32), "s"))
    model = canonicalise(proto, "net")
    check_dialect(model)
    assert preserved(model, proto)
    first, norm, last = model.nodes
    assert first.inputs[1] == last.inputs[1]
    assert len({*norm.inputs[1:], last.inputs[2]}) == 5
    assert any("'s' shared by 6 places split" in change for change in model.changes)


def test_changes_name_the_layers() -> None:
    changes = " ".join(canonicalise(network(CASES["Conv with VALID"][1]), "net").changes)
    assert changes == "missing biases made explicit as zeros: conv"
    changes = " ".join(canonicalise(network(CASES["bias before BatchNormalization"][1], 15), "net").changes)
    assert changes == "biases folded into the running mean behind them: conv"


@pytest.mark.parametrize("batch", [1, 4])
def test_a_baked_batch_size_is_freed(batch: int) -> None:
    text = f"""g (float[{batch},3,4,4] x, float[5,48] w) => (float[{batch},5] y) <int64[2] s = {{{batch}, 48}}> {{
        a = Relu(x) r = Reshape(a, s) y = Gemm<transB = 1>(r, w) }}"""
    proto = network(text)
    model = canonicalise(proto, "net")
    assert [node.op for node in model.nodes] == ["Relu", "Flatten", "Gemm"]
    assert preserved(model, proto, batch)
    inputs = images(proto, 2 * batch)
    parts = [original(proto, {"x": part})[0] for part in np.split(inputs["x"], 2)]
    assert same(run(model, inputs)["y"], np.concatenate(parts))


def test_wrong_value_info_is_not_believed() -> None:
    proto = network(CASES["ReduceMean over space"][1])
    proto.graph.value_info.append(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 9, 9]))
    assert preserved(canonicalise(proto, "net"), proto)


def test_weights_listed_as_inputs_are_no_inputs() -> None:
    proto = network("g (float[N,3] x, float[3,4] w) => (float[N,4] y) { y = MatMul(x, w) }", 9)
    proto.graph.input.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [3, 4]))
    model = canonicalise(proto, "net")
    assert [port.name for port in model.inputs] == ["x"]


def test_local_functions_are_inlined_though_versions_differ() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18, "own": 1]>
        g (float[N,3] x) => (float[N,3] y) { y = own.twice(x) }
        <domain: "own", opset_import: ["": 17, "own": 2]> twice (a) => (b) { c = Relu(a) b = Add(c, c) }"""
    )
    model = canonicalise(proto, "net")
    assert [node.op for node in model.nodes] == ["Relu", "Add"]
    x = np.array([[-1, 0, 2]], dtype=np.float32)
    assert same(run(model, x)["y"], 2 * np.maximum(x, 0))


@pytest.mark.parametrize("opset", [9, 11, 13, 15, 17, 20, 21])
def test_every_opset_is_read(opset: int) -> None:
    text = """g (float[N,3,8,8] x, float[4,3,3,3] w, float[4] s, float[4] t, float[4] m, float[4] v, float[4,5] f)
        => (float[N,5] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, w) b = BatchNormalization(c, s, t, m, v) r = Relu(b)
        p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r) g = GlobalAveragePool(p) h = Flatten(g) l = MatMul(h, f)
        y = Softmax<axis = 1>(l) }"""
    proto = network(text, opset)
    model = canonicalise(proto, "net")
    check_dialect(model)
    assert [node.op for node in model.head] == ["Softmax"]
    assert preserved(model, proto)


@pytest.mark.parametrize("opset", [22, 24])
def test_newer_opsets_are_brought_down(opset: int) -> None:
    text = CASES["bias before BatchNormalization"][1]
    model = canonicalise(network(text, opset), "net")
    assert preserved(model, network(text, 21))


SHARED = """
shared (float[batch, 4] x, float[4, 4] w, float[1, 4] s) => (float[batch, 4] y) {{
    zero = Constant <value = float[4, 4] {{{zeros}}}> ()
    a = Gemm <transB = 1> (x, w)
    b = Gemm <transB = 1> (a, w)
    c = Gemm <transB = 1> (b, zero)
    d = Gemm <transB = 1> (c, zero)
    e = Mul (d, s)
    f = Tanh (e)
    y = Mul (f, s)
}}""".format(zeros=", ".join("0" * 16))


def test_constants_that_say_nothing_are_untied_and_other_matrices_stay_shared() -> None:
    model = canonicalise(network(SHARED), "m")
    weights = [node.inputs[1] for node in model.nodes if node.op == "Gemm"]
    assert weights[0] == weights[1]
    assert weights[2] != weights[3]
    factors = [node.inputs[1] for node in model.nodes if node.op == "Mul"]
    assert len(set(factors)) == len(factors)


def merged(name: str, bias: str) -> onnx.ModelProto:
    """Two layers, the matrix of the second written as Identity of the first's, under `name`."""
    proto = network(f"""
    net (float[batch, 3] x, float[3, 3] w, float[3] b, float[3] c) => (float[batch, 3] y) {{
        copied = Identity (w)
        other = Identity (b)
        a = Gemm <transB = 1> (x, w, b)
        r = Relu (a)
        y = Gemm <transB = 1> (r, copied, {bias})
    }}""")
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for index, value in enumerate(names):
                names[index] = name if value == "copied" else value
    return proto


@pytest.mark.parametrize(
    ("name", "bias", "apart"),
    [
        ("layers.1.weight", "c", True),
        ("onnx::MatMul_7", "c", False),
        ("onnx::MatMul_7", "other", True),
        ("/layers.1/Identity_output_0", "other", False),
    ],
)
def test_equal_parameters_of_two_layers_are_told_from_one_that_both_use(name: str, bias: str, apart: bool) -> None:
    proto = merged(name, bias)
    model = canonicalise(proto, "m")
    first, second = (node.inputs[1] for node in model.nodes if node.op == "Gemm")
    assert (first != second) == apart
    inputs = images(proto, 3)
    assert same(next(iter(run(model, inputs).values())), original(proto, inputs)[0])
