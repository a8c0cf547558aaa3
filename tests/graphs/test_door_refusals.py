"""What comes to the door and is not let in as it is: each with its name and a way out; branches that are no choice."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from reading import network, original, preserved, same

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.proto import to_proto
from mnx.graphs.run import run

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1, "my.ops": 1]>'

REFUSED: dict[str, tuple[str, str]] = {
    "a loop over time": (
        """g (float[N,3] x) => (float[N,3] y) { m = Constant<value = int64 {3}>() t = Constant<value = bool {1}>()
            y = Loop(m, t, x) <body = b (int64 i, bool c, float[N,3] a) => (bool d, float[N,3] z)
            { d = Identity(c) z = Tanh(a) }> }""",
        r"op Loop \(node 'y' of net\) cannot be read.*unroll=True \(Keras\), or with torch",
    ),
    "a choice by the input": (
        """g (float[N,3] x) => (float[N,3] y) { m = ReduceMax<keepdims = 0>(x) b = Cast<to = 9>(m)
            y = If(b) <then_branch = t () => (float[N,3] p) { p = Relu(x) },
                       else_branch = e () => (float[N,3] q) { q = Tanh(x) }> }""",
        r"op If \(node 'y' of net\).*branches and loops resolved",
    ),
    "dynamic quantisation": (
        """g (float[N,3] x) => (float[N,3] y) { q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z) }""",
        r"op DynamicQuantizeLinear \(node 'q' of net\).*as it was before quantisation",
    ),
    "a quantised weight": (
        """g (float[N,3] x) => (float[N,3] y) <int8[3,3] q = {1,2,3,4,5,6,7,8,9}, float s = {0.1}>
            { w = DequantizeLinear(q, s) y = MatMul(x, w) }""",
        r"op DequantizeLinear \(node 'w' of net\).*as it was before quantisation",
    ),
    "a sequence": (
        "g (float[N,4] x) => (float[N,4] y) { s = SplitToSequence<axis = 1>(x) y = ConcatFromSequence<axis = 1>(s) }",
        r"op SplitToSequence \(node 's' of net\).*without lists of tensors",
    ),
    "an op of somebody's own": (
        "g (float[N,4] x) => (float[N,4] y) { y = my.ops.Twist(x) }",
        r"op my\.ops\.Twist \(node 'y' of net\).*without custom ops",
    ),
    "TensorFlow's call": (
        "g (float[N,4] x) => (float[N,4] y) { y = StatefulPartitionedCall(x) }",
        r"op StatefulPartitionedCall \(node 'y' of net\).*left a TensorFlow function",
    ),
    "an op that there is not": ("g (float[N,4] x) => (float[N,4] y) { y = Erfc(x) }", "op Erfc .* tanh form of GELU"),
    "trees": (
        """g (float[N,4] x) => (float[N,4] y) { y = ai.onnx.ml.Normalizer<norm = "L2">(x) }""",
        "op ai.onnx.ml.Normalizer .* classical machine learning",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name_and_with_a_way_out(name: str) -> None:
    text, message = REFUSED[name]
    proto = onnx.parser.parse_model(f'{HEAD[:-2]}, "ai.onnx.ml": 2]> {text}')
    with pytest.raises(GraphError, match=message):
        canonicalise(proto, "net")


BRANCHES: dict[str, str] = {
    "a constant": """g (float[N,3,1] x) => (float[N,3,1] y) { b = Constant<value = bool {1}>()
        y = If(b) <then_branch = t () => (float[N,3,1] p) { h = Relu(x) p = Neg(h) },
                   else_branch = e () => (float[N,3,1] q) { h = Tanh(x) q = Neg(h) }> }""",
    "a shape": """g (float[N,3,1] x) => (float[N,3] y) { s = Shape(x) i = Constant<value = int64 {2}>() d = Gather(s, i)
        o = Constant<value = int64 {1}>() b = Equal(d, o) a = Constant<value_ints = [2]>()
        y = If(b) <then_branch = t () => (float[N,3] p) { p = Squeeze(x, a) },
                   else_branch = e () => (float[N,3,1] q) { q = Identity(x) }> }""",
    "weights inside": """g (float[N,3] x) => (float[N,2] y) { b = Constant<value = bool {0}>()
        y = If(b) <then_branch = t () => (float[N,2] p) { w = Constant<value = float[3,2] {1.,2.,3.,4.,5.,6.}>()
                                                           p = MatMul(x, w) },
                   else_branch = e () => (float[N,2] q) { w = Constant<value = float[3,2] {1.,2.,3.,4.,5.,7.}>()
                                                           q = MatMul(x, w) }> }""",
    "one in the other": """g (float[N,3] x) => (float[N,3] y) { b = Constant<value = bool {1}>() n = Not(b)
        y = If(b) <then_branch = t () => (float[N,3] p) {
                       h = Relu(x)
                       p = If(n) <then_branch = u () => (float[N,3] r) { r = Neg(h) },
                                  else_branch = v () => (float[N,3] s) { h2 = Exp(h) s = Neg(h2) }> },
                   else_branch = e () => (float[N,3] q) { q = Tanh(x) }> }""",
}


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_that_is_always_taken_takes_the_place_of_the_choice(name: str) -> None:
    proto = network(BRANCHES[name], 17)
    model = canonicalise(proto, "net")
    assert "If" not in {node.op for node in model.nodes}
    assert any("branches that are always taken" in change for change in model.changes)
    assert preserved(model, proto)
    onnx.checker.check_model(to_proto(model, include_ends=True), full_check=True)


def test_the_other_branch_is_another_function() -> None:
    proto = network(BRANCHES["weights inside"], 17)
    other = network(BRANCHES["weights inside"].replace("bool {0}", "bool {1}"), 17)
    assert not preserved(canonicalise(other, "net"), proto)


def test_shapes_that_the_exporter_noted_wrongly_are_not_believed() -> None:
    proto = network("g (float[N,3,4,4] x, float[2,3,1,1] w) => (float[N,2,4,4] y) { h = Conv(x, w) y = Relu(h) }", 17)
    proto.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 4, 4, 2]))
    model = canonicalise(proto, "net")
    x = np.ones((2, 3, 4, 4), np.float32)
    del proto.graph.value_info[:]
    assert same(next(iter(run(model, x).values())), original(proto, {"x": x})[0])


def function(opset: int, other: int) -> onnx.ModelProto:
    """A model in one opset that calls a function which imports others."""
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "local": 1]>
        g (float[N,3] x) => (float[N,3] y) {{ h = local.twice(x) y = local.twice(h) }}
        <opset_import: ["": {other}, "local": 1], domain: "local">
        twice (a) => (b) {{ h = local.once(a) b = Add(h, h) }}
        <opset_import: ["": {other}], domain: "local"> once (a) => (b) {{ b = Relu(a) }}"""
    return onnx.parser.parse_model(text)


@pytest.mark.parametrize("other", [17, 18, 14])
def test_functions_of_other_opsets_are_inlined_and_none_is_left(other: int) -> None:
    proto = function(17, other)
    model = canonicalise(proto, "net")
    assert {node.domain for node in model.nodes} == {""}
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    assert same(next(iter(run(model, x).values())), original(function(17, 17), {"x": x})[0])


def test_a_function_that_is_missing_is_named() -> None:
    proto = function(17, 17)
    del proto.functions[1]
    with pytest.raises(GraphError, match=r"op local\.once .* without custom ops"):
        canonicalise(proto, "net")
