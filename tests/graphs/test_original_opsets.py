"""Every op in the words of every opset: the file computes the same, and reading it gives the same model again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from reading import Array, network, original, same

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.canonical.expansion import Expansion
from mnx.graphs.given import opsets, place, written_out
from mnx.graphs.given.opsets import OLDER, Older
from mnx.graphs.model import OPSET, Model, Origin
from mnx.graphs.onnx_file import read, write
from mnx.graphs.ops.table import RULES
from mnx.graphs.run import run

QUICK = (9, 11, 13, 17, 20, 23)
OPSETS = range(9, 26)
REDUCTIONS = ("Mean", "Sum", "Max", "Min", "L1", "L2", "Prod", "SumSquare", "LogSum", "LogSumExp")


def image(body: str, weights: str = "", constants: str = "") -> str:
    """A network on images of four channels, whose last value `body` calls h."""
    given = f"<{constants}>" if constants else ""
    return f"""g (float[N,4,6,6] x, float[3,4] last{weights}) => (float[N,3] y) {given}
        {{ {body} pooled = GlobalAveragePool(h) flat = Flatten(pooled) y = Gemm<transB = 1>(flat, last) }}"""


def tokens(body: str, weights: str = "", constants: str = "") -> str:
    """A network on five tokens of four numbers, whose last value `body` calls h."""
    given = f"<{constants}>" if constants else ""
    return f"""g (float[N,5,4] x, float[3,20] last{weights}) => (float[N,3] y) {given}
        {{ {body} flat = Flatten(h) y = Gemm<transB = 1>(flat, last) }}"""


def recurrent(op: str, gates: int) -> str:
    weights = f"float[1,{6 * gates},4] w, float[1,{6 * gates},6] r, float[1,{12 * gates}] b, float[3,6] last"
    return f"""g (float[N,5,4] x, {weights}) => (float[N,3] y) <int64[1] a = {{0}}>
        {{ t = Transpose<perm = [1, 0, 2]>(x) all, end = {op}<hidden_size = 6>(t, w, r, b) q = Squeeze(end, a)
          y = Gemm<transB = 1>(q, last) }}"""


NORM = ", float[4] s, float[4] b"
STATISTICS = ", float[4] s, float[4] b, float[4] m, float[4] v"
ROWS: dict[str, str] = {
    "Clip": image("h = Clip(x, low, high)", "", "float low = {-0.5}, float high = {0.75}"),
    "Clip from below": image("h = Clip(x, low)", "", "float low = {-0.5}"),
    "Dropout": image("h = Dropout(x, r)", "", "float r = {0.25}"),
    "Gelu": image("h = Gelu(x)"),
    "Gelu by tanh": image('h = Gelu<approximate = "tanh">(x)'),
    "HardSwish, HardSigmoid": image("g0 = HardSwish(x) h = HardSigmoid(g0)"),
    "Mish": image("h = Mish(x)"),
    "GroupNormalization": image("h = GroupNormalization<num_groups = 2, epsilon = 0.001>(x, s, b)", NORM),
    "InstanceNormalization": image("h = InstanceNormalization(x, s, b)", NORM),
    "LayerNormalization": tokens("h = LayerNormalization<epsilon = 0.001>(x, s, b)", NORM),
    "RMSNorm": tokens(
        """p = Pow(x, two) m = ReduceMean<keepdims = 1>(p, a) e = Add(m, little) q = Sqrt(e) d = Div(x, q)
           h = Mul(d, s)""",
        ", float[4] s",
        "float two = {2.0}, int64[1] a = {-1}, float little = {0.001}",
    ),
    **{
        f"Reduce{name}": tokens(
            f"e = Exp(x) r = Reduce{name}<keepdims = 1>(e, a) h = Mul(r, x)", "", "int64[1] a = {-1}"
        )
        for name in REDUCTIONS
    },
    "Softmax": tokens("h = Softmax<axis = -1>(x)"),
    "Softmax over tokens": tokens("h = Softmax<axis = 1>(x)"),
    "LogSoftmax": tokens("h = LogSoftmax<axis = -1>(x)"),
    "Hardmax": tokens("p = Hardmax<axis = 1>(x) h = Mul(p, x)"),
    "Slice": tokens(
        "p = Slice(x, begin, end, axis) q = Sigmoid(p) h = Concat<axis = -1>(q, p)",
        "",
        "int64[1] begin = {0}, int64[1] end = {2}, int64[1] axis = {2}",
    ),
    "Slice in steps": tokens(
        "p = Slice(x, begin, end, axis, step) q = Sigmoid(p) h = Concat<axis = 2>(q, p)",
        "",
        "int64[1] begin = {0}, int64[1] end = {4}, int64[1] axis = {2}, int64[1] step = {2}",
    ),
    "Split": tokens("p, r = Split<axis = 2>(x, n) q = Sigmoid(r) h = Concat<axis = 2>(q, p)", "", "int64[2] n = {1,3}"),
    "Squeeze, Unsqueeze": tokens("u = Unsqueeze(x, a) v = Sigmoid(u) h = Squeeze(v, a)", "", "int64[1] a = {1}"),
    "Pad": image(
        "p = Pad(x, n) q = Sigmoid(p) h = MaxPool<kernel_shape = [2, 2]>(q)", "", "int64[8] n = {0,0,1,1,0,0,1,1}"
    ),
    "Pad of some axes": image(
        "p = Pad(x, n, v, a) h = Sigmoid(p)", "", "int64[2] n = {1,1}, float v = {0.5}, int64[1] a = {3}"
    ),
    "Pad by reflection": image('p = Pad<mode = "reflect">(x, n) h = Sigmoid(p)', "", "int64[8] n = {0,0,1,1,0,0,1,1}"),
    "Pad from the other side": image(
        'p = Pad<mode = "wrap">(x, n) h = Sigmoid(p)', "", "int64[8] n = {0,0,1,1,0,0,1,1}"
    ),
    "Resize of places": image(
        'h = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , n)',
        "",
        "float[4] n = {1.,1.,2.,2.}",
    ),
    "Resize from corners": image(
        'h = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">(x, , n)',
        "",
        "float[4] n = {1.,1.,2.,2.}",
    ),
    "Resize to less": image(
        'h = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">(x, , n)',
        "",
        "float[4] n = {1.,1.,0.5,0.5}",
    ),
    "Resize from centres": image('h = Resize<mode = "linear">(x, , n)', "", "float[4] n = {1.,1.,2.,2.}"),
    "Resize of some axes": image(
        'h = Resize<mode = "linear", coordinate_transformation_mode = "align_corners", axes = [2, 3]>(x, , , n)',
        "",
        "int64[2] n = {12,12}",
    ),
    "Conv, BatchNormalization": image(
        "c = Conv(x, w) h = BatchNormalization(c, s, b, m, v)", f", float[4,4,3,3] w{STATISTICS}"
    ),
    "Gemm, BatchNormalization": f"""g (float[N,4] x, float[4,4] w, float[3,4] last{STATISTICS}) => (float[N,3] y)
        {{ l = Gemm<transB = 1>(x, w) n = BatchNormalization(l, s, b, m, v) y = Gemm<transB = 1>(n, last) }}""",
    "MaxPool": image("h = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)"),
    "MaxPool with ceil_mode": image("h = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)"),
    "MaxPool dilated": image("h = MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(x)"),
    "AveragePool": image(
        "h = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(x)"
    ),
    "AveragePool dilated": image("h = AveragePool<kernel_shape = [2, 2], dilations = [2, 2]>(x)"),
    "LpPool": image("h = LpPool<kernel_shape = [3, 3]>(x)"),
    "DepthToSpace": image("d = DepthToSpace<blocksize = 2>(x) h = Concat<axis = 1>(d, d, d, d)"),
    "DepthToSpace by columns": image(
        'd = DepthToSpace<blocksize = 2, mode = "CRD">(x) h = Concat<axis = 1>(d, d, d, d)'
    ),
    "SpaceToDepth": image(
        "d = SpaceToDepth<blocksize = 2>(x) h = Slice(d, begin, end, axis)",
        "",
        "int64[1] begin = {0}, int64[1] end = {4}, int64[1] axis = {1}",
    ),
    "element-wise": image(
        """a = Abs(x) b = Ceil(a) c = Cos(x) d = Elu(x) e = Erf(x) f = Exp(x) i = Floor(x) j = LeakyRelu(x) k = Neg(x)
           l = Selu(x) m = Sin(x) n = Softplus(x) o = Softsign(x) p = Sqrt(a) q = Tanh(x) r = Reciprocal(f)
           t = Sign(x) u = Relu(x) h = Sum(a, b, c, d, e, f, i, j, k, l, m, n, o, p, q, r, t, u)"""
    ),
    "ThresholdedRelu": image("h = ThresholdedRelu(x)"),
    "Celu": image("h = Celu<alpha = 2.0>(x)"),
    "Round": image("h = Round(x)"),
    "PRelu": image("h = PRelu(x, s)", ", float[4,1,1] s"),
    "LRN": image("h = LRN<size = 3>(x)"),
    "Greater, Less, And, Or, Not, Where": image(
        "a = Greater(x, z) b = Less(x, z) c = Or(a, b) d = Not(a) e = And(c, d) h = Where(e, x, z)",
        "",
        "float z = {0.1}",
    ),
    "Equal, GreaterOrEqual, LessOrEqual": image(
        "a = GreaterOrEqual(x, z) b = LessOrEqual(x, z) d = Equal(x, z) c = Or(a, b) e = And(c, d) h = Where(e, z, x)",
        "",
        "float z = {0.1}",
    ),
    "Add, Mul, Sub, Div, Max, Min, Pow, Log": image(
        """a = Add(x, x) b = Mul(a, x) c = Sub(b, x) d = Div(c, z) e = Max(d, x) f = Min(e, x) i = Pow(f, three)
           k = Exp(i) h = Log(k)""",
        "",
        "float z = {2.5}, float three = {3.0}",
    ),
    "ConvTranspose": image("h = ConvTranspose<strides = [2, 2]>(x, w, b)", ", float[4,4,2,2] w, float[4] b"),
    "GlobalMaxPool, GlobalLpPool": image("m = GlobalMaxPool(x) l = GlobalLpPool(x) s = Add(m, l) h = Mul(x, s)"),
    "LSTM": recurrent("LSTM", 4),
    "GRU": recurrent("GRU", 3),
    "RNN": recurrent("RNN", 1),
    "MatMul, Transpose": tokens(
        "q = MatMul(x, w) t = Transpose<perm = [0, 2, 1]>(q) s = MatMul(q, t) h = MatMul(s, x)", ", float[4,4] w"
    ),
    "Reshape": tokens("r = Reshape(x, n) s = Softmax<axis = -1>(r) h = Flatten(s)", "", "int64[3] n = {0,10,2}"),
    "Gather": tokens("h = Gather<axis = 1>(x, i)", "", "int64[5] i = {2,0,1,3,4}"),
    "Cast, IsNaN": tokens("a = IsNaN(x) b = Cast<to = 1>(a) c = Exp(b) h = Mul(x, c)"),
    "a class token: Shape, Expand": """g (float[N,5,4] x, float[1,1,4] c, float[3,24] last) => (float[N,3] y)
        <int64[2] o = {1,4}>
        { s = Shape<start = 0, end = 1>(x) t = Concat<axis = 0>(s, o) e = Expand(c, t) k = Concat<axis = 1>(e, x)
          flat = Flatten(k) y = Gemm<transB = 1>(flat, last) }""",
    "labels: ArgMax, TopK, Constant": """g (float[N,4] x, float[3,4] w) => (int64[N] y, float[N] p)
        <int64[1] one = {1}, int64[1] a = {1}>
        { l = Gemm<transB = 1>(x, w) s = Softmax<axis = 1>(l) y = ArgMax<axis = 1, keepdims = 0>(s)
          best, where = TopK<axis = 1>(s, one) p = Squeeze(best, a) }""",
}
"""What a row shows -> a network of opset 21. A network of `network` has weights for its inputs but x."""

NEED = {
    "Hardmax": 13,
    "Slice in steps": 10,
    "Resize to less": 10,
    "Resize from centres": 11,
    "Resize of some axes": 18,
    "Pad from the other side": 19,
    "MaxPool with ceil_mode": 10,
    "MaxPool dilated": 10,
    "AveragePool dilated": 19,
    "DepthToSpace by columns": 11,
    "ThresholdedRelu": 10,
    "Celu": 12,
    "Round": 11,
    "Equal, GreaterOrEqual, LessOrEqual": 12,
}
"""Row -> the least opset that can say it."""


def given(row: str, opset: int) -> Model:
    """The canonical model of a row, as if it had come in another opset."""
    model = canonicalise(network(ROWS[row]), "net")
    return model.replace(origin=Origin(opset, ir_version=3 if opset == 9 else 8, batch={"x": "N"}))


def inputs(model: Model) -> Array:
    return np.random.default_rng(3).standard_normal((3, *model.inputs[0].shape)).astype(np.float32)


def computed(path: Path, x: Array) -> list[Array]:
    """What a file gives: by onnxruntime where it knows the opset, else by ONNX's reference."""
    proto = onnx.load(path)
    if proto.opset_import[0].version <= OPSET:
        return original(str(path), {"x": x})
    return list(ReferenceEvaluator(proto).run(None, {"x": x}))


