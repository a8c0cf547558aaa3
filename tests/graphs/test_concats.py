"""Concats: flat where one reads them, chains where a network grows by them."""

import pytest
from reading import images, network, original, same

from mnx.graphs.canonical import concats as passes
from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.model import Model
from mnx.graphs.run import run
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Parallel

DENSE = """
dense (float[batch, 2, 4, 4] x, float[3, 2, 1, 1] w1, float[3, 5, 1, 1] w2, float[3, 8, 1, 1] w3)
    => (float[batch, 11, 4, 4] y) {
    a = Conv (x, w1)
    one = Concat <axis = 1> (x, a)
    b = Conv (one, w2)
    two = Concat <axis = -3> (x, a, b)
    c = Conv (two, w3)
    y = Concat <axis = 1> (x, a, b, c)
}"""
NESTED = """
nested (float[batch, 2, 4, 4] x, float[3, 2, 1, 1] w1, float[4, 2, 1, 1] w2) => (float[batch, 9, 4, 4] y) {
    a = Conv (x, w1)
    b = Conv (x, w2)
    inner = Concat <axis = 1> (a, b)
    y = Concat <axis = 1> (inner, x)
}"""


def concats(model: Model) -> list[int]:
    """The number of operands of every Concat."""
    return [len(node.inputs) for node in model.nodes if node.op == "Concat"]


@pytest.mark.parametrize(("text", "expected"), [(DENSE, [2, 2, 2]), (NESTED, [3])])
def test_concats_compute_what_they_did(text: str, expected: list[int]) -> None:
    proto = network(text)
    model = canonicalise(proto, "m")
    assert concats(model) == expected
    inputs = images(proto, 3)
    assert same(next(iter(run(model, inputs).values())), original(proto, inputs)[0])


def test_a_densely_connected_network_is_a_tree_of_nested_sections() -> None:
    series = describe(canonicalise(network(DENSE), "m")).series
    assert len(series) == 3
    assert all(isinstance(unit, Parallel) and unit.branches[0] == () for unit in series)


def test_a_prefix_along_another_axis_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    other (float[batch, 2, 4, 4] x, float[2, 2, 1, 1] w) => (float[batch, 160] y) {
        a = Conv (x, w)
        one = Concat <axis = 2> (x, a)
        two = Concat <axis = 1> (x, a, x)
        b = Flatten (one)
        c = Flatten (two)
        y = Concat <axis = 1> (b, c)
    }"""
    proto = network(text)
    inputs = images(proto, 3)
    model = canonicalise(proto, "m")
    assert concats(model) == [2, 3, 2]
    assert same(next(iter(run(model, inputs).values())), original(proto, inputs)[0])
    monkeypatch.setattr(passes, "_axis", lambda node: 1)
    assert not same(next(iter(run(canonicalise(proto, "m"), inputs).values())), original(proto, inputs)[0])
