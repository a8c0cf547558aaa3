"""Channels first, whatever the exporter chose: the same function as before, Transposes gone, weights reordered."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from reading import Array, check_dialect, network, original, preserved, same

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.join import PROBABILITIES, join
from mnx.graphs.model import Model, model_hash
from mnx.graphs.onnx_file import read, to_proto, write
from mnx.graphs.proto import as_user_gives, inputs_before_entry
from mnx.graphs.run import run, run_file
from mnx.graphs.zoo.vgg import vgg

FIRST, LAST = "[0, 3, 1, 2]", "[0, 2, 3, 1]"

# name: (network, the ops of the entry, the ops of the body)
CASES: dict[str, tuple[str, str, str]] = {
    "Transposes around every Conv": (
        f"""g (float[N,8,8,3] x, float[4,3,3,3] w, float[5,4,3,3] u) => (float[N,4,4,5] y) {{
            a = Transpose<perm = {FIRST}>(x) b = Conv(a, w) c = Transpose<perm = {LAST}>(b) d = Relu(c)
            e = Transpose<perm = {FIRST}>(d) f = Conv(e, u) y = Transpose<perm = {LAST}>(f) }}""",
        "Transpose",
        "Conv Relu Conv Transpose",
    ),
    "bias, scale and normalised input on the last axis": (
        f"""g (float[N,5,5,3] x, float[3] m, float[1,1,3] v, float[4,3,3,3] w, float[4] b) => (float[N,4] y) {{
            s = Add(x, m) t = Mul(v, s) a = Transpose<perm = {FIRST}>(t) c = Conv(a, w)
            d = Transpose<perm = {LAST}>(c) e = Add(d, b) f = Relu(e) axes = Constant<value_ints = [1, 2]>()
            y = ReduceMean<keepdims = 0>(f, axes) }}""",
        "Transpose",
        "Add Mul Conv Relu GlobalAveragePool Flatten",
    ),
    "flattened H, W, C": (
        f"""g (float[N,6,7,3] x, float[4,3,3,3] w, float[80,9] u, float[9] b) => (float[N,9] y) {{
            a = Transpose<perm = {FIRST}>(x) c = Conv(a, w) d = Transpose<perm = {LAST}>(c)
            s = Constant<value_ints = [-1, 80]>() f = Reshape(d, s) e = Relu(f) y = Gemm(e, u, b) }}""",
        "Transpose",
        "Conv Flatten Relu Gemm",
    ),
    "flattened, then scaled, normalised, joined and read twice": (
        f"""g (float[N,3,2,3] x, float[18] k, float[18] s, float[18] b, float[18] m, float[18] v, float[5,36] u,
               float[18,4] w) => (float[N,9] y) {{
            a = Relu(x) q = Transpose<perm = {LAST}>(a) f = Flatten(q) h = Mul(f, k)
            n = BatchNormalization(h, s, b, m, v) r = Relu(n) g0 = Flatten(a) j = Concat<axis = 1>(r, g0)
            o = Gemm<transB = 1>(j, u) z = MatMul(r, w) y = Concat<axis = 1>(o, z) }}""",
        "",
        "Relu Flatten Mul BatchNormalization Relu Flatten Concat Gemm Gemm Concat",
    ),
    "residual, Concat, Pad, Slice, Split and Softmax on the last axis": (
        f"""g (float[N,6,6,4] x, float[4,4,1,1] w) => (float[N,6] y) {{
            a = Transpose<perm = {FIRST}>(x) b = Conv(a, w) c = Transpose<perm = {LAST}>(b) d = Tanh(c)
            p = Constant<value_ints = [0, 0, 0, 0, 0, 1, 2, 0]>() e = Pad(d, p)
            st = Constant<value_ints = [1]>() en = Constant<value_ints = [3]>() ax = Constant<value_ints = [-1]>()
            l = Slice(e, st, en, ax) h, i = Split<axis = 3, num_outputs = 2>(e) k = Concat<axis = -1>(l, h, i)
            m = Softmax(k) t = Transpose<perm = {FIRST}>(m) g0 = GlobalAveragePool(t) y = Flatten(g0) }}""",
        "Transpose",
        "Conv Tanh Pad Slice Slice Slice Concat Softmax GlobalAveragePool Flatten",
    ),
    "signals with channels last, as images of height 1": (
        """g (float[N,9,2] x, float[4,2,1,3] w, float[1,4,1] k, float[5,4,1,2] u) => (float[N,5] y) {
            a1 = Constant<value_ints = [1]>() a2 = Constant<value_ints = [2]>() a = Unsqueeze(x, a1)
            b = Transpose<perm = [0, 3, 1, 2]>(a) c = Conv(b, w) d = Squeeze(c, a2) e = Mul(d, k) f = Relu(e)
            h = Unsqueeze(f, a2) i = MaxPool<kernel_shape = [1, 2], strides = [1, 2]>(h) j = Conv(i, u)
            l = Squeeze(j, a2) m = GlobalMaxPool(l) y = Flatten(m) }""",
        "Transpose",
        "Conv Relu MaxPool Conv GlobalMaxPool Flatten",
    ),
    "patches as tokens": (
        f"""g (float[N,8,8,3] x, float[5,3,4,4] w, float[5] s, float[5] b) => (float[N,4,5] y) {{
            a = Transpose<perm = {FIRST}>(x) c = Conv<strides = [4, 4]>(a, w) d = Transpose<perm = {LAST}>(c)
            t = Constant<value_ints = [0, 4, 5]>() e = Reshape(d, t) y = LayerNormalization(e, s, b) }}""",
        "Transpose",
        "Conv Reshape Transpose LayerNormalization",
    ),
    "attention is not touched": (
        """g (float[N,4,6] x) => (float[N,4,6] y) {
            s = Constant<value_ints = [0, 4, 2, 3]>() z = Constant<value_ints = [0, 4, 6]>() a = Relu(x)
            r = Reshape(a, s) q = Transpose<perm = [0, 2, 1, 3]>(r) k = Transpose<perm = [0, 2, 3, 1]>(r)
            m = MatMul(q, k) f = Softmax(m) h = MatMul(f, q)
            t = Transpose<perm = [0, 2, 1, 3]>(h) y = Reshape(t, z) }""",
        "",
        "Relu Reshape Transpose Transpose MatMul Softmax MatMul Transpose Reshape",
    ),
    "a block of ConvNeXt is not touched": (
        f"""g (float[N,4,5,5] x, float[4,1,3,3] w, float[4] s, float[4] b, float[4,4] u, float[4] c, float[4] k)
               => (float[N,4,5,5] y) {{
            d = Conv<group = 4, pads = [1, 1, 1, 1]>(x, w) t = Transpose<perm = {LAST}>(d)
            n = LayerNormalization(t, s, b) m = MatMul(n, u) a = Add(m, c) g0 = Gelu(a) l = Mul(g0, k)
            r = Transpose<perm = {FIRST}>(l) y = Add(x, r) }}""",
        "",
        "Conv Transpose LayerNormalization MatMul Add Gelu Mul Transpose Add",
    ),
    "two in a row, one written as its inverse twice": (
        """g (float[N,2,3,4] x) => (float[N,3,2,4] y) {
            a = Relu(x) b = Transpose<perm = [0, 3, 1, 2]>(a) c = Transpose<perm = [0, 3, 2, 1]>(b) y = Tanh(c) }""",
        "",
        "Relu Transpose Tanh",
    ),
    "images that are only flattened": (
        "g (float[N,4,5,3] x, float[7,60] w) => (float[N,7] y) { f = Flatten(x) y = Gemm<transB = 1>(f, w) }",
        "Transpose",
        "Flatten Gemm",
    ),
    "signals that are only flattened stay as they are": (
        "g (float[N,4,5] x, float[7,20] w) => (float[N,7] y) { f = Flatten(x) y = Gemm<transB = 1>(f, w) }",
        "",
        "Flatten Gemm",
    ),
    "a flattened order that the output shows stays": (
        f"g (float[N,2,3,3] x) => (float[N,18] y) {{ t = Transpose<perm = {LAST}>(x) r = Tanh(t) y = Flatten(r) }}",
        "",
        "Transpose Tanh Flatten",
    ),
    "Pad in front of Conv, AveragePool and MaxPool": (
        """g (float[N,2,6,6] x, float[3,2,3,3] w) => (float[N,3,5,5] y) {
            p = Constant<value_ints = [0, 0, 1, 0, 0, 0, 0, 1]>() f = Constant<value_float = 0.0>()
            a = Pad(x, p, f) c = Conv<pads = [1, 1, 1, 1]>(a, w) r = Relu(c) b = Pad(r, p)
            m = MaxPool<kernel_shape = [2, 2]>(b) t = Tanh(m) d = Pad(t, p) e = AveragePool<kernel_shape = [3, 3]>(d)
            y = MaxPool<kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0]>(e) }""",
        "",
        "Conv Relu MaxPool Tanh AveragePool",
    ),
    "Pad that changes what a MaxPool sees": (
        """g (float[N,2,6,6] x) => (float[N,2,6,6] y) {
            p = Constant<value_ints = [0, 0, 1, 0, 0, 0, 0, 1]>() t = Tanh(x) a = Pad(t, p)
            y = MaxPool<kernel_shape = [2, 2]>(a) }""",
        "",
        "Tanh Pad MaxPool",
    ),
    "factors behind layers": (
        """g (float[N,4,6,6] x, float[4,1,3,3] w, float[1,4,1,1] k, float[4] b, float[1,4,1,1] c, float[3,4] u,
               float[3] f) => (float[N,3] y) {
            a = Conv<group = 4>(x, w, b) m = Mul(k, a) d = Add(m, c) r = Relu(d) p = GlobalAveragePool(r)
            q = Flatten(p) g0 = Gemm<transB = 1>(q, u) y = Mul(g0, f) }""",
        "",
        "Conv Relu GlobalAveragePool Flatten Gemm",
    ),
    "a layer scale stays": (
        """g (float[N,4,6,6] x, float[4,4,1,1] w, float[1,4,1,1] k) => (float[N,4,6,6] y) {
            a = Conv(x, w) m = Mul(a, k) y = Add(x, m) }""",
        "",
        "Conv Mul Add",
    ),
    "factors of the input are no BatchNormalization": (
        """g (float[N,3,6,6] x, float[1,3,1,1] m, float[1,3,1,1] k, float[1,3,1,1] c) => (float[N,3,6,6] y) {
            a = Add(x, m) b = Mul(a, k) d = Add(b, c) y = Relu(d) }""",
        "",
        "Add Mul Add Relu",
    ),
    "factors that are all of a BatchNormalization": (
        """g (float[N,4,6,6] x, float[1,4,1,1] k, float[1,4,1,1] c, float[4,1,1] l) => (float[N,4,6,6] y) {
            t = Tanh(x) m = Mul(t, k) a = Add(m, c) r = Relu(a) p = MaxPool<kernel_shape = [1, 1], strides = [1, 1]>(r)
            n = Mul(p, l) y = Relu(n) }""",
        "",
        "Tanh BatchNormalization Relu BatchNormalization Relu",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_layout_changes_and_the_function_stays(name: str) -> None:
    text, entry, body = CASES[name]
    proto = network(text)
    model = canonicalise(proto, "net")
    assert [node.op for node in model.entry] == entry.split()
    assert [node.op for node in model.nodes] == body.split()
    assert preserved(model, proto)
    assert preserved(model, proto, batch=1)
    again = canonicalise(to_proto(model, include_ends=True), "net")
    assert (again.entry, again.nodes, again.inputs, again.changes) == (model.entry, model.nodes, model.inputs, ())


BROKEN: dict[str, tuple[str, Callable[[Model], Model]]] = {
    "weight in the old order": (
        "flattened H, W, C",
        lambda m: m.with_weights({"u": m.weights["u"].reshape(9, 4, 4, 5).transpose(0, 2, 3, 1).reshape(9, 80)}),
    ),
    "entry the other way": (
        "Transposes around every Conv",
        lambda m: m.replace(entry=(replace(m.entry[0], attributes={"perm": (0, 3, 2, 1)}),)),
    ),
    "factor not in the bias": (
        "factors behind layers",
        lambda m: m.with_weights({m.nodes[0].inputs[2]: m.weights[m.nodes[0].inputs[2]] * np.float32(1.01)}),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_rewrite_is_seen(name: str) -> None:
    case, spoil = BROKEN[name]
    proto = network(CASES[case][0])
    model = canonicalise(proto, "net")
    assert preserved(model, proto)
    assert not preserved(spoil(model), proto)


def test_the_layout_changes_are_told() -> None:
    reordered = canonicalise(network(CASES["flattened H, W, C"][0]), "net").changes
    assert any("channels last to channels first: gemm" in change for change in reordered)
    norms = canonicalise(network(CASES["factors that are all of a BatchNormalization"][0]), "net").changes
    assert any("mean 0 and variance 1" in change for change in norms)


def test_a_factor_written_as_norm_is_exact() -> None:
    proto = network(CASES["factors that are all of a BatchNormalization"][0])
    model = canonicalise(proto, "net")
    norm = model.nodes[1]
    deviation = np.sqrt(model.weights[norm.inputs[4]] + np.float32(norm.real("epsilon", 0)))
    assert deviation.dtype == np.float32
    assert (deviation == 1).all()


# Random chains of channels-last ops, each written as exporters do: Conv and pooling between two Transposes.

LINKS = st.lists(
    st.sampled_from(("conv", "pool", "relu", "bias", "scale", "norm", "pad", "concat", "residual", "mean", "slice")),
    min_size=1,
    max_size=8,
)


class Chain:
    """A channels-last network under construction."""

    def __init__(self, seed: int, shape: tuple[int, int, int]) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape, self.value = shape, "x"

    def weight(self, array: Array) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, *shape: int) -> str:
        return self.weight(self.random.standard_normal(shape).astype(np.float32))

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def first(self, op: str, *inputs: str, **attributes: Any) -> None:
        """An op of ONNX's own layout, between two Transposes."""
        turned = self.add("Transpose", self.value, perm=[0, 3, 1, 2])
        self.value = self.add("Transpose", self.add(op, turned, *inputs, **attributes), perm=[0, 2, 3, 1])

    def link(self, kind: str) -> None:
        h, w, c = self.shape
        if kind == "conv":
            out = int(self.random.integers(1, 5))
            self.first("Conv", self.normal(out, c, 3, 3), pads=[1, 1, 1, 1])
            self.shape = (h, w, out)
        elif kind == "pool":
            self.first("MaxPool", kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
        elif kind == "norm":
            variance = self.weight(self.random.uniform(0.5, 2, c).astype(np.float32))
            self.first("BatchNormalization", self.normal(c), self.normal(c), self.normal(c), variance)
        elif kind == "relu":
            self.value = self.add("Relu", self.value)
        elif kind in ("bias", "scale"):
            self.value = self.add("Add" if kind == "bias" else "Mul", self.value, self.normal(c))
        elif kind == "pad":
            self.value = self.add("Pad", self.value, self.weight(np.array([0, 1, 0, 0, 0, 0, 1, 0], np.int64)))
            self.shape = (h + 1, w + 1, c)
        elif kind == "concat":
            self.value = self.add("Concat", self.value, self.add("Tanh", self.value), axis=3)
            self.shape = (h, w, 2 * c)
        elif kind == "residual":
            before = self.value
            self.first("Conv", self.normal(c, c, 1, 1))
            self.value = self.add("Add", before, self.value)
        elif kind == "mean":
            mean = self.add("ReduceMean", self.value, self.weight(np.array([1, 2], np.int64)), keepdims=1)
            self.value = self.add("Mul", self.value, self.add("Sigmoid", mean))
        elif kind == "slice":
            cut = [self.weight(np.array([number], np.int64)) for number in (0, h - 1, 1, 1)]
            if h > 1:
                self.value = self.add("Slice", self.value, *cut)
                self.shape = (h - 1, w, c)

    def proto(self, images: tuple[int, int, int]) -> onnx.ModelProto:
        h, w, c = self.shape
        rest = self.weight(np.array([-1, h * w * c], np.int64))
        flat = self.add("Reshape", self.value, rest)
        self.nodes.append(helper.make_node("MatMul", [flat, self.normal(h * w * c, 4)], ["y"], name="dense"))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *images])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
        graph = helper.make_graph(self.nodes, "chain", [x], [y], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@settings(deadline=None, max_examples=60)
@given(kinds=LINKS, seed=st.integers(0, 2**16), height=st.integers(1, 4), width=st.integers(2, 4))
def test_random_channels_last_chains_lose_every_transpose(kinds: list[str], seed: int, height: int, width: int) -> None:
    images_shape = (height, width, 3)
    chain = Chain(seed, images_shape)
    chain.link("conv")
    for kind in kinds:
        chain.link(kind)
    proto = chain.proto(images_shape)
    model = canonicalise(proto, "chain")
    assert [node.op for node in model.entry] == ["Transpose"]
    assert model.inputs[0].shape == (3, height, width)
    assert not [node for node in model.nodes if node.op in ("Transpose", "Squeeze", "Unsqueeze")]
    assert preserved(model, proto)


# The entry.


def channels_last(model: Model) -> onnx.ModelProto:
    """The model as a file that takes images (H, W, C)."""
    proto = to_proto(model)
    graph = proto.graph
    shape = [*model.inputs[0].shape[1:], model.inputs[0].shape[0]]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *shape]))
    graph.node.insert(0, helper.make_node("Transpose", ["image"], [model.inputs[0].name], "turn", perm=[0, 3, 1, 2]))
    return proto


