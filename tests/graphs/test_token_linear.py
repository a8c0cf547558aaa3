"""Linear layers on tokens: MatMul and Add, whatever Reshapes and Einsums the exporter put around them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import network, preserved
from rewriting import ops, rewritten

from mnx.graphs.canonical.canonicalise import canonicalise

LINEAR = {
    "MatMul, Add": "m = MatMul(z, w) y0 = Add(m, b)",
    "MatMul, Add, bias first": "m = MatMul(z, w) y0 = Add(b, m)",
    "Gemm in Reshapes": "r = Reshape(z, fold) g = Gemm(r, w, b) y0 = Reshape(g, unfold)",
    "Gemm of the transposed weight": """v = Transpose<perm = [1, 0]>(w) r = Reshape(z, fold)
        g = Gemm<transB = 1>(r, v, b) y0 = Reshape(g, unfold)""",
    "MatMul in Reshapes": "r = Reshape(z, fold) g = MatMul(r, w) u = Reshape(g, unfold) y0 = Add(u, b)",
    "MatMul and Add in Reshapes": "r = Reshape(z, fold) g = MatMul(r, w) a = Add(g, b) y0 = Reshape(a, unfold)",
    "Einsum": 'e = Einsum<equation = "...a,ab->...b">(z, w) y0 = Add(e, b)',
    "Einsum, weight first": 'e = Einsum<equation = "ba,ntb->nta">(w, z) y0 = Add(e, b)',
}


def tokens(body: str, length: int = 5, features: int = 3, out: int = 4, bias: str = "") -> str:
    """Relu, a linear layer on tokens, Tanh."""
    return f"""g (float[N,{length},{features}] x, float[{features},{out}] w, float[{bias or out}] b)
        => (float[N,{length},{out}] y) <int64[2] fold = {{-1, {features}}}, int64[3] unfold = {{-1, {length}, {out}}}>
        {{ z = Relu(x) {body} y = Tanh(y0) }}"""


@settings(deadline=None, max_examples=40)
@given(
    spelling=st.sampled_from(sorted(LINEAR)),
    sizes=st.tuples(st.integers(2, 5), st.integers(2, 4), st.integers(2, 4)),
)
def test_every_spelling_of_a_linear_layer_on_tokens_is_matmul_and_add(
    spelling: str, sizes: tuple[int, int, int]
) -> None:
    length, features, out = sizes
    if "first" in spelling and "Einsum" in spelling:
        out = features
    model = rewritten(tokens(LINEAR[spelling], length, features, out), "Relu MatMul Add Tanh")
    _, linear, add, _ = model.nodes
    assert add.inputs[0] == linear.outputs[0]
    assert model.weights[linear.inputs[1]].shape == (features, out)
    assert model.weights[add.inputs[1]].shape == (out,)


@pytest.mark.parametrize("bias", ["1,4", "1,1,4"])
def test_a_bias_has_one_axis_and_keeps_its_name(bias: str) -> None:
    model = rewritten(tokens(LINEAR["MatMul, Add"], bias=bias), "Relu MatMul Add Tanh")
    assert model.nodes[2].inputs[1] == "b"
    assert model.weights["b"].shape == (4,)


def test_a_missing_bias_is_zeros_and_said() -> None:
    text = tokens("y0 = MatMul(z, w)")
    proto = network(text)
    model = canonicalise(proto, "net")
    assert ops(model) == "Relu MatMul Add Tanh"
    assert not model.weights[model.nodes[2].inputs[1]].any()
    assert any("missing biases made explicit" in change for change in model.changes)
    rewritten(text, "Relu MatMul Add Tanh")


def test_a_layer_with_one_output_has_a_bias_of_one_number() -> None:
    model = rewritten(tokens(LINEAR["MatMul, Add"], out=1), "Relu MatMul Add Tanh")
    assert model.weights[model.nodes[2].inputs[1]].shape == (1,)


def test_a_bias_over_tokens_is_not_the_layers() -> None:
    model = rewritten(tokens(LINEAR["MatMul, Add"], bias="5,4"), "Relu MatMul Add Add Tanh")
    assert not model.weights[model.nodes[2].inputs[1]].any()
    assert model.nodes[3].inputs[1] == "b"


def test_a_layer_that_others_read_gets_a_bias_of_its_own() -> None:
    rewritten(tokens("m = MatMul(z, w) a = Add(m, b) y0 = Mul(a, m)"), "Relu MatMul Add Add Mul Tanh")


def test_a_shared_matrix_stays_shared_and_biases_do_not() -> None:
    text = """g (float[N,5,3] x, float[3,3] w, float[3] b) => (float[N,5,3] y) {
        l = MatMul(x, w) m = Add(l, b) n = Relu(m) o = MatMul(n, w) y = Add(o, b) }"""
    model = rewritten(text, "MatMul Add Relu MatMul Add")
    assert model.nodes[0].inputs[1] == model.nodes[3].inputs[1] == "w"
    assert model.nodes[1].inputs[1] != model.nodes[4].inputs[1]


def test_a_bias_behind_the_split_into_heads_is_the_layers() -> None:
    text = """g (float[N,5,6] x, float[6,2,3] w, float[2,3] b) => (float[N,5,2,3] y) {
        z = Relu(x) e = Einsum<equation = "abc,cde->abde">(z, w) a = Add(e, b) y = Tanh(a) }"""
    model = rewritten(text, "Relu MatMul Add Reshape Tanh")
    assert model.weights[model.nodes[2].inputs[1]].shape == (6,)


def test_a_bias_of_some_heads_only_stays_behind_the_split() -> None:
    text = """g (float[N,5,6] x, float[6,2,3] w, float[5,1,1] b) => (float[N,5,2,3] y) {
        z = Relu(x) e = Einsum<equation = "abc,cde->abde">(z, w) a = Add(e, b) y = Tanh(a) }"""
    rewritten(text, "Relu MatMul Add Reshape Add Tanh")


FOLDED = """g (float[N,2,4,3] x, float[N,2,4,3] x2) => (float[N,2,4,4] y)
    <int64[3] fold = {-1, 4, 3}, int64[4] unfold = {-1, 2, 4, 4}> {
    a = Relu(x) b = Relu(x2) f = Reshape(a, fold) g = Reshape(b, fold) t = Transpose<perm = [0, 2, 1]>(g)
    m = MatMul(f, t) s = Softmax<axis = 2>(m) u = Reshape(s, unfold) y = Tanh(u) }"""


def test_heads_folded_into_the_batch_are_unfolded() -> None:
    model = rewritten(FOLDED, "Relu Relu Transpose MatMul Softmax Tanh")
    assert model.nodes[2].attributes == {"perm": (0, 1, 3, 2)}
    assert model.nodes[4].attributes == {"axis": -1}


def test_a_softmax_over_what_is_folded_stays() -> None:
    """Softmax over axis 0 would mix examples; over axis 1 of three it is not the last: the fold does not pass it."""
    rewritten(
        FOLDED.replace("Softmax<axis = 2>", "Softmax<axis = 1>"),
        "Relu Relu Transpose MatMul Reshape Softmax Reshape Tanh",
    )


def test_a_fold_of_other_axes_is_not_merged() -> None:
    text = """g (float[N,2,3,4] x, float[N,3,2,4] x2) => (float[N,2,3,4] y)
        <int64[2] fold = {-1, 4}, int64[4] unfold = {-1, 2, 3, 4}> {
        a = Relu(x) b = Relu(x2) f = Reshape(a, fold) g = Reshape(b, fold) m = Add(f, g) u = Reshape(m, unfold)
        y = Tanh(u) }"""
    rewritten(text, "Relu Relu Reshape Reshape Add Reshape Tanh")


EINSUMS = {
    "scores": ("bthd,bshd->bhts", "5,2,3", "4,2,3", "2,5,4"),
    "mix": ("bhts,bshd->bthd", "2,5,4", "4,2,3", "5,2,3"),
    "product": ("bij,bjk->bik", "2,3", "3,4", "2,4"),
    "two contracted": ("bijk,bjkl->bil", "2,3,2", "3,2,4", "2,4"),
    "outer": ("bi,bj->bij", "2", "3", "2,3"),
    "inner": ("bi,bi->b", "4", "4", ""),
    "summed": ("bij,bk->bk", "2,3", "4", "4"),
    "implicit": ("...ij,...jk", "2,3", "3,4", "2,4"),
    "ellipsis": ("...ij,...jk->...ik", "2,3,4", "2,4,2", "2,3,2"),
}


@pytest.mark.parametrize("name", EINSUMS)
def test_an_einsum_of_two_values_is_a_matrix_product(name: str) -> None:
    equation, left, right, result = EINSUMS[name]
    text = f"""g (float[N,{left}] x, float[N,{right}] x2) => (float[N{"," * bool(result)}{result}] y) {{
        a = Relu(x) b = Relu(x2) e = Einsum<equation = "{equation}">(a, b) y = Tanh(e) }}"""
    proto = network(text)
    model = canonicalise(proto, "net")
    assert "Einsum" not in ops(model)
    assert "MatMul" in ops(model)
    assert preserved(model, proto)


def test_an_einsum_of_a_diagonal_stays() -> None:
    text = """g (float[N,3,3] x, float[N,3] x2) => (float[N,3] y) {
        a = Relu(x) e = Einsum<equation = "bii,bi->bi">(a, x2) y = Tanh(e) }"""
    assert "Einsum" in ops(canonicalise(network(text), "net"))


def test_the_comparison_catches_a_transposed_weight_and_another_order() -> None:
    proto = network(tokens(LINEAR["Gemm in Reshapes"], features=4))
    model = canonicalise(proto, "net")
    name = model.nodes[1].inputs[1]
    assert preserved(model, proto)
    turned = np.ascontiguousarray(model.weights[name].T)
    assert not preserved(model.with_weights({name: turned}), proto)
    proto = network(FOLDED)
    model = canonicalise(proto, "net")
    assert preserved(model, proto)
    wrong = tuple(
        dataclasses.replace(node, attributes={"axis": 1}) if node.op == "Softmax" else node for node in model.nodes
    )
    assert not preserved(model.replace(nodes=wrong), proto)
