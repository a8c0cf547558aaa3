"""Folded BatchNormalization is put back where it belongs, as the identity, and folded again without a trace."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import network

from mnx.graphs import onnx_file
from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.model import Array, Model
from mnx.graphs.norms.places import places
from mnx.graphs.norms.restore import RESTORED, alike, folded, put_in, restored
from mnx.graphs.onnx_file import to_proto
from mnx.graphs.probes import batches_of, probes
from mnx.graphs.run import Batch, run
from mnx.graphs.trees.describe import describe
from mnx.graphs.validity import problem
from mnx.graphs.verify import difference
from mnx.graphs.zoo.ensembles import ensemble

PLAIN = """net (float[N,3,8,8] x, float[6,3,3,3] w1, float[6] b1, float[6,1,3,3] w2, float[6] b2, float[8,3,3,3] w3,
 float[8] b3, float[8,8,1,1] w4, float[8] b4, float[12,128] w5, float[12] b5, float[4,12] w6, float[4] b6) => (
 float[N,4] y) {
 a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
 b = Relu(a)
 c = Conv<pads = [1, 1, 1, 1], group = 6>(b, w2, b2)
 d = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)
 e = LeakyRelu(d)
 f = Conv<pads = [1, 1, 1, 1], group = 2>(e, w3, b3)
 g = Conv(f, w4, b4)
 h = Add(f, g)
 i = Flatten(h)
 j = Gemm<transB = 1>(i, w5, b5)
 k = Relu(j)
 y = Gemm<transB = 1>(k, w6, b6)
}"""
"""A convolution, a depthwise one whose activation stands behind a pool, a grouped one, a residual, linear layers."""

OTHERS = {
    "a layer in front of the next": (
        """net (float[N,3,4,4] x, float[2,3,1,1] w1, float[2] b1, float[3,2,1,1] w2, float[3] b2, float[3,3,4,4] w3)
        => (float[N,3,1,1] y) { a = Conv(x, w1, b1) b = Conv(a, w2, b2) c = Relu(b) y = Conv(c, w3) }""",
        "feeds no activation and no residual",
    ),
    "a gate": (
        """net (float[N,3,4,4] x, float[3,3,1,1] w1, float[2,3,1,1] w2, float[3,2,1,1] w3, float[2,3,4,4] w4) => (
        float[N,2,1,1] y) { a = Conv(x, w1) b = Relu(a) p = GlobalAveragePool(b) q = Conv(p, w2) r = Relu(q)
        s = Conv(r, w3) t = Sigmoid(s) u = Mul(b, t) y = Conv(u, w4) }""",
        "makes a gate",
    ),
    "a shared weight": (
        """net (float[N,3,4,4] x, float[3,3,1,1] w, float[2,3,4,4] v) => (float[N,2,1,1] y) {
        a = Conv(x, w) b = Relu(a) c = Conv(b, w) d = Relu(c) y = Conv(d, v) }""",
        "has a weight that 2 nodes read",
    ),
    "tokens": (
        """net (float[N,5,3] x, float[3,4] w1, float[4] b1, float[4,4] w2) => (float[N,5,4] y) {
        a = MatMul(x, w1) b = Add(a, b1) c = Relu(b) y = MatMul(c, w2) }""",
        "is MatMul, whose outputs are not normalised over a batch",
    ),
    "the output behind a pool": (
        """net (float[N,3,4,4] x, float[2,3,1,1] w) => (float[N,2,1,1] y) {
        a = Conv(x, w) b = Relu(a) y = GlobalAveragePool(b) }""",
        "makes the output",
    ),
    "a normalisation": (
        """net (float[N,3,4,4] x, float[2,3,1,1] w, float[2] s, float[2] t, float[2] m, float[2] v, float[2,2,4,4] w2)
        => (float[N,2,1,1] y) { a = Conv(x, w) b = BatchNormalization(a, s, t, m, v) c = Relu(b) y = Conv(c, w2) }""",
        "is normalised already",
    ),
    "a residual that is normalised": (
        """net (float[N,3,4,4] x, float[3,3,1,1] w, float[3] s, float[3] t, float[3] m, float[3] v, float[2,3,4,4] w2)
        => (float[N,2,1,1] y) { a = Conv(x, w) c = Add(a, x) b = BatchNormalization(c, s, t, m, v) y = Conv(b, w2) }""",
        "is normalised already",
    ),
    "another kind of normalisation": (
        """net (float[N,4,4,4] x, float[4,4,1,1] w, float[4] s, float[4] t, float[2,4,4,4] w2) => (
        float[N,2,1,1] y) { a = Conv(x, w) b = Relu(a) c = InstanceNormalization(b, s, t) y = Conv(c, w2) }""",
        "is in a network with InstanceNormalization",
    ),
}
"""What normalisation does not go behind -> a network, and why not."""


def read(text: str = PLAIN, name: str = "net") -> Model:
    return canonicalise(network(text), name)


def inputs(model: Model) -> dict[str, Batch]:
    return batches_of(probes(model, 0))


def calibration(model: Model) -> Batch:
    return batches_of(probes(model, 1))["random"]


def trained(model: Model, seed: int = 0) -> Model:
    """The model with normalisation that training has moved."""
    random = np.random.default_rng(seed)
    moved: dict[str, Array] = {}
    for node in model.nodes:
        if node.name in put_in(model):
            for name, low in zip(node.inputs[1:], (-1.0, -1.0, -1.0, 0.1), strict=True):
                moved[name] = random.uniform(low, 2.0, model.weights[name].shape).astype(np.float32)
    return model.with_weights(moved)


def ops(model: Model) -> str:
    return " ".join(node.op for node in model.nodes)


def test_it_goes_behind_layers_that_feed_an_activation_or_a_residual() -> None:
    model = read()
    assert ops(restored(model)) == (
        "Conv BatchNormalization Relu Conv BatchNormalization MaxPool LeakyRelu Conv BatchNormalization "
        "Conv BatchNormalization Add Flatten Gemm BatchNormalization Relu Gemm"
    )


@pytest.mark.parametrize("what", OTHERS)
def test_it_goes_nowhere_else(what: str) -> None:
    text, why = OTHERS[what]
    model = read(text)
    assert why in places(model, describe(model)).others.values()


def test_a_network_without_a_place_is_refused_with_the_reasons() -> None:
    with pytest.raises(GraphError, match=r"net has no place for BatchNormalization: '.*' makes the output"):
        restored(read(OTHERS["the output behind a pool"][0]))


@pytest.mark.parametrize("calibrated", [False, True])
def test_put_back_it_is_the_identity(calibrated: bool) -> None:
    model = read()
    found = restored(model, calibration(model) if calibrated else None)
    assert alike(model, found, inputs(model)).passed
    assert problem(to_proto(found), {}) == ""


def test_calibrated_it_is_the_identity_in_training_too() -> None:
    model = read()
    batch = calibration(model)
    [expected] = run(model, batch).values()
    found, plain = (run(each, batch, batch_statistics=True) for each in (restored(model, batch), restored(model)))
    assert difference(expected, next(iter(found.values()))).passed
    assert not difference(expected, next(iter(plain.values()))).passed


def test_folding_gives_back_the_architecture_and_the_trained_function() -> None:
    model = read()
    found = trained(restored(model, calibration(model)))
    back = folded(found)
    assert alike(found, back, inputs(model)).passed
    assert back.nodes == model.nodes
    assert {name: array.shape for name, array in back.weights.items()} == {
        name: array.shape for name, array in model.weights.items()
    }
    assert back.metadata == model.metadata
    assert problem(to_proto(back), {}) == ""


@pytest.mark.parametrize("name", ["V13", "V16A"])
def test_deep_networks_come_back_exactly(name: str) -> None:
    model = next(each for each in ensemble("v5") if each.name == name)
    found = trained(restored(model, calibration(model)))
    assert alike(found, folded(found), inputs(model)).passed


@given(st.integers(0, 1000), st.booleans())
def test_any_trained_normalisation_is_folded_exactly(seed: int, calibrated: bool) -> None:
    model = read()
    found = trained(restored(model, calibration(model) if calibrated else None), seed)
    assert alike(found, folded(found), inputs(model)).passed


@pytest.mark.parametrize("opset", [9, 13, 21])
def test_what_was_put_in_is_known_behind_files_of_the_users_opset(opset: int, tmp_path: Path) -> None:
    onnx_file.write(read(), tmp_path / "given.onnx")
    known = onnx_file.read(tmp_path / "given.onnx")
    model = known.replace(origin=replace(known.origin, opset=opset, ir_version=8))
    start = trained(restored(model))
    onnx_file.write(start, tmp_path / "start.onnx", form="working")
    again = onnx_file.read(tmp_path / "start.onnx")
    assert put_in(again) == put_in(start) != ()
    assert folded(again).nodes == model.nodes


def test_the_users_own_normalisation_stays() -> None:
    text = """net (float[N,3,4,4] x, float[2,3,1,1] w, float[2] s, float[2] t, float[2] m, float[2] v,
    float[2,2,1,1] w2, float[2,2,4,4] w3) => (float[N,2,1,1] y) {
    a = Conv(x, w) b = BatchNormalization(a, s, t, m, v) c = Relu(b)
    d = Conv(c, w2) e = Relu(d) y = Conv(e, w3) }"""
    model = read(text)
    found = restored(model)
    assert ops(found) == "Conv BatchNormalization Relu Conv BatchNormalization Relu Conv"
    assert folded(trained(found)).nodes == model.nodes


def test_names_that_are_taken_are_not_taken_again() -> None:
    model = read()
    layer = places(model, describe(model)).layers[0]
    renamed = model.replace(
        nodes=tuple(
            replace(node, name=f"{layer}.norm") if node.op == "Relu" and node.inputs[0] == "a" else node
            for node in model.nodes
        )
    )
    found = restored(renamed)
    assert len({node.name for node in found.nodes}) == len(found.nodes)
    assert folded(found).nodes == renamed.nodes


def test_metadata_that_do_not_fit_the_network_are_an_error() -> None:
    model = read().replace(metadata={RESTORED: json.dumps({"elsewhere": "b1"})})
    with pytest.raises(GraphError, match="'elsewhere' was put in behind a layer, which is not so"):
        folded(model)


def _change(part: int, change: Callable[[Array], Array]) -> Callable[[Model], Model]:
    """A restoring or folding that goes wrong in one parameter of its first normalisation, or layer."""

    def broken(model: Model) -> Model:
        first = next(node for node in model.nodes if node.op == ("BatchNormalization" if put_in(model) else "Conv"))
        name = first.inputs[part]
        return model.with_weights({name: change(model.weights[name])})

    return broken


TWINS = {
    "restored with the variance for the deviation": (False, _change(1, lambda scale: scale**2)),
    "restored without the mean": (False, _change(2, lambda shift: shift * 0)),
    "restored with the bias left in the mean": (False, _change(3, lambda mean: mean + np.float32(0.1))),
    "restored with a twentieth more variance": (False, _change(4, lambda variance: variance * np.float32(1.05))),
    "folded along the wrong axis": (True, _change(1, lambda weight: np.roll(weight, 1, axis=0))),
    "folded a thousandth too large": (True, _change(1, lambda weight: weight * np.float32(1.001))),
    "folded without a bias": (True, _change(2, lambda bias: bias * 0)),
}


@pytest.mark.parametrize("twin", TWINS)
def test_the_certificate_catches_what_is_not_the_same(twin: str) -> None:
    at_folding, broken = TWINS[twin]
    model = read()
    before = restored(model, calibration(model))
    before, after = (trained(before), folded(trained(before))) if at_folding else (model, before)
    with pytest.raises(NotPreserved, match="folded it computes" if at_folding else "put back it computes"):
        alike(before, broken(after), inputs(model))
