"""Classifiers as scikit-learn's and Keras's exporters write them: labels, maps, one logit for two classes."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from reading import Array, network, original, preserved, same

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.interface import PLAIN, SOFTMAX, head_of
from mnx.graphs.model import Port, model_hash
from mnx.graphs.onnx_file import read, to_proto, write
from mnx.graphs.run import run

ZOO = Path(os.environ.get("MNX_ZOO", Path(__file__).parents[2].parent / "shared" / "zoo"))
FILES = sorted((ZOO / "mlp_tab").glob("skl2onnx*/*.onnx"))
FEATURES, HIDDEN = 5, 7


def sklearn(classes: Sequence[int] | Sequence[str], zipmap: bool, scaled: bool = False) -> onnx.ModelProto:
    """An MLP in the words of skl2onnx: one logit where there are two classes."""
    random = np.random.default_rng(0)
    logits = 1 if len(classes) == 2 else len(classes)
    words = isinstance(classes[0], str)
    arrays = {
        "w": random.standard_normal((FEATURES, HIDDEN)).astype(np.float32),
        "b": random.standard_normal((1, HIDDEN)).astype(np.float32),
        "w1": random.standard_normal((HIDDEN, logits)).astype(np.float32),
        "b1": random.standard_normal((1, logits)).astype(np.float32),
        "unity": np.array(1, np.float32),
        "shape_tensor": np.array([-1], np.int64),
        "classes": np.array(classes, dtype=object if words else np.int32),
    }
    make = helper.make_node
    source = [make("Cast", ["X"], ["cast"], to=TensorProto.FLOAT)]
    if scaled:
        source = [make("Scaler", ["X"], ["cast"], domain="ai.onnx.ml", offset=[0.5] * FEATURES, scale=[2.0] * FEATURES)]
    body = [
        make("MatMul", ["cast", "w"], ["m"]),
        make("Add", ["m", "b"], ["a"]),
        make("Relu", ["a"], ["r"]),
        make("MatMul", ["r", "w1"], ["m1"]),
        make("Add", ["m1", "b1"], ["a1"]),
    ]
    scores = [make("Softmax", ["a1"], ["p"])]
    if logits == 1:
        scores = [
            make("Sigmoid", ["a1"], ["s"]),
            make("Sub", ["unity", "s"], ["n"]),
            make("Concat", ["n", "s"], ["p"], axis=1),
        ]
    labels = [
        make("ArgMax", ["p"], ["i"], axis=1),
        make("ArrayFeatureExtractor", ["classes", "i"], ["e"], domain="ai.onnx.ml"),
    ]
    if words:
        labels.append(make("Reshape", ["e", "shape_tensor"], ["label"]))
    else:
        labels += [make("Reshape", ["e", "shape_tensor"], ["l"]), make("Cast", ["l"], ["label"], to=TensorProto.INT64)]
    kind = TensorProto.STRING if words else TensorProto.INT64
    outputs = [helper.make_tensor_value_info("label", kind, [None])]
    if zipmap:
        keys = {"classlabels_strings": list(classes)} if words else {"classlabels_int64s": list(classes)}
        labels.append(make("ZipMap", ["p"], ["q"], domain="ai.onnx.ml", **keys))
        value = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        outputs.append(helper.make_value_info("q", helper.make_sequence_type_proto(value)))
    else:
        outputs.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, len(classes)]))
    used = {name for node in (*body, *scores, *labels) for name in node.input}
    graph = helper.make_graph(
        [*source, *body, *scores, *labels],
        "sklearn",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, FEATURES])],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used],
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def as_tensors(results: Sequence[Array | list[dict[object, float]]]) -> list[Array]:
    """The results, maps from class to probability as the rows of an array."""
    return [
        np.array([list(row.values()) for row in result], np.float32) if isinstance(result, list) else result
        for result in results
    ]


CLASSES: list[Sequence[int] | Sequence[str]] = [(0, 1, 2), (3, 5, 9, 11), (0, 1), ("cat", "dog", "fox"), ("no", "yes")]


@pytest.mark.parametrize("zipmap", [False, True])
@pytest.mark.parametrize("classes", CLASSES, ids=lambda classes: "-".join(map(str, classes)))
def test_the_body_ends_in_logits_and_the_file_in_labels_and_probabilities(
    classes: Sequence[int] | Sequence[str], zipmap: bool, tmp_path: Path
) -> None:
    proto = sklearn(classes, zipmap)
    onnx.save(proto, tmp_path / "net.onnx")
    model = read(tmp_path / "net.onnx")
    assert [node.op for node in model.nodes] == ["Gemm", "Relu", "Gemm"]
    assert model.outputs == (Port("m1", "float32", (len(classes),)),)
    assert [port.name for port in model.results] == ["label", "q" if zipmap else "p"]
    assert any("ZipMap" in change for change in model.changes) == zipmap
    write(model, tmp_path / "out.onnx")
    x = np.random.default_rng(1).standard_normal((20, FEATURES)).astype(np.float32)
    label, probabilities = as_tensors(original(proto, {"X": x}))
    ours, scores = original(str(tmp_path / "out.onnx"), {"X": x})
    assert np.array_equal(ours, label) and ours.dtype == label.dtype
    assert same(scores, probabilities)
    logits = run(model, x)["m1"]
    assert np.array_equal(np.asarray(classes)[logits.argmax(1)], label)
    back = read(tmp_path / "out.onnx")
    assert (back.nodes, back.head, back.results, back.changes) == (model.nodes, model.head, model.results, ())
    assert model_hash(back) == model_hash(model)


def test_a_scaler_is_written_out() -> None:
    proto = sklearn((0, 1, 2), zipmap=False, scaled=True)
    x = np.random.default_rng(1).standard_normal((20, FEATURES)).astype(np.float32)
    label, probabilities = original(proto, {"X": x})
    found = run(canonicalise(proto, "net"), x, include_ends=True)
    assert np.array_equal(found["label"], label)
    assert same(found["p"], probabilities)


@pytest.mark.skipif(not FILES, reason="the corpus is not here: set MNX_ZOO to its folder")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_exports_of_scikit_learn_are_read(path: Path) -> None:
    with np.load(path.with_suffix(".npz")) as reference:
        found = run(read(path), reference["arr_0"], include_ends=True)
        assert same(list(found.values())[1], reference["y"])


ONE_LOGIT = """g (float[N,4] x, float[3,4] w, float[3] b, float[1,3] f, float[1] c) => (float[N,1] p)
    { h = Gemm<transB = 1>(x, w, b) r = Relu(h) z = Gemm<transB = 1>(r, f, c) p = Sigmoid(z) }"""


def test_one_probability_of_two_classes_has_two_logits(tmp_path: Path) -> None:
    proto = network(ONE_LOGIT)
    model = canonicalise(proto, "net")
    assert model.outputs == (Port("z", "float32", (2,)),)
    assert "the one logit 'z' written as two: 0 and itself" in model.changes
    assert preserved(model, proto)
    write(model, tmp_path / "net.onnx")
    back = read(tmp_path / "net.onnx")
    assert (back.outputs, back.head, back.changes) == (model.outputs, model.head, ())
    assert preserved(back, proto)


def test_a_doubled_logit_that_is_not_zero_is_noticed() -> None:
    proto = network(ONE_LOGIT)
    model = canonicalise(proto, "net")
    bias = model.nodes[-1].inputs[2]
    wrong = model.with_weights({bias: model.weights[bias] + np.array([0.1, 0], np.float32)})
    assert not preserved(wrong, proto)


SHARED: dict[str, tuple[str, tuple[str, ...]]] = {
    "logits and probabilities": (
        "g (float[N,3] x, float[4,3] w) => (float[N,4] l, float[N,4] p) { l = Gemm<transB = 1>(x, w) p = Softmax(l) }",
        ("Softmax",),
    ),
    "probabilities and logits": (
        "g (float[N,3] x, float[4,3] w) => (float[N,4] p, float[N,4] l) { l = Gemm<transB = 1>(x, w) p = Softmax(l) }",
        ("Softmax",),
    ),
    "label alone": (
        """g (float[N,3] x, float[4,3] w) => (int64[N] i)
        { l = Gemm<transB = 1>(x, w) p = Softmax(l) i = ArgMax<axis = 1, keepdims = 0>(p) }""",
        ("Softmax", "ArgMax"),
    ),
    "label of logits": (
        """g (float[N,3] x, float[4,3] w) => (int32[N] j, float[N,4] l)
        { l = Gemm<transB = 1>(x, w) i = ArgMax<axis = 1, keepdims = 0>(l) j = Cast<to = 6>(i) }""",
        ("ArgMax", "Cast"),
    ),
    "logarithms": (
        """g (float[N,3] x, float[4,3] w) => (float[N,4] p, float[N,4] q)
        { l = Gemm<transB = 1>(x, w) p = Softmax(l) q = Log(p) }""",
        ("Softmax", "Log"),
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_outputs_that_follow_from_one_set_of_scores(name: str, tmp_path: Path) -> None:
    text, head = SHARED[name]
    proto = network(text)
    model = canonicalise(proto, "net")
    assert tuple(node.op for node in model.head) == head
    assert [port.shape for port in model.outputs] == [(4,)]
    assert preserved(model, proto)
    write(model, tmp_path / "net.onnx")
    written = onnx.load(tmp_path / "net.onnx")
    assert list(written.graph.output) == list(to_proto(model, include_ends=True).graph.output)
    assert [value.name for value in written.graph.output] == [value.name for value in proto.graph.output]


def test_outputs_that_do_not_are_refused() -> None:
    text = """g (float[N,3] x, float[4,3] w, float[2,4] v) => (float[N,4] h, float[N,2] y)
        { h = Gemm<transB = 1>(x, w) y = Gemm<transB = 1>(h, v) }"""
    with pytest.raises(GraphError, match=r"net has several outputs \(h, y\).*export it with the logits alone"):
        canonicalise(network(text), "net")


COLUMNS = {
    "squeeze": "a = Constant<value_ints = [1]>() {o} = Squeeze({i}, a)",
    "squeeze all": "{o} = Squeeze({i})",
    "reshape": "a = Constant<value_ints = [-1]>() {o} = Reshape({i}, a)",
    "gather": "a = Constant<value_int = 0>() {o} = Gather<axis = 1>({i}, a)",
}
"""How exporters write y.squeeze(-1), y.squeeze(), y.flatten() and y[:, 0] of a column y."""


@pytest.mark.parametrize("how", COLUMNS)
@pytest.mark.parametrize("sigmoid", ["none", "before", "behind"])
def test_one_number_an_example_is_a_column_of_the_body(how: str, sigmoid: str, tmp_path: Path) -> None:
    """With a Sigmoid on either side it is a probability of two classes."""
    end = {
        "none": COLUMNS[how].format(i="z", o="y"),
        "before": "p = Sigmoid(z) " + COLUMNS[how].format(i="p", o="y"),
        "behind": COLUMNS[how].format(i="z", o="p") + " y = Sigmoid(p)",
    }[sigmoid]
    proto = network(
        f"""g (float[N,4] x, float[3,4] w, float[3] b, float[1,3] f, float[1] c) => (float[N] y)
        {{ h = Gemm<transB = 1>(x, w, b) r = Relu(h) z = Gemm<transB = 1>(r, f, c) {end} }}"""
    )
    model = canonicalise(proto, "net")
    assert model.outputs == (Port("z", "float32", (1 if sigmoid == "none" else 2,)),)
    assert head_of(model) == (PLAIN if sigmoid == "none" else SOFTMAX)
    assert preserved(model, proto)
    assert preserved(model, proto, batch=1) or how == "squeeze all"  # which leaves no batch of one example
    for form in ("canonical", "original"):
        write(model, tmp_path / f"{form}.onnx", form=form)
        back = read(tmp_path / f"{form}.onnx")
        assert preserved(back, proto)
        assert back.outputs == model.outputs
        (output,) = onnx.load(tmp_path / f"{form}.onnx").graph.output
        assert len(output.type.tensor_type.shape.dim) == 1


def test_of_two_sigmoids_the_first_stays_in_the_body() -> None:
    text = """g (float[N,4] x, float[1,4] f, float[1] c) => (float[N] y) { z = Gemm<transB = 1>(x, f, c)
        p = Sigmoid(z) a = Constant<value_ints = [-1]>() s = Reshape(p, a) y = Sigmoid(s) }"""
    model = canonicalise(network(text), "net")
    assert [node.op for node in model.nodes] == ["Gemm", "Sigmoid"]
    assert preserved(model, network(text))


def test_a_scale_behind_one_number_an_example_is_kept() -> None:
    text = """g (float[N,4] x, float[1,4] f, float[1] c) => (float[N] y) { z = Gemm<transB = 1>(x, f, c)
        a = Constant<value_ints = [1]>() s = Squeeze(z, a) k = Constant<value_float = 3.0>() y = Mul(s, k) }"""
    assert preserved(canonicalise(network(text), "net"), network(text))


def test_a_sum_over_features_is_no_column() -> None:
    text = """g (float[N,4] x, float[3,4] w) => (float[N] y)
        { h = Gemm<transB = 1>(x, w) a = Constant<value_ints = [1]>() y = ReduceSum<keepdims = 0>(h, a) }"""
    model = canonicalise(network(text), "net")
    assert model.outputs[0].shape == ()
    assert preserved(model, network(text))
