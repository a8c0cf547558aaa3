"""Gates and normalisations that are inserted while a neighbour takes over their factor, or hands over its scale."""

from collections.abc import Sequence

import numpy as np
import pytest
from activated import gated, post_norm
from hypothesis import given
from hypothesis import strategies as st
from strategies import batch_for, doubled, examples, planned, trained

from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth.growing import Growing, Style
from mnx.graphs.growth.hatch import grow, hatch
from mnx.graphs.model import Model
from mnx.graphs.mothers.alignment import Insertion
from mnx.graphs.mothers.matching import How
from mnx.graphs.mothers.mother import embed
from mnx.graphs.run import run
from mnx.graphs.trees.describe import describe

places = st.sampled_from(["", "before", "behind"])


def check_that_members_hatch(members: Sequence[Model], seed: int = 0) -> Model:
    mother = trained(planned(members)[0], seed)
    batches = {"random": batch_for(mother, 1), "real": batch_for(mother, 2, 24)}
    for member in members:
        assert hatch(mother, member, batches, "real", seed).certificate.passed
        assert hatch(mother, member, batches, "real", seed, "equal", 0.5).certificate.passed
    return mother


def taking_over(mother: Model, member: Model) -> list[Insertion]:
    alignment, _ = embed(describe(mother), describe(member))
    return [insertion for insertion in alignment.only_right if insertion.exchange is not None]


@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
def test_a_gate_is_a_constant_that_the_layer_before_it_takes_back(gate: str) -> None:
    small, large = gated("a", [(4, ""), (5, "")], gate=gate), gated("b", [(6, "before"), (5, "")], gate=gate)
    mother = check_that_members_hatch([small, large])
    (insertion,) = taking_over(mother, large)
    assert insertion.exchange is not None
    assert (insertion.exchange.rows, insertion.exchange.columns, insertion.exchange.factor) == ("norm", (), 2.0)


def test_a_gate_behind_an_activation_is_taken_back_by_the_layer_behind_it() -> None:
    small, large = gated("a", [(4, ""), (5, "")], "HardSwish"), gated("b", [(6, ""), (5, "behind")], "HardSwish")
    mother = check_that_members_hatch([small, large])
    (insertion,) = taking_over(mother, large)
    assert insertion.exchange is not None
    assert (insertion.exchange.rows, insertion.exchange.columns) == ("", ("conv_5",))


@given(st.lists(st.lists(st.tuples(st.integers(2, 5), places), min_size=1, max_size=3), min_size=2, max_size=3))
@examples(25)
def test_networks_with_gates_anywhere_share_a_mother_and_hatch(plans: list[list[tuple[int, str]]]) -> None:
    check_that_members_hatch([gated(f"g{i}", plan) for i, plan in enumerate(plans)])


def test_blocks_with_the_normalisation_behind_the_shortcut_are_inserted() -> None:
    members = [post_norm("a", 8, 1), post_norm("b", 16, 2), post_norm("c", 8, 4, hidden=9)]
    mother = check_that_members_hatch(members)
    found = taking_over(mother, members[2])
    assert [how for insertion in found for _, how in insertion.ops] == [How.HANDED] * 3


def test_a_large_epsilon_is_refused() -> None:
    with pytest.raises(GraphError, match="share no mother"):
        planned([post_norm("a", 8, 1, 1e-3), post_norm("b", 8, 2, 1e-3)])


def test_in_double_precision_only_rounding_is_left() -> None:
    for members in (
        [gated("a", [(4, ""), (5, "")]), gated("b", [(6, "before"), (5, "behind")])],
        [post_norm("a", 8, 1, 1e-30), post_norm("b", 16, 3, 1e-30)],
    ):
        mother = doubled(trained(planned(members)[0]))
        batch = batch_for(mother, 3)
        (expected,) = run(mother, batch, precision="float64").values()
        for member in members:
            (found,) = run(grow(mother, member, batch, Style())[0], batch, precision="float64").values()
            assert float(np.abs(found - expected).max()) < 1e-12


@pytest.mark.parametrize(
    "pair",
    [
        (gated("m", [(4, ""), (5, "")]), gated("n", [(6, "before"), (5, "")])),
        (gated("m", [(4, ""), (5, "")]), gated("n", [(6, ""), (5, "behind")])),
        (post_norm("m", 8, 1), post_norm("n", 8, 2)),
    ],
    ids=["a factor not taken over", "a factor not taken over behind", "a scale not handed over"],
)
def test_a_broken_twin_is_caught(pair: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    mother, member = trained(pair[0]), pair[1]
    batches = {"real": batch_for(mother, 2, 24)}
    assert hatch(mother, member, batches, "real", 0).certificate.passed
    monkeypatch.setattr(Growing, "exchanged", lambda self, values: dict(values))
    with pytest.raises(NotPreserved, match="n does not compute the function of m"):
        hatch(mother, member, batches, "real", 0)
