"""Shapes of all values: as they are in a run, from hollow weights too, and refused where they are not known."""

from itertools import islice

import numpy as np
import pytest
from reading import network

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.run import ALL, run
from mnx.graphs.shapes import shapes
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import v5


def samples() -> list[Model]:
    return [
        mlp("mlp", (3, 4, 4), (16, 8), 5, batch_norm=True),
        *islice(v5(classes=4, input_shape=(3, 32, 32), hidden=(8,), width=0.05, batch_norm=True), 2),
        resnet("resnet", (1, 1), input_shape=(3, 16, 16), width=4, classes=4),
    ]


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("model", samples(), ids=lambda model: model.name)
def test_shapes_are_those_of_a_run(model: Model, batch: int) -> None:
    x = np.zeros((batch, *model.inputs[0].shape), np.float32)
    found = shapes(model, batch)
    expected = {name: array.shape for name, array in {**run(model, x, ALL), **model.weights}.items()}
    assert found == {**expected, model.inputs[0].name: x.shape}


def test_hollow_full_size_networks_have_shapes() -> None:
    largest = v5(hollow=True)[-1]
    found = shapes(largest, 2)
    assert found[largest.outputs[0].name] == (2, 1000)
    assert found["fc1.weight"] == (4096, 512 * 7 * 7)


def test_constants_that_decide_shapes_count_by_value() -> None:
    proto = network(
        """g (float[N,2,3,3] x) => (float[N,2,6,6] y) <float[4] s = {1, 1, 2, 2}> {
            y = Resize<mode = "nearest">(x, , s) }"""
    )
    assert shapes(canonicalise(proto, "net"), 3)["y"] == (3, 2, 6, 6)


def test_widths_that_do_not_fit_are_named() -> None:
    model = samples()[0]
    weight = next(name for name, array in model.weights.items() if array.ndim == 2)
    with pytest.raises(GraphError, match=r"shapes of mlp do not fit together.*Gemm"):
        shapes(model.with_weights({weight: np.zeros((2, 2), np.float32)}), 3)


def test_shapes_that_depend_on_values_are_named() -> None:
    model = canonicalise(network("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"), "net")
    node = model.nodes[0]
    wild = model.replace(nodes=(type(node)("find", "NonZero", node.inputs, node.outputs),))
    with pytest.raises(GraphError, match=r"the shape of 'y' \(NonZero node 'find' of net\) is not known"):
        shapes(wild, 3)
