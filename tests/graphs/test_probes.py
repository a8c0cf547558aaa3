"""Probes: what each input of a model may hold is read off the graph, and the batches keep to it."""

import numpy as np
import pytest
from reading import network
from strategies import Array

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.model import Model, Port
from mnx.graphs.probes import EXAMPLES, EXTREME, LARGE, RANDOM, ROWS, Content, contents, probes
from mnx.graphs.run import Batch, run
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.vgg import vgg

POOLED = """
    m = Cast <to = 1> (xmask)
    behind = Constant <value_ints = [2]> ()
    column = Unsqueeze (m, behind)
    seen = Mul (e, column)
    along = Constant <value_ints = [1]> ()
    sum = ReduceSum <keepdims = 0> (seen, along)
    count = ReduceSum <keepdims = 1> (m, along)
    pooled = Div (sum, count)
    y = MatMul (pooled, head)
"""
"""The mean of the embeddings that a mask leaves: an empty mask would divide by zero."""

MASKED = f"""net (int64[N,6] xids, int64[N,6] xmask, float[10,4] table, float[4,3] head) => (float[N,3] y) {{
    e = Gather (table, xids)
    {POOLED}
}}"""

SELECTED = """net (int32[N,6] xids, float[10,4] table, float[24,3] head) => (float[N,3] y) {
    ten = Constant <value = int32 {10}> ()
    zero = Constant <value = float {0}> ()
    moved = Add (xids, ten)
    number = Cast <to = 1> (xids)
    below = Less (number, zero)
    above = Not (below)
    t = Cast <to = 6> (below)
    f = Cast <to = 6> (above)
    negative = Mul (t, moved)
    positive = Mul (xids, f)
    index = Add (negative, positive)
    e = Gather (table, index)
    flat = Flatten (e)
    y = MatMul (flat, head)
}"""
"""An embedding as tf2onnx writes that of Keras: ids below zero count from the end."""

SHIFTED = """net (int64[N,6] xids, float[10,4] table, float[24,3] head) => (float[N,3] y) {
    two = Constant <value = int64 {2}> ()
    index = Add (xids, two)
    e = Gather (table, index)
    flat = Flatten (e)
    y = MatMul (flat, head)
}"""

TWO_IMAGES = """net (float[N,2,4,4] xa, float[N,2,4,4] xb, float[3,2,3,3] w) => (float[N,3,2,2] y) {
    d = Sub (xa, xb)
    y = Conv (d, w)
}"""

ATTENTION = """net (float[N,4,6] xa, float[N,1,6] xmask, float[6,6] w) => (float[N,4,6] y) {
    scores = MatMul (xa, w)
    low = Constant <value = float {-10000}> ()
    hidden = Mul (xmask, low)
    y = Add (scores, hidden)
}"""


def net(text: str) -> Model:
    return canonicalise(network(text), "net")


def arrays(batch: Batch) -> tuple[Array, ...]:
    return batch if isinstance(batch, tuple) else (batch,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MASKED, (Content("ids", 10), Content("mask"))),
        (SELECTED, (Content("ids", 10),)),
        (SHIFTED, (Content("ids", 8),)),
        (TWO_IMAGES, (Content("numbers"), Content("numbers"))),
        (ATTENTION, (Content("numbers"), Content("mask"))),
    ],
)
def test_what_an_input_holds_is_read_off_the_graph(text: str, expected: tuple[Content, ...]) -> None:
    model = net(text)
    assert contents(model) == expected
    for probe in probes(model, 0, 5).values():
        for array, port, content in zip(arrays(probe.batch), model.inputs, expected, strict=True):
            assert array.shape[1:] == port.shape and array.dtype == port.dtype
            if content.kind == "ids":
                assert array.min() >= 0 and array.max() < content.count
            if content.kind == "mask":
                assert set(np.unique(array)) <= {0, 1}
                assert array.reshape(len(array), -1).any(axis=1).all()
        (result,) = run(model, probe.batch).values()
        assert np.isfinite(result).all()


def test_a_network_of_floats_takes_numbers() -> None:
    assert contents(mlp("m", 4, (3,), 3)) == (Content("numbers"),)


def test_integers_that_meet_a_weight_are_numbers_within_their_type() -> None:
    model = vgg("v", [[(3, 4)]], 3, (1, 4, 4), [4])
    for dtype, most in (("uint8", 255), ("int8", 127), ("int64", 255)):
        typed = model.replace(inputs=(Port(model.inputs[0].name, dtype, (1, 4, 4)),))
        found = probes(typed, 0, 200)
        assert contents(typed) == (Content("numbers"),)
        for probe in found.values():
            (array,) = arrays(probe.batch)
            assert array.dtype == dtype and array.min() == 0 and array.max() == most


def test_random_numbers_are_normal_and_random_ids_and_masks_even() -> None:
    (numbers,) = arrays(probes(mlp("m", 50, (3,), 3), 0, 400)[RANDOM].batch)
    assert abs(numbers.mean()) < 0.02 and abs(numbers.std() - 1) < 0.02
    ids, mask = arrays(probes(net(MASKED), 0, 400)[RANDOM].batch)
    assert set(np.unique(ids)) == set(range(10))
    assert set(mask.sum(axis=1)) == {1, 2, 3, 4, 5, 6}
    assert (np.diff(mask, axis=1) <= 0).all()


def test_extreme_numbers_hold_every_kind() -> None:
    (x,) = arrays(probes(mlp("m", 6, (3,), 3), 0)[EXTREME].batch)
    assert len(x) == ROWS
    kinds = {tuple(np.unique(row)) for row in x[:7]}
    assert kinds == {(0.0,), (1.0,), (LARGE,), (-LARGE,), (-LARGE, LARGE), (0.0, LARGE), (-1.0, 1.0)}
    assert 0 < np.abs(x[7]).max() < 0.05


def test_extreme_ids_go_to_the_ends_with_full_and_with_shortest_masks() -> None:
    ids, mask = arrays(probes(net(MASKED), 0)[EXTREME].batch)
    assert set(mask.sum(axis=1)) == {1, 6}
    for length in (1, 6):
        rows = ids[mask.sum(axis=1) == length]
        assert any((row[1:] == 0).all() for row in rows)
        assert any((row == 9).all() for row in rows)
    assert (ids[:, 0] > 0).all()


def test_probes_depend_on_their_seed_alone() -> None:
    model = mlp("m", 4, (3,), 3)
    assert len(arrays(probes(model, 0)[RANDOM].batch)[0]) == EXAMPLES

    def same(a: Batch, b: Batch) -> bool:
        return all(np.array_equal(x, y) for x, y in zip(arrays(a), arrays(b), strict=True))

    assert all(same(probes(model, 3)[name].batch, probes(model, 3)[name].batch) for name in (RANDOM, EXTREME))
    assert not same(probes(model, 3)[RANDOM].batch, probes(model, 4)[RANDOM].batch)
    assert "seed 3" in probes(model, 3)[RANDOM].made
    assert "ids below 10, mask" in probes(net(MASKED), 3)[RANDOM].made
