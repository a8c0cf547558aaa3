"""Normalisations and activations written out in arithmetic become the whole op, and nothing else does."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import check_dialect, network, preserved

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.model import Model
from mnx.graphs.onnx_file import to_proto

NUMBERS = """two = Constant<value_float = 2.0>() half = Constant<value_float = 0.5>()
    one = Constant<value_float = 1.0>()
    minus_half = Constant<value_float = -0.5>() eps = Constant<value_float = 0.001>()
    zero = Constant<value_float = 0.0>()"""

CENTRE = "m = {mean} d = Sub(x, m)"
VARIANCES = {
    "power": "q = Pow(d, two) v = {mean_q}",
    "product": "q = Mul(d, d) v = {mean_q}",
    "moments": "q = Mul(x, x) n = {mean_q} o = Mul(m, m) u = Sub(n, o) v = Max(u, zero)",
    "moments, Relu": "q = Pow(x, two) n = {mean_q} o = Pow(m, two) u = Sub(n, o) v = Relu(u)",
}
DIVISIONS = {
    "Div": "e = Add(v, eps) r = Sqrt(e) y0 = Div(d, r)",
    "Div, eps first": "e = Add(eps, v) r = Pow(e, half) y0 = Div(d, r)",
    "Reciprocal": "e = Add(v, eps) r = Sqrt(e) k = Reciprocal(r) y0 = Mul(k, d)",
    "one over": "e = Add(v, eps) r = Sqrt(e) k = Div(one, r) y0 = Mul(d, k)",
    "power": "e = Add(v, eps) k = Pow(e, minus_half) y0 = Mul(d, k)",
    "Keras": "e = Add(v, eps) r = Sqrt(e) k = Reciprocal(r) a = Mul(x, k) w = Neg(m) b = Mul(w, k) y0 = Add(a, b)",
}
AFFINE = {
    "both": "y1 = Mul(y0, s) y = Add(y1, t)",
    "both, constants first": "y1 = Mul(s, y0) y = Add(t, y1)",
    "scale": "y = Mul(y0, s)",
    "bias": "y = Add(y0, t)",
    "none": "",
}
KERAS = """e = Add(v, eps) r = Sqrt(e) k0 = Reciprocal(r) k = Mul(k0, s) a = Mul(x, k) w = Neg(m) b0 = Mul(w, k)
    b = Add(b0, t) y = Add(a, b)"""


def written_out(
    shape: tuple[int, ...],
    variance: str = "power",
    division: str = "Div",
    affine: str = "both",
    mean: str = "{op}(x, axes)",
    constant_shape: str = "",
) -> str:
    """A LayerNormalization over the last axis in arithmetic."""
    sizes = ",".join(map(str, shape))
    body = CENTRE + " " + VARIANCES[variance] + " "
    body += KERAS if division == "Keras affine" else DIVISIONS[division] + " " + AFFINE[affine]
    if affine == "none" and division != "Keras affine":
        body = body.replace("y0 =", "y =")
    mean_of = "GlobalAveragePool({})" if mean == "pool" else "ReduceMean<keepdims = 1>({}, axes)"
    body = body.format(mean=mean_of.format("x"), mean_q=mean_of.format("q"))
    own = constant_shape or str(shape[-1])
    return f"""g (float[N,{sizes}] x, float[{own}] s, float[{own}] t) => (float[N,{sizes}] y)
        <int64[1] axes = {{{len(shape)}}}> {{ {NUMBERS} {body} }}"""


def ops(model: Model) -> list[str]:
    return [node.op for node in model.nodes]


def check(text: str, wanted: list[str], opset: int = 21) -> Model:
    """The canonical model has these ops, computes the same, keeps the dialect's promises and stays as it is."""
    proto = network(text, opset)
    model = canonicalise(proto, "net")
    assert ops(model) == wanted
    assert preserved(model, proto)
    check_dialect(model)
    again = canonicalise(to_proto(model, include_ends=True), "net")
    assert again.nodes == model.nodes
    assert again.changes == ()
    return model


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(st.integers(2, 5), max_size=2).map(lambda sizes: (*sizes, 16)),
    variance=st.sampled_from(sorted(VARIANCES)),
    division=st.sampled_from([*DIVISIONS, "Keras affine"]),
    affine=st.sampled_from(sorted(AFFINE)),
)
def test_every_spelling_of_a_layer_norm_is_one_op(
    shape: tuple[int, ...], variance: str, division: str, affine: str
) -> None:
    model = check(written_out(shape, variance, division, affine), ["LayerNormalization"])
    (node,) = model.nodes
    assert node.attributes == {"axis": -1, "epsilon": 0.001}
    assert [model.weights[name].shape for name in node.inputs[1:]] == [(shape[-1],), (shape[-1],)]


