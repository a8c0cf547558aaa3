"""Arithmetic, parts of values, Reshapes and Transposes have one form."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import network, preserved
from rewriting import rewritten

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model

NUMBERS = """two = Constant<value_float = 2.0>() third = Constant<value = float[1,1] {0.3333333}>()
    minus = Constant<value_float = -1.0>() half = Constant<value_float = 0.5>() zero = Constant<value_float = 0.0>()
    one = Constant<value_float = 1.0>()"""

# name: (body between Relu a and Tanh, ops between)
ARITHMETIC = {
    "constant first": ("b = Add(c, a)", "Add"),
    "scale first": ("b = Mul(c, a)", "Mul"),
    "Sub of a constant": ("b = Sub(a, c)", "Add"),
    "Sub from a constant stays": ("b = Sub(c, a)", "Sub"),
    "Div by a constant": ("b = Div(a, v)", "Mul"),
    "Div of a constant stays": ("p = Add(a, one) b = Div(v, p)", "Add Div"),
    "a number of rank 2": ("b = Mul(a, third)", "Mul"),
    "a number of rank 3 that adds an axis": (
        "k = Unsqueeze(third, first) n = Exp(a) m = Mul(n, k) b = Squeeze(m, first)",
        "Exp Mul Reshape",
    ),
    "square": ("b = Mul(a, a)", "Pow"),
    "twice": ("b = Add(a, a)", "Add"),
    "root as power": ("b = Pow(a, half)", "Sqrt"),
    "inverse as power": ("p = Add(a, one) b = Pow(p, minus)", "Add Reciprocal"),
    "nothing added": ("m = Add(a, zero) n = Mul(one, m) o = Div(n, one) p = Pow(o, one) b = Sub(p, zero)", ""),
    "numbers are not merged": ("m = Mul(a, half) b = Mul(m, two)", "Mul Mul"),
    "Sum": ("n = Neg(a) b = Sum(a, n, c)", "Neg Add Add"),
    "Mean": ("n = Exp(a) b = Mean(a, n)", "Exp Add Mul"),
    "Max of three": ("n = Exp(a) o = Neg(a) b = Max(n, a, o)", "Exp Neg Max Max"),
    "limits": ("m = Max(a, half) b = Min(two, m)", "Clip"),
    "limits of a Relu": ("m = Relu(a) b = Min(m, two)", "Clip"),
    "limits the wrong way round stay": ("m = Max(a, two) b = Min(m, half)", "Max Min"),
    "mean as a sum": ("s = ReduceSum(a, last) t = Mul(s, third) b = Add(a, t)", "ReduceMean Add"),
    "a sum by another number stays": ("s = ReduceSum(a, last) t = Mul(s, half) b = Add(a, t)", "ReduceSum Mul Add"),
    "axes from behind": ("s = ReduceMax(a, both) b = Add(a, s)", "ReduceMax Add"),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_has_one_form(name: str) -> None:
    body, wanted = ARITHMETIC[name]
    text = f"""g (float[N,3] x, float[3] c, float[3] v) => (float[N,3] y)
        <int64[1] first = {{0}}, int64[1] last = {{-1}}, int64[2] both = {{-1, 1}}> {{
        {NUMBERS} w = Mul(x, x) a = Sqrt(w) {body} y = Tanh(b) }}"""
    model = rewritten(text, f"Pow Sqrt {wanted} Tanh".replace("  ", " "))
    for node in model.nodes:
        constants = [index for index, value in enumerate(node.inputs) if value in model.weights]
        if node.op in ("Add", "Mul") and constants:
            assert constants == [1]
        sizes = [model.weights[node.inputs[index]] for index in constants]
        numbers = [array for array in sizes if array.size == 1 and array.dtype.kind == "f"]
        assert name == "a number of rank 3 that adds an axis" or all(array.shape == () for array in numbers)
    if name == "axes from behind":
        (node,) = [node for node in model.nodes if node.op == "ReduceMax"]
        assert model.weights[node.inputs[1]].tolist() == [1]
        assert node.attributes == {"keepdims": 1}


# name: (attributes or defaults that are written out)
ACTIVATIONS = {
    "Elu": ("Elu(x)", "Elu", {"alpha": 1.0}),
    "Celu": ("Celu(x)", "Elu", {"alpha": 1.0}),
    "Celu of another width": ("Celu<alpha = 2.0>(x)", "Celu", {"alpha": 2.0}),
    "Selu": ("Selu(x)", "Selu", {"alpha": 1.6732632, "gamma": 1.050701}),
    "HardSigmoid": ("HardSigmoid(x)", "HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    "ThresholdedRelu": ("ThresholdedRelu(x)", "ThresholdedRelu", {"alpha": 1.0}),
    "Gelu": ("Gelu(x)", "Gelu", {"approximate": "none"}),
    "Softmax": ("Softmax<axis = 3>(x)", "Softmax", {"axis": -1}),
    "Softmax over channels": ("Softmax<axis = -3>(x)", "Softmax", {"axis": 1}),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_attributes_are_written_out(name: str) -> None:
    call, op, attributes = ACTIVATIONS[name]
    model = rewritten(f"g (float[N,2,3,4] x) => (float[N,2,3,4] y) {{ y = {call} }}", op)
    assert model.nodes[0].attributes == pytest.approx(attributes) if op == "Selu" else attributes


@pytest.mark.parametrize(("given_shape", "wanted"), [("2,1,1", (2, 1, 1)), ("1,2,1,1", (2, 1, 1)), ("1", (1, 1, 1))])
def test_a_slope_has_all_axes_but_the_batch(given_shape: str, wanted: tuple[int, ...]) -> None:
    text = f"g (float[N,2,3,4] x, float[{given_shape}] s) => (float[N,2,3,4] y) {{ y = PRelu(x, s) }}"
    model = rewritten(text, "PRelu")
    assert model.weights[model.nodes[0].inputs[1]].shape == wanted


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 3), min_size=2, max_size=3), axis=st.sampled_from([1, 2, -1]))
def test_a_split_is_one_slice_per_output(sizes: list[int], axis: int) -> None:
    total = sum(sizes)
    shape = f"{total},2" if axis == 1 else f"2,{total}"
    outputs = ", ".join(f"p{index}" for index in range(len(sizes)))
    back = ", ".join(f"p{index}" for index in reversed(range(len(sizes))))
    listed = ", ".join(map(str, sizes))
    text = f"""g (float[N,{shape}] x) => (float[N,{shape}] y) <int64[{len(sizes)}] sizes = {{{listed}}}> {{
        {outputs} = Split<axis = {axis}>(x, sizes) c = Concat<axis = {axis}>({back}) y = Tanh(c) }}"""
    model = rewritten(text, " ".join(["Slice"] * len(sizes)) + " Concat Tanh")
    starts = [model.weights[node.inputs[1]].tolist() for node in model.nodes[: len(sizes)]]
    assert starts == [[sum(sizes[:index])] for index in range(len(sizes))]
    assert model.nodes[-2].attributes == {"axis": axis % 3}


SLICES = {
    "two axes": ("starts = {1, 0}, int64[2] ends = {9, -1}, int64[2] axes = {1, -1}", "Slice Slice", "3,4"),
    "all of one axis": ("starts = {0, 1}, int64[2] ends = {99, 99}, int64[2] axes = {1, 2}", "Slice", "4,4"),
    "all": ("starts = {0, -5}, int64[2] ends = {99, 99}, int64[2] axes = {1, 2}", "", "4,5"),
    "from behind": ("starts = {-3, -2}, int64[2] ends = {-1, 99}, int64[2] axes = {2, 1}", "Slice Slice", "2,2"),
}


@pytest.mark.parametrize("name", SLICES)
def test_a_slice_goes_along_one_axis(name: str) -> None:
    constants, wanted, shape = SLICES[name]
    text = f"""g (float[N,4,5] x) => (float[N,{shape}] y) <int64[2] {constants}> {{
        a = Relu(x) s = Slice(a, starts, ends, axes) y = Tanh(s) }}"""
    model = rewritten(text, f"Relu {wanted} Tanh".replace("  ", " "))
    for node in model.nodes:
        if node.op == "Slice":
            start, end, axis, step = (int(model.weights[value].item()) for value in node.inputs[1:])
            assert 0 <= start < end <= (4, 5)[axis - 1]
            assert step == 1


def test_every_second_element_stays_every_second() -> None:
    text = """g (float[N,4,5] x) => (float[N,4,3] y)
        <int64[1] s = {0}, int64[1] e = {9}, int64[1] a = {-1}, int64[1] t = {2}> {
        r = Relu(x) y = Slice(r, s, e, a, t) }"""
    model = rewritten(text, "Relu Slice")
    assert [model.weights[name].tolist() for name in model.nodes[1].inputs[1:]] == [[0], [5], [2], [2]]


def test_one_element_of_an_axis_is_gathered() -> None:
    text = """g (float[N,4,5] x) => (float[N,5] y) <int64[1] s = {-1}, int64[1] e = {9}, int64[1] a = {1}> {
        r = Relu(x) t = Slice(r, s, e, a) u = Squeeze(t, a) y = Tanh(u) }"""
    model = rewritten(text, "Relu Gather Tanh")
    assert model.nodes[1].attributes == {"axis": 1}
    assert model.weights[model.nodes[1].inputs[1]] == 3


def test_a_slice_that_others_read_is_not_gathered() -> None:
    text = """g (float[N,4,5] x) => (float[N,1,5] y) <int64[1] s = {3}, int64[1] e = {4}, int64[1] a = {1}> {
        r = Relu(x) t = Slice(r, s, e, a) u = Squeeze(t, a) v = Tanh(u) w = Unsqueeze(v, a) y = Add(w, t) }"""
    rewritten(text, "Relu Slice Flatten Tanh Reshape Add")


def test_an_index_from_behind_is_one_from_the_front() -> None:
    text = """g (float[N,4,5] x) => (float[N,4] y) <int64 i = {-2}> {
        r = Relu(x) t = Gather<axis = -1>(r, i) y = Tanh(t) }"""
    model = rewritten(text, "Relu Gather Tanh")
    assert model.nodes[1].attributes == {"axis": 2}
    assert model.weights[model.nodes[1].inputs[1]] == 3


# name: (shape of y, constants, body between Relu a and Tanh, ops between)
MOVES = {
    "Squeeze, Unsqueeze": ("2,3,4", "int64[1] i = {1}", "b = Unsqueeze(a, i) c = Squeeze(b, i)", ""),
    "Unsqueeze": ("1,2,3,4", "int64[1] i = {1}", "c = Unsqueeze(a, i)", "Reshape"),
    "Reshape twice": (
        "4,3,2",
        "int64[3] s = {0, 6, 4}, int64[4] t = {-1, 4, 3, 2}",
        "b = Reshape(a, s) c = Reshape(b, t)",
        "Reshape",
    ),
    "Reshape and back": (
        "2,3,4",
        "int64[3] s = {0, 6, 4}, int64[4] t = {0, 2, 3, 4}",
        "b = Reshape(a, s) c = Reshape(b, t)",
        "",
    ),
    "Transpose without order": (
        "3,2,4",
        "",
        "b = Transpose(a) c = Transpose<perm = [3, 1, 2, 0]>(b)",
        "Transpose",
    ),
    "Transpose twice": (
        "4,2,3",
        "",
        "b = Transpose<perm = [0, 2, 3, 1]>(a) c = Transpose<perm = [0, 2, 3, 1]>(b)",
        "Transpose",
    ),
    "Transpose and back": (
        "2,3,4",
        "",
        "b = Transpose<perm = [0, 2, 3, 1]>(a) c = Transpose<perm = [0, 3, 1, 2]>(b)",
        "",
    ),
    "axes of size 1 moved and dropped": (
        "3,2,4",
        "int64[1] i = {2}, int64[4] t = {-1, 3, 2, 4}",
        "b = Unsqueeze(a, i) d = Transpose<perm = [0, 3, 1, 4, 2]>(b) c = Reshape(d, t)",
        "Transpose",
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_reshapes_and_transposes_have_one_form(name: str) -> None:
    shape, constants, body, wanted = MOVES[name]
    constants = f"<{constants}>" if constants else ""
    text = f"""g (float[N,2,3,4] x, float[4] first, float[{shape[-1]}] last) => (float[N,{shape}] y) {constants} {{
        a = LayerNormalization(x, first) {body} y = LayerNormalization(c, last) }}"""
    model = rewritten(text, f"LayerNormalization {wanted} LayerNormalization".replace("  ", " "))
    for node in model.nodes:
        if node.op == "Reshape":
            assert model.weights[node.inputs[1]].tolist() == [0, *map(int, shape.split(","))]


def _broken(model: Model, op: str, index: int, value: object) -> Model:
    """The model with a constant of its first `op` changed."""
    node = next(node for node in model.nodes if node.op == op)
    old = model.weights[node.inputs[index]]
    return model.with_weights({node.inputs[index]: np.asarray(value, dtype=old.dtype).reshape(old.shape)})


@pytest.mark.parametrize(
    ("body", "op", "index", "value"),
    [
        ("b = Sub(a, c)", "Add", 1, [1.0, 2.0, 3.0]),
        ("b = Div(a, v)", "Mul", 1, [1.0, 2.0, 3.0]),
        ("n = Exp(a) b = Mean(a, n)", "Mul", 1, 0.25),
    ],
)
def test_the_comparison_catches_a_wrong_constant(body: str, op: str, index: int, value: object) -> None:
    proto = network(f"g (float[N,3] x, float[3] c, float[3] v) => (float[N,3] y) {{ a = Relu(x) {body} y = Tanh(b) }}")
    model = canonicalise(proto, "net")
    assert preserved(model, proto)
    assert not preserved(_broken(model, op, index, value), proto)


def test_the_comparison_catches_another_part_and_another_order() -> None:
    proto = network("g (float[N,2,6] x) => (float[N,2,3] y) { a, b = Split<axis = 2, num_outputs = 2>(x) y = Tanh(b) }")
    model = canonicalise(proto, "net")
    assert preserved(model, proto)
    assert not preserved(_broken(_broken(model, "Slice", 1, 0), "Slice", 2, 3), proto)
    _, _, body, _ = MOVES["Transpose twice"]
    proto = network(
        f"""g (float[N,3,3,3] x, float[3] s) => (float[N,3,3,3] y) {{
        a = LayerNormalization(x, s) {body} y = LayerNormalization(c, s) }}"""
    )
    model = canonicalise(proto, "net")
    assert preserved(model, proto)
    wrong = tuple(
        dataclasses.replace(node, attributes={"perm": (0, 2, 1, 3)}) if node.op == "Transpose" else node
        for node in model.nodes
    )
    assert not preserved(model.replace(nodes=wrong), proto)


def test_pooling_behind_an_added_axis_is_pooling_of_the_value_itself() -> None:
    text = """
    net (float[batch, 3, 8] x, float[5, 3, 3] w) => (float[batch, 5] y) {
        a = Conv (x, w)
        target = Constant <value = int64[4] {0, 5, 1, 6}> ()
        b = Reshape (a, target)
        c = GlobalAveragePool (b)
        y = Flatten (c)
    }"""
    rewritten(text, "Conv GlobalAveragePool Flatten")
    wrong = text.replace("{0, 5, 1, 6}", "{0, 5, 2, 3}")
    rewritten(wrong, "Conv Reshape GlobalAveragePool Flatten")


def test_a_slice_of_the_whole_batch_is_dropped() -> None:
    text = """
    net (float[batch, 5, 4] x, float[4, 4] w) => (float[batch, 4] y) {
        a = MatMul (x, w)
        starts = Constant <value = int64[1] {0}> ()
        ends = Constant <value = int64[1] {9223372036854775807}> ()
        axes = Constant <value = int64[1] {0}> ()
        b = Slice (a, starts, ends, axes)
        index = Constant <value = int64 {0}> ()
        y = Gather <axis = 1> (b, index)
    }"""
    rewritten(text, "MatMul Add Gather")


def test_a_softplus_that_is_linear_from_a_threshold_on_is_a_softplus() -> None:
    text = """
    net (float[batch, 4] x, float[4, 4] w) => (float[batch, 4] y) {
        a = Gemm <transB = 1> (x, w)
        threshold = Constant <value = float {20.0}> ()
        far = Greater (a, threshold)
        b = Softplus (a)
        y = Where (far, a, b)
    }"""
    rewritten(text, "Gemm Softplus")
    rewritten(text.replace("{20.0}", "{2.0}"), "Gemm Greater Softplus Where")


@pytest.mark.parametrize(("sizes", "second"), [("int64 {2}", "[2:4]"), ("int64[2] {1, 3}", "[1:4]")])
def test_pieces_of_a_list_are_slices(sizes: str, second: str) -> None:
    text = f"""
    net (float[batch, 3] x, float[4, 3] w) => (float[batch, 6] y) {{
        a = Gemm <transB = 1> (x, w)
        sizes = Constant <value = {sizes}> ()
        pieces = SplitToSequence <axis = 1> (a, sizes)
        zero = Constant <value = int64 {{0}}> ()
        one = Constant <value = int64 {{1}}> ()
        first = SequenceAt (pieces, zero)
        second = SequenceAt (pieces, one)
        y = Concat <axis = 1> (second, first, {"second" if second == "[2:4]" else "first, first"})
    }}"""
    rewritten(text, "Gemm Slice Slice Concat")


def test_a_list_whose_places_are_computed_is_refused() -> None:
    text = """
    net (float[batch, 4] x, int64 xk) => (float[batch, 2] y) {
        sizes = Constant <value = int64 {2}> ()
        pieces = SplitToSequence <axis = 1> (x, sizes)
        y = SequenceAt (pieces, xk)
    }"""
    with pytest.raises(GraphError, match="SplitToSequence"):
        canonicalise(network(text), "net")
