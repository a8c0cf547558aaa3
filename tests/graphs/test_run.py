"""Running models: values by name, batch statistics against numpy, double precision, and refusals."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from reading import network, same

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.run import ALL, run, run_file, runtime_version
from mnx.graphs.zoo.resnet import resnet

NET = """g (float[N,3] x, float[4,3] w, float[4] s, float[4] t, float[4] m, float[4] v, float[2,4] f)
    => (float[N,2] p) {
    c = Gemm<transB = 1>(x, w) n = BatchNormalization<epsilon = 0.01>(c, s, t, m, v) r = Relu(n)
    l = Gemm<transB = 1>(r, f) p = Softmax(l) }"""


def net() -> Model:
    return canonicalise(network(NET), "net")


def rows(count: int = 5) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, 3)).astype(np.float32)


def test_values_by_name_against_numpy() -> None:
    model, x = net(), rows()
    w, s, t, m, v, f = (model.weights[name].astype(np.float64) for name in "wstmvf")
    found = run(model, x, ALL)
    assert list(found) == ["c", "n", "r", "l"]
    assert same(found["c"], x @ w.T)
    assert same(found["n"], (x @ w.T - m) / np.sqrt(v + 0.01) * s + t)
    assert same(found["l"], np.maximum(found["n"], 0) @ f.T)
    assert list(run(model, {"x": x})) == ["l"]
    assert list(run(model, x, ["r", "x", "w"])) == ["r", "x", "w"]
    odds = np.exp(found["l"])
    assert same(run(model, x, include_ends=True)["p"], odds / odds.sum(axis=1, keepdims=True))


def test_batch_statistics_against_numpy() -> None:
    model, x = net(), rows()
    w, s, t = (model.weights[name].astype(np.float64) for name in "wst")
    c = x @ w.T
    found = run(model, x, ALL, batch_statistics=True)
    assert same(found["n"], (c - c.mean(axis=0)) / np.sqrt(c.var(axis=0) + 0.01) * s + t)
    assert not same(found["n"], (c - c.mean(axis=0)) / np.sqrt(c.var(axis=0, ddof=1) + 0.01) * s + t)
    assert list(found) == ["c", "n", "r", "l"]


def test_batch_statistics_of_images() -> None:
    model = resnet("resnet", (1, 1), input_shape=(3, 8, 8), width=4, classes=3)
    x = np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32)
    found = run(model, x, ALL, batch_statistics=True)
    normal = [found[node.outputs[0]] for node in model.nodes if node.op == "BatchNormalization"]
    assert normal
    assert all(np.abs(value.mean(axis=(0, 2, 3))).max() < 1e-5 for value in normal)


def test_double_precision_agrees_and_is_double() -> None:
    model = resnet("resnet", (1, 1), input_shape=(3, 8, 8), width=4, classes=3)
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    for batch_statistics in (False, True):
        single = run(model, x, batch_statistics=batch_statistics)["logits"]
        double = run(model, x, batch_statistics=batch_statistics, precision="float64")["logits"]
        assert double.dtype == np.float64
        assert same(single, double)
        assert np.abs(single - double).max() > 0


def test_inputs_that_do_not_fit_are_refused() -> None:
    model = net()
    with pytest.raises(GraphError, match=r"input 'x' of net takes arrays of shape \(batch, 3\), not \(5, 4\)"):
        run(model, np.ones((5, 4), np.float32))
    with pytest.raises(GraphError, match="net takes the inputs x, not y"):
        run(model, {"y": rows()})
    with pytest.raises(GraphError, match="net has no value 'll'; did you mean 'l'"):
        run(model, rows(), ["ll"])
    with pytest.raises(GraphError, match="precision 'half'"):
        run(model, rows(), precision="half")


def test_several_inputs_go_by_name() -> None:
    model = canonicalise(network("g (float[N,3] x, float[N,3] x2) => (float[N,3] y) { y = Add(x, x2) }"), "net")
    assert same(run(model, {"x": rows(), "x2": rows()})["y"], 2 * rows())
    with pytest.raises(GraphError, match="has 2 inputs"):
        run(model, rows())


def test_what_the_runtime_refuses_is_the_users_error() -> None:
    model = net()
    with pytest.raises(GraphError, match="cannot run net"):
        run(model.with_weights({"w": np.ones((4, 9), np.float32)}), rows())


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(GraphError, match=r"pip install 'mothernets\[cpu\]'"):
        runtime_version()
    with pytest.raises(GraphError, match=r"pip install 'mothernets\[cpu\]'"):
        run(net(), rows())


def test_a_file_of_a_fixed_batch_runs_on_any_number_of_examples(tmp_path: Path) -> None:
    free, fixed = tmp_path / "free.onnx", tmp_path / "fixed.onnx"
    for path, batch in ((free, "N"), (fixed, "3")):
        onnx.save(network(NET.replace("[N,", f"[{batch},")), path)
    x = rows(7)
    assert run_file(fixed, x).shape == (7, 2)
    assert same(run_file(fixed, x), run_file(free, x))


def test_a_file_of_two_inputs_is_refused_by_name(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 21]> g (float[N,3] a, float[N,3] b) => (float[N,3] c) { c = Add(a, b) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "two.onnx")
    with pytest.raises(GraphError, match=r"two.onnx has 2 inputs \(a, b\), not one"):
        run_file(tmp_path / "two.onnx", rows())