@pytest.mark.parametrize("constant_shape", ["4", "1,4", "1,1,4"])
def test_a_mean_of_tokens_written_as_pooling_is_part_of_the_norm(constant_shape: str) -> None:
    model = check(
        written_out((3, 4), "product", "Keras affine", mean="pool", constant_shape=constant_shape),
        ["LayerNormalization"],
    )
    assert model.nodes[0].inputs[1:] == ("s", "t")


NEAR_LAYER_NORMS = {
    "other axis": lambda text: text.replace("axes = {2}", "axes = {1}"),
    "epsilon behind the root": lambda text: text.replace("e = Add(v, eps) r = Sqrt(e)", "e = Sqrt(v) r = Add(e, eps)"),
    "no root": lambda text: text.replace("r = Sqrt(e)", "r = Identity(e)"),
    "cubes": lambda text: text.replace("Pow(d, two)", "Abs(d)"),
    "a number between": lambda text: text.replace("y1 = Mul(y0, s)", "y2 = Mul(y0, half) y1 = Mul(y2, s)"),
    "others read the deviation": lambda text: text.replace("y = Add(y1, t)", "y3 = Add(y1, t) y = Mul(y3, r)"),
    "two scales": lambda text: text.replace("y1 = Mul(y0, s)", "y2 = Mul(y0, t) y1 = Mul(y2, s)"),
    "scale of tokens": lambda text: text.replace("float[4] s", "float[3,1] s"),
}


@pytest.mark.parametrize("name", NEAR_LAYER_NORMS)
def test_what_is_nearly_a_layer_norm_stays(name: str) -> None:
    text = written_out((3, 4))
    changed = NEAR_LAYER_NORMS[name](text)
    assert changed != text
    proto = network(changed)
    model = canonicalise(proto, "net")
    norms = [node for node in model.nodes if node.op == "LayerNormalization"]
    assert len(model.nodes) > 1
    if name in ("a number between", "two scales", "scale of tokens"):
        (norm,) = norms
        assert (model.weights[norm.inputs[1]] == 1).all() or "Mul" in ops(model)
    else:
        assert not norms
    assert preserved(model, proto)


