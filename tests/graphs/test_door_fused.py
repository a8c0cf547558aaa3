"""Fused ops of onnxruntime are written out as what onnxruntime makes of them, and broken twins are noticed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from reading import Array, original, same

from mnx.graphs.canonical import fused
from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.canonical.expansion import Expansion
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.onnx_file import read, write
from mnx.graphs.proto import to_proto
from mnx.graphs.run import run

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'
ATTENTION = "float[6,18] w, float[18] b"

NETS: dict[str, str] = {
    "FusedConv": """g (float[N,2,5,5] x, float[3,2,3,3] w, float[3] b) => (float[N,3,3,3] y)
        { y = com.microsoft.FusedConv<activation = "Relu", kernel_shape = [3, 3]>(x, w, b) }""",
    "FusedConv with a sum": """g (float[N,2,5,5] x, float[2,2,1,1] w) => (float[N,2,5,5] y)
        { y = com.microsoft.FusedConv<activation = "LeakyRelu", activation_params = [0.3]>(x, w, , x) }""",
    "FusedConv with HardSigmoid": """g (float[N,2,5,5] x, float[2,2,1,1] w) => (float[N,2,5,5] y)
        { y = com.microsoft.FusedConv<activation = "HardSigmoid", activation_params = [0.3, 0.4]>(x, w) }""",
    "FusedConv with Clip": """g (float[N,2,5,5] x, float[2,2,1,1] w) => (float[N,2,5,5] y)
        { y = com.microsoft.FusedConv<activation = "Clip", activation_params = [-0.3, 0.4]>(x, w) }""",
    "FusedGemm": """g (float[N,4] x, float[3,4] w, float[3] b) => (float[N,3] y)
        { y = com.microsoft.FusedGemm<activation = "Tanh", alpha = 0.5, beta = 2.0, transB = 1>(x, w, b) }""",
    "FusedGemm with LeakyRelu": """g (float[N,4] x, float[4,3] w) => (float[N,3] y)
        { y = com.microsoft.FusedGemm<activation = "LeakyRelu", activation_alpha = 0.2>(x, w) }""",
    "FusedMatMul": """g (float[N,4,3] x) => (float[N,4,4] y)
        { y = com.microsoft.FusedMatMul<transB = 1, alpha = 0.5>(x, x) }""",
    "FusedMatMul of what is fused": """g (float[N,4,3] x) => (float[N,3,3] y)
        { q = com.microsoft.QuickGelu(x) y = com.microsoft.FusedMatMul<transA = 1>(q, x) }""",
    "QuickGelu": "g (float[N,4] x) => (float[N,4] y) { y = com.microsoft.QuickGelu<alpha = 1.3>(x) }",
    "SiLU": "g (float[N,4] x) => (float[N,4] y) { y = com.microsoft.QuickGelu<alpha = 1.0>(x) }",
    "Gelu": "g (float[N,4] x) => (float[N,4] y) { y = com.microsoft.Gelu(x) }",
    "FastGelu": "g (float[N,4] x) => (float[N,4] y) { y = com.microsoft.FastGelu(x) }",
    "FastGelu with a bias": "g (float[N,4] x, float[4] b) => (float[N,4] y) { y = com.microsoft.FastGelu(x, b) }",
    "BiasGelu": "g (float[N,4] x, float[4] b) => (float[N,4] y) { y = com.microsoft.BiasGelu(x, b) }",
    "SimplifiedLayerNormalization": """g (float[N,2,4] x, float[4] s) => (float[N,2,4] y)
        { y = SimplifiedLayerNormalization<axis = -1, epsilon = 0.1>(x, s) }""",
    "SkipLayerNormalization": """g (float[N,2,4] x, float[4] s, float[4] t, float[4] b) => (float[N,2,4] z)
        { y, , , u = com.microsoft.SkipLayerNormalization<epsilon = 0.1>(x, x, s, t, b) z = Add(y, u) }""",
    "SkipLayerNormalization without a bias": """g (float[N,2,4] x, float[4] s, float[4] t) => (float[N,2,4] z)
        { y, , , u = com.microsoft.SkipLayerNormalization(x, x, s, t) z = Mul(y, u) }""",
    "SkipSimplifiedLayerNormalization": """g (float[N,2,4] x, float[4] s) => (float[N,2,4] y)
        { y = com.microsoft.SkipSimplifiedLayerNormalization<epsilon = 0.1>(x, x, s) }""",
    "Attention": f"""g (float[N,5,6] x, {ATTENTION}) => (float[N,5,6] y)
        {{ y = com.microsoft.Attention<num_heads = 2>(x, w, b) }}""",
    "Attention with a scale": f"""g (float[N,5,6] x, {ATTENTION}) => (float[N,5,6] y)
        {{ y = com.microsoft.Attention<num_heads = 3, scale = 0.2>(x, w, b) }}""",
    "Attention, narrow": """g (float[N,5,6] x, float[6,12] w, float[12] b) => (float[N,5,4] y)
        { y = com.microsoft.Attention<num_heads = 2, qkv_hidden_sizes = [4, 4, 4]>(x, w, b) }""",
    "Attention, causal": f"""g (float[N,5,6] x, {ATTENTION}) => (float[N,5,6] y)
        {{ y = com.microsoft.Attention<num_heads = 2, unidirectional = 1>(x, w, b) }}""",
    "Attention with a mask": f"""g (float[N,5,6] x, {ATTENTION}) => (float[N,5,6] y)
        {{ f = ReduceMax<axes = [2], keepdims = 0>(x) z = Constant<value = float {{0.7}}>() g = Greater(f, z)
           m = Cast<to = 6>(g) y = com.microsoft.Attention<num_heads = 2>(x, w, b, m) }}""",
    "MultiHeadAttention": """g (float[N,5,6] x, float[18] b) => (float[N,5,6] y)
        { y = com.microsoft.MultiHeadAttention<num_heads = 2>(x, x, x, b) }""",
    "MultiHeadAttention between two": """g (float[N,5,6] x, float[N,3,6] xk) => (float[N,5,6] y)
        { y = com.microsoft.MultiHeadAttention<num_heads = 3, scale = 0.7>(x, xk, xk) }""",
}


def network(text: str, head: str = HEAD) -> onnx.ModelProto:
    """The network in `text`, with random weights for its inputs but x..."""
    proto = onnx.parser.parse_model(f"{head} {text}")
    random = np.random.default_rng(0)
    data = [value for value in proto.graph.input if value.name.startswith("x")]
    for value in proto.graph.input:
        if not value.name.startswith("x"):
            shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
            proto.graph.initializer.append(
                numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), value.name)
            )
    del proto.graph.input[:]
    proto.graph.input.extend(data)
    return proto


def inputs_of(proto: onnx.ModelProto, batch: int = 3) -> dict[str, Array]:
    random = np.random.default_rng(1)
    shapes = {v.name: [axis.dim_value for axis in v.type.tensor_type.shape.dim][1:] for v in proto.graph.input}
    return {name: random.standard_normal((batch, *shape)).astype(np.float32) for name, shape in shapes.items()}


def computes_the_same(model: Model, proto: onnx.ModelProto) -> bool:
    inputs = inputs_of(proto)
    (found,) = run(model, inputs, include_ends=True).values()
    return same(found, original(proto, inputs)[0])


@pytest.mark.parametrize("name", NETS)
def test_a_fused_op_is_written_out(name: str) -> None:
    proto = network(NETS[name])
    model = canonicalise(proto, "net")
    assert {node.domain for node in (*model.nodes, *model.head)} == {""}
    onnx.checker.check_model(to_proto(model, include_ends=True), full_check=True)
    assert computes_the_same(model, proto)
    assert any("com.microsoft" in change for change in model.changes)


@pytest.mark.parametrize("op", ["FusedGemm", "QuickGelu", "BiasGelu", "FusedMatMul"])
def test_a_wrong_expansion_is_noticed(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(node: Expansion) -> None:
        right(node)
        node.nodes[-1].output[0] += ".right"
        node.nodes.append(onnx.helper.make_node("Mul", [f"{node.outputs[0]}.right", node.number(1.01)], node.outputs))

    right: Callable[[Expansion], None] = fused.RULES[fused.MICROSOFT, op]
    monkeypatch.setattr(fused, "RULES", {**fused.RULES, (fused.MICROSOFT, op): broken})
    proto = network(NETS[op])
    assert not computes_the_same(canonicalise(proto, "net"), proto)


EMBED = """g (int64[N,4] x, float[7,6] words, float[9,6] places, float[6] scale, float[6] shift) => (float[N,4,6] y)
    { i = Cast<to = 6>(x)
      y, n = com.microsoft.EmbedLayerNormalization<epsilon = 0.01>(i, , words, places, , scale, shift) }"""
EMBED_KINDS = """g (int64[N,4] x, float[7,6] words, float[9,6] places, float[2,6] kinds, float[6] scale, float[6] shift)
    => (float[N,4,6] y)
    { i = Cast<to = 6>(x) o = Constant<value = int32 {2}>() k = Mod(i, o)
      y, n = com.microsoft.EmbedLayerNormalization(i, k, words, places, kinds, scale, shift) }"""


@pytest.mark.parametrize("text", [EMBED, EMBED_KINDS], ids=["words", "words and kinds"])
def test_fused_embeddings_are_written_out(text: str) -> None:
    proto = network(text)
    model = canonicalise(proto, "net")
    x = np.random.default_rng(0).integers(0, 7, (3, 4))
    (found,) = run(model, x, include_ends=True).values()
    assert same(found, original(proto, {"x": x})[0])


REFUSED: dict[str, tuple[str, str]] = {
    "past": (
        """g (float[N,5,6] x, float[6,18] w, float[18] b, float[2,3,2,1,3] p) => (float[N,5,6] y)
        { y = com.microsoft.Attention<num_heads = 2>(x, w, b, , p) }""",
        r"op com\.microsoft\.Attention \(node 'y' of net\).*past",
    ),
    "blocked layout": (
        """g (float[N,8,5,5] x) => (float[N,8,5,5] y) { y = com.microsoft.nchwc.ReorderInput(x) }""",
        r"op com\.microsoft\.nchwc\.ReorderInput .* one kind of processor",
    ),
    "quantised": (
        """g (uint8[N,4] x, uint8[N,4] x2, float[1] s) => (float[N,4] y)
        { y = com.microsoft.MatMulIntegerToFloat(x, x2, s, s) }""",
        "MatMulIntegerToFloat .* optimising or quantising",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_expansion_is_refused_by_name(name: str) -> None:
    text, message = REFUSED[name]
    head = HEAD.replace("]>", ', "com.microsoft.nchwc": 1]>')
    proto = network(text, head)
    with pytest.raises(GraphError, match=message):
        canonicalise(proto, "net")


def test_a_file_that_onnxruntime_optimised_is_its_original(tmp_path: Path) -> None:
    text = """g (float[N,2,8,8] x, float[4,2,3,3] w, float[4] b, float[5,4] f, float[5] c) => (float[N,5] p)
        { h = Conv<pads = [1, 1, 1, 1]>(x, w, b) r = Relu(h) q = Sigmoid(r) s = Mul(r, q) a = GlobalAveragePool(s)
          t = Flatten(a) u = Gemm<transB = 1>(t, f, c) p = Tanh(u) }"""
    proto = network(text)
    onnx.save(proto, tmp_path / "net.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), options, providers=["CPUExecutionProvider"])
    domains = {node.domain for node in onnx.load(tmp_path / "fused.onnx").graph.node}
    assert "com.microsoft" in domains
    model = read(tmp_path / "fused.onnx")
    assert computes_the_same(model, proto)
    assert [node.op for node in model.nodes] == [node.op for node in read(tmp_path / "net.onnx").nodes]
    write(model, tmp_path / "out.onnx")
    assert {node.domain for node in onnx.load(tmp_path / "out.onnx").graph.node} == {""}