def agrees(model: Model, path: Path, x: Array) -> bool:
    """Whether a file computes what the model does."""
    expected = run(model, x, include_ends=True).values()
    return all(same(found, wanted) for found, wanted in zip(computed(path, x), expected, strict=True))


def content(model: Model) -> list[Any]:
    """All that a canonical model consists of, by name."""
    parts: list[Any] = [(node, sorted(node.attributes.items())) for node in (*model.entry, *model.nodes, *model.head)]
    weights = sorted((name, str(a.dtype), a.shape, a.tobytes()) for name, a in model.weights.items())
    return [model.inputs, model.outputs, model.results, parts, weights]


def layers(model: Model) -> list[Any]:
    """Its ops, and the parameters that have axes, by name."""
    names = sorted(name for name, a in model.weights.items() if a.dtype.kind == "f" and a.size > 1)
    return [[node.op for node in (*model.nodes, *model.head)], names]


@pytest.mark.parametrize(
    "words", [QUICK, pytest.param(OPSETS, marks=pytest.mark.slow)], ids=["some opsets", "every opset"]
)
@pytest.mark.parametrize("row", ROWS)
def test_an_op_in_the_words_of_an_opset(row: str, words: Sequence[int], tmp_path: Path) -> None:
    for opset in words:
        model = given(row, opset)
        path = tmp_path / str(opset) / "net.onnx"
        notes = write(model, path, form="original")
        found = onnx.load(path).opset_import[0].version
        assert found == max(opset, NEED.get(row, 0)), (opset, notes)
        assert len(notes) == (found != opset)
        onnx.checker.check_model(onnx.load(path), full_check=True)
        if opset <= OPSET or row.startswith("Gelu"):
            assert agrees(model, path, inputs(model)), opset
        again = read(path)
        assert layers(again) == layers(model), opset
        write(again, path.with_name("again.onnx"), form="original")
        assert content(read(path.with_name("again.onnx")).replace(name="net")) == content(again), opset


