"""Layers whose activation is no identity: inserted in code, decoded behind, or refused."""

from collections.abc import Sequence

import pytest
from activated import convolutional, perceptron
from hypothesis import given
from hypothesis import strategies as st
from strategies import batch_for, examples, planned, trained

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.model import Model
from mnx.graphs.mothers.mother import embed
from mnx.graphs.run import run
from mnx.graphs.trees.describe import describe
from mnx.graphs.verify import Certificate, difference

PAIRED = ("Gelu", "Silu", "HardSwish", "Softplus")
SHIFTED = ("Gelu", "Silu", "HardSwish", "Softplus", "Elu", "Celu", "Selu")
NEVER = ("Mish", "Sigmoid", "Softsign")


def kinds(mother: Model, member: Model) -> list[str]:
    return [passage.kind for passage in embed(describe(mother), describe(member))[0].passages[1].values()]


def certificate(mother: Model, member: Model, seed: int = 0, split: str = "random", fresh: float = 0.0) -> Certificate:
    batches = {"random": batch_for(mother, 1), "real": batch_for(mother, 2, 24)}
    found = hatch(mother, member, batches, "real", seed, split, fresh)
    other = batch_for(mother, 3)
    ours, theirs = (next(iter(run(model, other).values())) for model in (mother, found.model))
    assert difference(ours, theirs).passed
    return found.certificate


def check(members: Sequence[Model], kind: str) -> None:
    """The smallest member's mother is as large as she, and the largest is grown by the passage of this kind."""
    mother = trained(planned(members)[0])
    assert kinds(mother, members[-1]) == [kind]
    for member in members:
        assert certificate(mother, member).passed
        assert certificate(mother, member, 1, "equal", 0.5).passed


@pytest.mark.parametrize("activation", PAIRED)
def test_a_layer_twice_as_wide_passes_on_pairs(activation: str) -> None:
    check([perceptron("a", (8,), activation), perceptron("b", (20, 17), activation)], "pair")
    for norm in (False, True):
        small, large = (convolutional("m", [widths, [4]], activation, norm=norm) for widths in ([4], [9, 8]))
        check([small.replace(name="a"), large.replace(name="b")], "pair")


@pytest.mark.parametrize("activation", SHIFTED)
def test_a_layer_as_wide_passes_on_shifted_values_where_no_zeros_are_padded(activation: str) -> None:
    check([perceptron("a", (8,), activation), perceptron("b", (8, 8), activation)], "shift")
    check([convolutional("a", [[4], [4]], activation, 1), convolutional("b", [[4, 4], [4]], activation, 1)], "shift")


def test_small_numbers_pass_tanh() -> None:
    check([perceptron("a", (8,), "Tanh"), perceptron("b", (9, 8), "Tanh")], "small")
    check([convolutional("a", [[4], [4]], "Tanh"), convolutional("b", [[4, 5], [4]], "Tanh")], "small")


def test_leaky_units_pass_in_pairs_as_wide_as_there_is_room() -> None:
    members = [perceptron("a", (8,), "LeakyRelu"), perceptron("b", (8, 8), "LeakyRelu")]
    assert planned(members)[1].groups == {0: 4}
    check(members, "pair")


@pytest.mark.parametrize("activation", NEVER)
def test_what_no_code_brings_through_is_refused(activation: str) -> None:
    with pytest.raises(GraphError, match=f"{activation} cannot be the identity"):
        planned([perceptron("a", (8,), activation), perceptron("b", (20, 17), activation)])


def test_shifted_values_do_not_pass_zeros_around_an_image_nor_pairs_a_maximum() -> None:
    with pytest.raises(GraphError, match="Elu cannot be the identity"):
        planned([convolutional("a", [[4], [4]], "Elu"), convolutional("b", [[4, 4], [4]], "Elu")])
    before_pool = convolutional("b", [[4], [9, 9], [4]], "Gelu")
    kept = planned([convolutional("a", [[4], [4], [4]], "Gelu"), before_pool])[0]
    assert kinds(kept, before_pool) == ["pair"]
    (way,) = embed(describe(kept), describe(before_pool))[0].passages[1].values()
    assert way.settling == ("conv_2",), "the pair stands before the last convolution, not before the pooling"


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.sampled_from((*PAIRED, "Elu", "Tanh", "LeakyRelu")),
    st.integers(0, 9),
)
@examples(20)
def test_perceptrons_with_a_mother_hatch(one: list[int], other: list[int], activation: str, seed: int) -> None:
    members = [perceptron("a", one, activation), perceptron("b", other, activation)]
    try:
        mother = trained(planned(members)[0], seed)
    except GraphError:
        return
    for member in members:
        assert certificate(mother, member, seed).passed