RMS_OPS = ["Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]
RMS = {
    "Div": "q = Pow(x, two) v = ReduceMean(q, axes) e = Add(v, eps) r = Sqrt(e) n = Div(x, r) y = Mul(n, s)",
    "one over": """q = Mul(x, x) v = ReduceMean(q, axes) e = Add(eps, v) r = Sqrt(e) k = Div(one, r) n = Mul(x, k)
        y = Mul(s, n)""",
    "power": "q = Mul(x, x) v = ReduceMean(q, axes) e = Add(v, eps) k = Pow(e, minus_half) n = Mul(k, x) y = Mul(n, s)",
    "no scale": "q = Mul(x, x) v = ReduceMean(q, axes) e = Add(v, eps) r = Sqrt(e) y = Div(x, r)",
}


@pytest.mark.parametrize("shape", ["4", "3,4", "2,3,4"])
@pytest.mark.parametrize("name", RMS)
def test_every_spelling_of_an_rms_norm_is_the_same_six_ops(name: str, shape: str) -> None:
    text = f"""g (float[N,{shape}] x, float[4] s) => (float[N,{shape}] y) <int64[1] axes = {{-1}}> {{
        {NUMBERS} {RMS[name]} }}"""
    model = check(text, RMS_OPS)
    assert model.nodes[-1].inputs[1] == "s" or name == "no scale"


def test_ops_that_came_later_are_written_in_the_same_parts() -> None:
    text = "g (float[N,3,4] x, float[4] s) => (float[N,3,4] y) { y = RMSNormalization<axis = -1>(x, s) }"
    model = canonicalise(network(text, 23), "net")
    assert ops(model) == RMS_OPS
    parts = f"""g (float[N,3,4] x, float[4] s) => (float[N,3,4] y) <int64[1] axes = {{-1}}> {{
        {NUMBERS} {RMS["Div"]} }}"""
    assert preserved(model, network(parts.replace("value_float = 0.001", "value_float = 0.00001")))
    swish = "g (float[N,4] x) => (float[N,4] y) { y = Swish<alpha = 1.702>(x) }"
    model = canonicalise(network(swish, 24), "net")
    assert ops(model) == ["Mul", "Sigmoid", "Mul"]
    assert preserved(model, network(function("q = Mul(x, quick) s = Sigmoid(q) y = Mul(x, s)")))


def test_a_layer_norm_op_has_scale_bias_and_its_axis_from_behind() -> None:
    text = "g (float[N,3,4] x, float[4] s) => (float[N,3,4] y) { y = LayerNormalization<axis = 2>(x, s) }"
    model = check(text, ["LayerNormalization"], 17)
    assert model.nodes[0].attributes == {"axis": -1, "epsilon": 1e-5}
    assert not model.weights[model.nodes[0].inputs[2]].any()


GROUPS = """g (float[N,6,4,4] x, float[{affine}] s, float[{affine}] t, float[3] i, float[3] j) => (float[N,6,4,4] y)
    <int64[3] parts = {{0, 3, -1}}> {{ r = Reshape(x, parts) n = InstanceNormalization<epsilon = 0.01>(r, i, j)
    shape = Shape(x) u = Reshape(n, shape) {rest} }}"""


@pytest.mark.parametrize("rest", ["m = Mul(u, s) y = Add(m, t)", "m = Mul(s, u) y = Add(t, m)", "y = Mul(u, s)"])
def test_instance_norm_of_parts_is_a_group_norm(rest: str) -> None:
    model = check(GROUPS.format(affine="6,1,1", rest=rest), ["GroupNormalization"])
    assert model.nodes[0].attributes == {"epsilon": 0.01, "num_groups": 3}
    assert [model.weights[name].shape for name in model.nodes[0].inputs[1:]] == [(6,), (6,)]


def test_a_group_norm_op_is_read() -> None:
    check(
        """g (float[N,6,4,4] x, float[6] s, float[6] t) => (float[N,6,4,4] y) {
        y = GroupNormalization<num_groups = 3>(x, s, t) }""",
        ["GroupNormalization"],
    )


def test_a_scale_over_space_is_not_taken_into_a_group_norm() -> None:
    proto = network(GROUPS.format(affine="6,4,1", rest="m = Mul(u, s) y = Add(m, t)"))
    model = canonicalise(proto, "net")
    assert ops(model) == ["GroupNormalization", "Mul", "Add"]
    assert preserved(model, proto)


CONSTANTS = {
    "root": 2**0.5,
    "inverse_root": 0.5**0.5,
    "half": 0.5,
    "one": 1.0,
    "three": 3.0,
    "six": 6.0,
    "zero": 0.0,
    "sixth": 1 / 6,
    "slope": 0.2,
    "cubic": 0.044715,
    "tanh_scale": (2 / np.pi) ** 0.5,
    "quick": 1.702,
    "two": 2.0,
}
GELUS = {
    "torch": "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)",
    "half first": "h = Mul(half, x) a = Mul(x, inverse_root) b = Erf(a) c = Add(one, b) y = Mul(h, c)",
    "half of the sum": "a = Mul(inverse_root, x) b = Erf(a) c = Add(b, one) d = Mul(c, half) y = Mul(d, x)",
    "divided": "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(c, x) y = Div(d, two)",
}
TANHS = {
    "Keras": """h = Mul(half, x) p = Pow(x, three) q = Mul(cubic, p) a = Add(x, q) b = Mul(tanh_scale, a) t = Tanh(b)
        c = Add(one, t) y = Mul(h, c)""",
    "products": """p0 = Mul(x, x) p = Mul(p0, x) q = Mul(p, cubic) a = Add(q, x) b = Mul(a, tanh_scale) t = Tanh(b)
        c = Add(t, one) d = Mul(x, c) y = Mul(d, half)""",
    "factored": """p = Mul(x, x) q = Mul(p, cubic) r = Add(q, one) a = Mul(x, r) b = Mul(a, tanh_scale) t = Tanh(b)
        c = Add(t, one) d = Mul(c, half) y = Mul(x, d)""",
}
OTHERS = {
    "HardSwish": [
        "a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, b) y = Div(c, six)",
        "a = Add(three, x) b = Clip(a, zero, six) c = Div(b, six) y = Mul(c, x)",
        "a = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(x, a)",
        "a = Mul(x, sixth) b = Add(a, half) c = Relu(b) d = Min(c, one) y = Mul(x, d)",
    ],
    "HardSigmoid": [
        "a = Add(x, three) b = Clip(a, zero, six) y = Div(b, six)",
        "a = Mul(slope, x) b = Add(a, half) y = Clip(b, zero, one)",
    ],
    "Mish": [
        "a = Softplus(x) b = Tanh(a) y = Mul(x, b)",
        "e = Exp(x) f = Add(one, e) a = Log(f) b = Tanh(a) y = Mul(b, x)",
    ],
    "Softplus": ["e = Exp(x) f = Add(e, one) y = Log(f)"],
    "Sigmoid Mul": [
        "s = Sigmoid(x) y = Mul(x, s)",
        "s = Sigmoid(x) y = Mul(s, x)",
        "n = Neg(x) e = Exp(n) f = Add(e, one) y = Div(x, f)",
    ],
    "Mul Sigmoid Mul": [
        "q = Mul(quick, x) s = Sigmoid(q) y = Mul(s, x)",
        "q = Mul(x, quick) s = Sigmoid(q) y = Mul(x, s)",
    ],
}
SPELLINGS = [
    *(("Gelu", text) for text in (*GELUS.values(), *TANHS.values())),
    *((op, text) for op, texts in OTHERS.items() for text in texts),
]


def function(body: str, constants: str = "", shape: str = "4") -> str:
    """A network of element-wise ops, their numbers of rank 0, or of shape `constants`."""
    numbers = " ".join(
        f"{name} = Constant<value = float[{constants}] {{{number!r}}}>()"
        if constants
        else f"{name} = Constant<value_float = {number!r}>()"
        for name, number in CONSTANTS.items()
        if name in body
    )
    return f"g (float[N,{shape}] x) => (float[N,{shape}] y) {{ {numbers} {body} }}"


@settings(deadline=None, max_examples=60)
@given(
    spelling=st.sampled_from(SPELLINGS),
    constants=st.sampled_from(["", "1"]),
    shape=st.lists(st.integers(2, 4), min_size=1, max_size=3),
)
def test_every_spelling_of_an_activation_is_its_op(spelling: tuple[str, str], constants: str, shape: list[int]) -> None:
    op, body = spelling
    constants = "" if "Clip" in body else constants
    model = check(function(body, constants, ",".join(map(str, shape))), op.split())
    if op == "Gelu":
        assert model.nodes[0].attributes == {"approximate": "none" if "Erf" in body else "tanh"}
    if op.endswith("Mul"):
        assert model.nodes[-1].inputs[0] == "x"


NEAR_ACTIVATIONS = {
    "Gelu with another root": ("half first", GELUS, "inverse_root", "slope"),
    "Gelu with another half": ("torch", GELUS, "half", "sixth"),
    "Gelu without one": ("torch", GELUS, "b, one", "b, zero"),
    "tanh Gelu with a square": ("Keras", TANHS, "Pow(x, three)", "Pow(x, two)"),
}


@pytest.mark.parametrize("name", NEAR_ACTIVATIONS)
def test_what_is_nearly_an_activation_stays(name: str) -> None:
    key, table, old, new = NEAR_ACTIVATIONS[name]
    assert old in table[key]
    proto = network(function(table[key].replace(old, new)))
    model = canonicalise(proto, "net")
    assert "Gelu" not in ops(model)
    assert preserved(model, proto)


def test_a_constant_of_the_tanh_gelu_in_the_third_digit_is_seen() -> None:
    text = function(TANHS["Keras"])
    assert repr(CONSTANTS["cubic"]) in text
    assert "Gelu" not in ops(canonicalise(network(text.replace(repr(CONSTANTS["cubic"]), "0.0447")), "net"))


@pytest.mark.parametrize("inner", ["b", "a", "c", "d"])
def test_a_gelu_whose_inner_value_others_read_stays(inner: str) -> None:
    proto = network(function(GELUS["torch"].replace("y = Mul(d, half)", f"g = Mul(d, half) y = Add(g, {inner})")))
    model = canonicalise(proto, "net")
    assert "Gelu" not in ops(model)
    assert preserved(model, proto)


def test_a_factor_per_channel_is_no_activation() -> None:
    text = function(GELUS["torch"]).replace("float[N,4] x)", "float[N,4] x, float[4] w)").replace("d, half", "d, w")
    proto = network(text)
    model = canonicalise(proto, "net")
    assert "Gelu" not in ops(model)
    assert preserved(model, proto)


def _attribute(name: str, value: object) -> Callable[[Model], Model]:
    def change(model: Model) -> Model:
        node = dataclasses.replace(model.nodes[0], attributes={**model.nodes[0].attributes, name: value})
        return model.replace(nodes=(node, *model.nodes[1:]))

    return change


@pytest.mark.parametrize(
    ("text", "change"),
    [
        (written_out((3, 4)), _attribute("epsilon", 0.1)),
        (function(GELUS["torch"]), _attribute("approximate", "tanh")),
        (function(OTHERS["HardSigmoid"][0]), _attribute("alpha", 0.2)),
        (GROUPS.format(affine="6,1,1", rest="m = Mul(u, s) y = Add(m, t)"), _attribute("num_groups", 2)),
    ],
)
def test_the_comparison_catches_a_wrong_attribute(text: str, change: Callable[[Model], Model]) -> None:
    proto = network(text)
    model = canonicalise(proto, "net")
    assert preserved(model, proto)
    assert not preserved(change(model), proto)