@pytest.mark.parametrize(
    ("scale", "bias"), [(1, 0), (0, 0), (0, 1), (0.5, 0.5), (1e-7, 0), (1e-7, 1e-8)], ids=lambda number: str(number)
)
@pytest.mark.parametrize("opset", [11, 15, 20])
@pytest.mark.parametrize("row", ["LayerNormalization", "GroupNormalization", "RMSNorm"])
def test_what_a_layer_is_does_not_depend_on_its_weights(
    row: str, opset: int, scale: float, bias: float, tmp_path: Path
) -> None:
    """A residual branch begins with a scale of zeros: its normalisation is one all the same."""
    model = given(row, opset)
    numbers = {"s": scale, "b": bias}
    weights = {name: np.full(4, number, np.float32) for name, number in numbers.items() if name in model.weights}
    model = model.with_weights(weights)
    write(model, tmp_path / "net.onnx", form="original")
    again = read(tmp_path / "net.onnx")
    assert layers(again) == layers(model)
    assert all(np.array_equal(again.weights[name], array) for name, array in weights.items())


def test_every_op_has_a_row() -> None:
    ops = set()
    for row in ROWS:
        model = canonicalise(network(ROWS[row]), "net")
        ops |= {node.op for node in (*model.nodes, *model.head)}
    read_as_others = {"Split", "Squeeze", "Unsqueeze", "ReduceLogSum"}
    assert set(RULES) <= ops
    assert {op for op in OLDER if op not in read_as_others} <= ops