def small(name: str) -> Model:
    return vgg(name, [[(3, 4)], [(3, 5)]], 6, (3, 8, 8), (7,))


def test_a_file_that_takes_images_channels_last_has_the_body_of_one_that_takes_them_first(tmp_path: Path) -> None:
    onnx.save(channels_last(small("net")), tmp_path / "net.onnx")
    model, plain = read(tmp_path / "net.onnx"), small("net")
    assert [(node.op, node.attributes) for node in model.nodes] == [(node.op, node.attributes) for node in plain.nodes]
    assert (model.inputs[0].shape, inputs_before_entry(model)[0].shape) == ((3, 8, 8), (8, 8, 3))
    assert inputs_before_entry(model)[0].name == "image"
    assert model_hash(model) != model_hash(model.replace(entry=()))


def test_a_written_file_takes_what_its_user_gives(tmp_path: Path) -> None:
    proto = channels_last(small("net"))
    model = canonicalise(proto, "net")
    write(model, tmp_path / "written.onnx")
    x = np.random.default_rng(0).standard_normal((5, 8, 8, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "written.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [8, 8, 3]
    (expected,) = original(proto, {"image": x})
    assert same(session.run(None, {"image": x})[0], expected)
    body = x.transpose(0, 3, 1, 2)
    assert same(run(model, body)[model.outputs[0].name], expected)
    assert np.array_equal(as_user_gives(model, body), x)
    back = read(tmp_path / "written.onnx")
    assert (back.entry, back.nodes, back.inputs) == (model.entry, model.nodes, model.inputs)
    assert model_hash(back.replace(name=model.name)) == model_hash(model)


def test_the_ensemble_of_such_files_takes_what_their_user_gives(tmp_path: Path) -> None:
    models = [canonicalise(channels_last(small(name)), name) for name in ("a", "b")]
    joined = join(models, "both")
    assert [node.op for node in joined.entry] == ["Transpose"]
    assert (inputs_before_entry(joined)[0].name, inputs_before_entry(joined)[0].shape) == ("image", (8, 8, 3))
    write(joined, tmp_path / "both.onnx")
    x = np.random.default_rng(0).standard_normal((5, 8, 8, 3)).astype(np.float32)
    odds = [np.exp(next(iter(run(model, x, include_ends=True).values()))) for model in models]
    expected = sum(each / each.sum(axis=1, keepdims=True) for each in odds) / 2
    assert same(run_file(tmp_path / "both.onnx", x), np.asarray(expected, np.float32))


def test_members_with_other_layouts_join_channels_first() -> None:
    last, first = canonicalise(channels_last(small("a")), "a"), small("b")
    for models in ([last, first], [first, last]):
        joined = join(models, "both")
        assert joined.entry == ()
        assert joined.inputs[0].shape == (3, 8, 8)
        found = run(joined, np.ones((2, 3, 8, 8), np.float32))[PROBABILITIES]
        assert same(found.sum(axis=1), np.ones(2, np.float32))


def test_members_that_read_one_input_in_two_ways_join_on_what_their_user_gives() -> None:
    turned = canonicalise(channels_last(small("a")), "a")
    text = """g (float[N,8,8,3] x, float[3] s, float[3] b, float[6,192] w) => (float[N,6] y) {
        n = LayerNormalization(x, s, b) f = Flatten(n) y = Gemm<transB = 1>(f, w) }"""
    plain = canonicalise(network(text), "b")
    assert (turned.inputs[0].shape, plain.inputs[0].shape) == ((3, 8, 8), (8, 8, 3))
    x = np.random.default_rng(0).standard_normal((5, 8, 8, 3)).astype(np.float32)
    odds = [np.exp(next(iter(run(model, x, include_ends=True).values()))) for model in (turned, plain)]
    expected = sum(each / each.sum(axis=1, keepdims=True) for each in odds) / 2
    for models in ([turned, plain], [plain, turned]):
        joined = join(models, "both")
        assert (joined.entry, joined.inputs[0].shape) == ((), (8, 8, 3))
        assert same(run(joined, x)[PROBABILITIES], np.asarray(expected, np.float32))


# The corpus.

ZOO = Path(os.environ.get("MNX_ZOO", Path(__file__).parents[2].parent / "shared" / "zoo"))
FAMILIES = ("vgg", "vgg_bn", "resnet_cifar", "resnet_bott", "mobilenetv2", "densenet", "cnn1d", "mlp")
FILES = sorted(
    path
    for family in FAMILIES
    for exporter in ("keras_tf", "jax2onnx", "jax2onnx_nchw")
    for path in (ZOO / family / exporter).glob("*.onnx")
)
needs_corpus = pytest.mark.skipif(not FILES, reason="the corpus is not here: set MNX_ZOO to its folder")


@needs_corpus
@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.with_suffix("").parts[-3:]))
def test_an_export_of_keras_or_jax_is_channels_first(path: Path, tmp_path: Path) -> None:
    model = read(path)
    check_dialect(model)
    assert not [node for node in model.nodes if node.op in ("Transpose", "Squeeze", "Unsqueeze", "Pad", "Mul")]
    with np.load(path.with_suffix(".npz")) as reference:
        x, expected = reference["arr_0"], reference["y"]
    (result,) = run(model, x, include_ends=True).values()
    assert same(result, expected)
    write(model, tmp_path / path.name)
    assert same(run_file(tmp_path / path.name, x), expected)
    again = read(tmp_path / path.name)
    assert (again.entry, again.nodes, again.changes) == (model.entry, model.nodes, ())


def layers(model: Model) -> list[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Each op with the shapes of its parameters."""
    return [
        (node.op, tuple(model.weights[name].shape for name in node.inputs if name in model.weights))
        for node in model.nodes
    ]


@needs_corpus
@pytest.mark.parametrize("name", ["v13", "v16"])
def test_a_vgg_of_keras_has_the_layers_of_the_same_vgg_of_torch(name: str) -> None:
    """The corpus's Keras networks have one hidden linear layer, those of torch two: all else is equal."""
    keras, torch = (layers(read(ZOO / "vgg" / exporter / f"{name}.onnx")) for exporter in ("keras_tf", "pt_ts_eval"))
    assert keras == [*torch[:-3], torch[-1]]
