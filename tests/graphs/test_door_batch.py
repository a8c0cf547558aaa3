"""The batch in shape arithmetic: what exporters write around it goes, at every batch size the function stays."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from reading import Array, network, original, same

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.onnx_file import read
from mnx.graphs.proto import inputs_before_entry, to_proto
from mnx.graphs.run import run

ZOO = Path(os.environ.get("MNX_ZOO", Path(__file__).parents[2].parent / "shared" / "zoo"))
FILES = sorted(path for family in ("bert", "vit", "rnn") for path in (ZOO / family).glob("*/*.onnx"))
FILES = [path for path in FILES if path.stem != "k_gru_48_2"]

SHAPES = frozenset({"Shape", "Size", "ConstantOfShape", "Range", "GatherND", "GatherElements", "Expand", "Tile"})
BATCH = "s = Shape(x) zero = Constant<value_ints = [0]>() b = Gather(s, zero)"

NETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a Reshape with the batch and -1": (
        f"""g (float[N,4,6] x) => (float[N,24] y) {{ {BATCH} two = Constant<value_ints = [2]>()
            m = Constant<value_ints = [-1]>() bb = Mul(b, two) six = Constant<value_ints = [6]>()
            t = Concat<axis = 0>(bb, m, six) r = Reshape(x, t) q = Tanh(r) u = Concat<axis = 0>(b, m)
            y = Reshape(q, u) }}""",
        (),
    ),
    "a class token": (
        f"""g (float[N,4,6] x, float[1,1,6] c) => (float[N,5,6] y) {{ {BATCH} m = Constant<value_ints = [-1, -1]>()
            t = Concat<axis = 0>(b, m) u = Constant<value_ints = [-1, -1, -1]>() k = Equal(t, u)
            o = Constant<value_ints = [1, 1, 1]>() w = Where(k, o, t) e = Expand(c, w) y = Concat<axis = 1>(e, x) }}""",
        ("Shape", "Expand"),
    ),
    "a class token by Tile": (
        f"""g (float[N,4,6] x, float[1,1,6] c) => (float[N,5,6] y) {{ {BATCH} o = Constant<value_ints = [1, 1]>()
            t = Concat<axis = 0>(b, o) e = Tile(c, t) y = Concat<axis = 1>(e, x) }}""",
        ("Shape", "Expand"),
    ),
    "places added": (
        f"""g (float[N,4,6] x, float[9,6] p) => (float[N,4,6] y) {{ {BATCH}
            i = Constant<value = int64[1,4] {{0, 1, 2, 3}}>() four = Constant<value_ints = [4]>()
            t = Concat<axis = 0>(b, four) e = Expand(i, t) g = Gather(p, e) y = Add(x, g) }}""",
        (),
    ),
    "a mask of ones": (
        f"""g (float[N,4,6] x) => (float[N,4,6] y) {{ {BATCH} o = Constant<value_ints = [4, 1]>()
            t = Concat<axis = 0>(b, o) e = ConstantOfShape<value = float[1] {{2.0}}>(t) y = Mul(x, e) }}""",
        (),
    ),
    "an Expand of what is computed": (
        """g (float[N,4,6] x) => (float[N,4,6] y) { a = Constant<value_ints = [2]>() m = ReduceMax<keepdims = 1>(x, a)
            s = Shape(x) e = Expand(m, s) y = Sub(x, e) }""",
        ("Expand",),
    ),
    "picking by the number of the example": (
        f"""g (float[N,4,6] x) => (float[N,2,6] y) {{ {BATCH}
            z = Constant<value_int = 0>() o = Constant<value_int = 1>()
            n = Squeeze(b) r = Range(z, n, o) ax = Constant<value_ints = [1, 2]>() c = Unsqueeze(r, ax)
            two = Constant<value_ints = [2]>() one = Constant<value_ints = [1]>() t = Concat<axis = 0>(b, two, one)
            e = Expand(c, t) k = Constant<value = int64[1,2,1] {{3, 1}}>() f = Expand(k, t)
            i = Concat<axis = 2>(e, f) y = GatherND(x, i) }}""",
        (),
    ),
    "picking from all examples side by side": (
        f"""g (float[N,4] x) => (float[N,4] y) {{ {BATCH} z = Constant<value_int = 0>() o = Constant<value_int = 1>()
            n = Squeeze(b) r = Range(z, n, o) ax = Constant<value_ints = [1]>() c = Unsqueeze(r, ax)
            four = Constant<value_int = 4>() f = Mul(c, four) k = Constant<value = int64[1,4] {{0, 1, 2, 3}}>()
            i = Add(f, k) m = Constant<value_ints = [-1]>() q = Tanh(x) w = Reshape(q, m)
            v = Gather(w, i) y = Tanh(v) }}""",
        (),
    ),
}

STATE = """g (float[N,5,3] x, float[1,16,3] w, float[1,16,4] r) => (float[N,4] y) {
    s = Shape<start = 0, end = 1>(x) o = Constant<value_ints = [1]>() four = Constant<value_ints = [4]>()
    t = Concat<axis = 0>(o, s, four) h = ConstantOfShape<value = float[1] VALUE>(t) q = Transpose<perm = [1, 0, 2]>(x)
    a, f, c = LSTM<hidden_size = 4>(q, w, r, , , h, h) ax = Constant<value_ints = [0]>() y = Squeeze(f, ax) }"""


def computed(model: Model, x: Array) -> Array:
    return next(iter(run(model, x, include_ends=True).values()))


@pytest.mark.parametrize("name", NETS)
def test_shape_arithmetic_goes_and_the_function_stays(name: str) -> None:
    text, left = NETS[name]
    proto = network(text)
    model = canonicalise(proto, "net")
    assert tuple(node.op for node in model.nodes if node.op in SHAPES) == left
    shape = [axis.dim_value for axis in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    for batch in (1, 2, 5, 7, 12):
        x = np.random.default_rng(batch).standard_normal((batch, *shape)).astype(np.float32)
        assert same(computed(model, x), original(proto, {"x": x})[0])
    again = canonicalise(to_proto(model, include_ends=True), "net")
    assert (again.nodes, again.changes) == (model.nodes, ())


def test_a_class_token_has_a_target_without_its_width() -> None:
    model = canonicalise(network(NETS["a class token"][0]), "net")
    (expand,) = (node for node in model.nodes if node.op == "Expand")
    target = model.producers()[expand.inputs[1]]
    assert expand.inputs[0] == "c"
    assert model.weights["c"].shape == (1, 1, 6)
    size = model.producers()[target.inputs[0]]
    assert (size.op, size.inputs, dict(size.attributes)) == ("Shape", ("x",), {"start": 0, "end": 1})
    assert [model.weights[name].tolist() for name in target.inputs[1:]] == [[1, 1]]


@pytest.mark.parametrize(("value", "inputs"), [("0.0", 3), ("0.5", 7)])
def test_the_first_state_of_an_rnn(value: str, inputs: int) -> None:
    proto = network(STATE.replace("VALUE", "{" + value + "}"))
    model = canonicalise(proto, "net")
    (layer,) = (node for node in model.nodes if node.op == "LSTM")
    assert len(layer.inputs) == inputs
    for batch in (1, 3, 8):
        x = np.random.default_rng(batch).standard_normal((batch, 5, 3)).astype(np.float32)
        assert same(computed(model, x), original(proto, {"x": x})[0])


def test_what_differs_between_examples_is_not_taken_for_a_constant() -> None:
    text = f"""g (float[N,4] x) => (float[N,4] y) {{ {BATCH} z = Constant<value = float {{0.0}}>()
        o = Constant<value = float {{1.0}}>() n = Squeeze(b) f = Cast<to = 1>(n) r = Range(z, f, o)
        ax = Constant<value_ints = [1]>() c = Unsqueeze(r, ax) y = Add(x, c) }}"""
    proto = network(text)
    model = canonicalise(proto, "net")
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    assert same(computed(model, x), original(proto, {"x": x})[0])


def test_a_batch_in_two_places_is_refused() -> None:
    text = f"""g (float[N,4] x) => (float[N,4] y) {{ {BATCH} q = Transpose(x) g = MatMul(x, q)
        o = Constant<value_ints = [1]>()
        t = Concat<axis = 0>(b, o, b) r = Reshape(g, t) a = Constant<value_ints = [1, 2]>()
        m = ReduceMax<keepdims = 0>(r, a) u = Unsqueeze(m, o) y = Add(x, u) }}"""
    with pytest.raises(GraphError, match="changes with the batch in several places"):
        canonicalise(network(text), "net")


def test_constants_left_as_inputs_are_named() -> None:
    text = "g (float[N,3,4,4] x, float[1,3,1,1] xmean) => (float[N,3,4,4] y) { y = Sub(x, xmean) }"
    with pytest.raises(
        GraphError, match="fixed in 'xmean': where those are constants that the exporter left as inputs"
    ):
        canonicalise(network(text), "net")


@pytest.mark.skipif(not FILES, reason="the corpus is not here: set MNX_ZOO to its folder")
@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.with_suffix("").parts[-3:]))
def test_transformers_and_recurrent_networks_compute_their_reference_at_any_batch(path: Path) -> None:
    model = read(path)
    assert not {node.op for node in model.nodes} & {"Range", "GatherND", "GatherElements", "ConstantOfShape", "Tile"}
    onnx.checker.check_model(to_proto(model, include_ends=True), full_check=True)
    with np.load(path.with_suffix(".npz")) as reference:
        given = [reference[name] for name in sorted(reference.files) if name.startswith("arr_")]
        expected = reference["y"]
    for batch in (3, 1, 2, 8):
        feeds = {
            port.name: np.resize(x, (batch, *x.shape[1:]))
            for port, x in zip(inputs_before_entry(model), given, strict=True)
        }
        (found,) = run(model, feeds, include_ends=True).values()
        assert same(found, np.resize(expected, (batch, *expected.shape[1:])))