def test_in_opset_21_nothing_changes(tmp_path: Path) -> None:
    for row in ("Gelu", "Clip", "GroupNormalization"):
        model = given(row, OPSET)
        write(model, tmp_path / "net.onnx", form="original")
        assert content(read(tmp_path / "net.onnx")) == content(model)


# Broken twins: what a rule does to a file, done wrongly, is seen


def wrong_axes(where: Expansion, opset: int) -> None:
    place.again(where, where.inputs[:1], axes=[1])


def wrong_bounds(where: Expansion, opset: int) -> None:
    place.again(where, where.inputs[:1], min=-0.5)


def wrong_cut(where: Expansion, opset: int) -> None:
    place.again(where, where.inputs[:1], starts=[1], ends=[3], axes=[2])


def wrong_pads(where: Expansion, opset: int) -> None:
    place.again(where, where.inputs[:1], pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="edge")


def wrong_gelu(where: Expansion, opset: int) -> None:
    where.node.attribute.append(onnx.helper.make_attribute("approximate", "tanh"))
    written_out.gelu(where, opset)


def wrong_epsilon(where: Expansion, opset: int) -> None:
    del where.node.attribute[:]
    where.node.attribute.append(onnx.helper.make_attribute("epsilon", 0.5))
    written_out.layer_norm(where, opset)


def wrong_groups(where: Expansion, opset: int) -> None:
    next(a for a in where.node.attribute if a.name == "num_groups").i = 4
    written_out.group_norm(where, opset)


def wrong_slope(where: Expansion, opset: int) -> None:
    where.last("Mul", where.inputs[0], where.add("HardSigmoid", where.inputs[0]))


def wrong_bend(where: Expansion, opset: int) -> None:
    where.last("Mul", where.inputs[0], where.add("Sigmoid", where.inputs[0]))


def unmoved(where: Expansion, opset: int) -> None:
    place.again(where, where.inputs)


def wrong_bias(where: Expansion, opset: int) -> None:
    place.again(where, [*where.inputs[:2], where.array("bias", np.ones(3, np.float32))])


def wrong_number(where: Expansion, opset: int) -> None:
    place.again(where, where.inputs[:1], k=2, largest=None, sorted=None)


TWINS: dict[str, tuple[str, int, Callable[[Expansion, int], None]]] = {
    "Clip": ("Clip", 9, wrong_bounds),
    "Gelu": ("Gelu", 17, wrong_gelu),
    "GroupNormalization": ("GroupNormalization", 17, wrong_groups),
    "HardSwish, HardSigmoid": ("HardSwish", 13, wrong_slope),
    "LayerNormalization": ("LayerNormalization", 15, wrong_epsilon),
    "Mish": ("Mish", 17, wrong_bend),
    "Pad by reflection": ("Pad", 9, wrong_pads),
    "ReduceMax": ("ReduceMax", 17, wrong_axes),
    "Slice": ("Slice", 9, wrong_cut),
    "Softmax over tokens": ("Softmax", 12, unmoved),
}
"""Row -> the op whose rule is replaced, in which opset, by what."""


@pytest.mark.parametrize("row", TWINS)
def test_a_broken_rule_is_seen(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    op, opset, wrong = TWINS[row]
    model = given(row, opset)
    write(model, tmp_path / "right.onnx", form="original")
    assert agrees(model, tmp_path / "right.onnx", inputs(model))
    monkeypatch.setattr(opsets, "OLDER", {**OLDER, op: Older(OLDER[op].since, wrong)})
    write(model, tmp_path / "wrong.onnx", form="original")
    assert not agrees(model, tmp_path / "wrong.onnx", inputs(model))


# What cannot be said


def test_an_op_that_the_opset_cannot_say_is_named_with_the_reason(tmp_path: Path) -> None:
    (note,) = write(given("Celu", 11), tmp_path / "net.onnx", form="original")
    assert note == "written in opset 12, not 11: Celu (node 'celu') did not exist"
    (note,) = write(given("AveragePool dilated", 17), tmp_path / "net.onnx", form="original")
    assert note.startswith("written in opset 19, not 17: AveragePool (node 'averagepool') has another dilations than")


def test_what_only_a_newer_opset_allows_of_types_is_found_by_the_check(tmp_path: Path) -> None:
    text = """g (float[N,4] x, float[3,4] last) => (float[N,3] y)
        { i = Cast<to = 7>(x) r = Relu(i) c = Cast<to = 1>(r) y = Gemm<transB = 1>(c, last) }"""
    model = canonicalise(network(text), "net").replace(origin=Origin(opset=11, ir_version=6))
    (note,) = write(model, tmp_path / "net.onnx", form="original")
    assert note.startswith("written in opset 14, not 11: ")
