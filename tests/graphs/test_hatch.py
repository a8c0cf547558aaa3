"""Hatching: members of random ensembles compute the function of their mother, exactly, for both splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made import ended_by_dropout, gated, inception, linear, residual, two_heads
from hypothesis import given
from hypothesis import strategies as st
from strategies import Array, batch_for, ensembles, examples, planned, trained

from mnx.graphs import verify
from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth.growing import SPLITS, Style
from mnx.graphs.growth.hatch import Hatched, grow, hatch, reordered
from mnx.graphs.model import Model
from mnx.graphs.mothers.matching import How
from mnx.graphs.mothers.mother import embed
from mnx.graphs.onnx_file import read, write
from mnx.graphs.probes import EXTREME
from mnx.graphs.run import run
from mnx.graphs.shapes import shapes
from mnx.graphs.trees.describe import describe
from mnx.graphs.verify import Answers, difference
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg


def logits(model: Model, batch: Array, *, batch_statistics: bool = False) -> Array:
    (result,) = run(model, batch, batch_statistics=batch_statistics).values()
    return result


def batches_for(model: Model) -> Mapping[str, Array]:
    return {"random": batch_for(model, 1), "real": batch_for(model, 2, 24)}


def hatched_of(mother: Model, member: Model, seed: int = 0, split: str = "random") -> Hatched:
    return hatch(mother, member, batches_for(mother), "real", seed, split)


def inserts_normalisation(mother: Model, member: Model) -> bool:
    alignment, _ = embed(describe(mother), describe(member))
    return any(
        op.op == "BatchNormalization" and how is How.IDENTITY
        for insertion in alignment.only_right
        for op, how in insertion.ops
    )


def check_that_every_member_hatches(members: Sequence[Model], seed: int, split: str) -> None:
    mother = trained(planned(members)[0], seed)
    batches = batches_for(mother)
    for member in members:
        found = hatch(mother, member, batches, "real", seed, split)
        assert found.certificate.passed
        assert found.model.nodes == member.nodes
        for name, array in member.weights.items():
            grown = found.model.weights[name]
            assert (grown.shape, grown.dtype) == (array.shape, array.dtype)
        # Not only by its own word: the function, measured here; batch statistics on any batch where no norm was put in.
        fresh = batch_for(mother, 3)
        assert difference(logits(mother, fresh), logits(found.model, fresh)).passed
        inserted = inserts_normalisation(mother, member)
        if not inserted:
            ours, theirs = (logits(model, fresh, batch_statistics=True) for model in (mother, found.model))
            assert difference(ours, theirs).passed
        binding = {(check.inputs, check.mode) for check in found.certificate.checks if check.binding}
        assert {("random", "eval"), ("real", "eval")} <= binding
        normalised = any(node.op == "BatchNormalization" for node in member.nodes)
        assert (("real", "batch statistics") in binding) == normalised
        assert (("random", "batch statistics") in binding) == (normalised and not inserted)


@given(ensembles(2), st.integers(0, 9), st.sampled_from(SPLITS))
@examples(18)
def test_every_member_hatches(members: list[Model], seed: int, split: str) -> None:
    check_that_every_member_hatches(members, seed, split)


@pytest.mark.slow
@pytest.mark.exhaustive
@given(ensembles(4), st.integers(0, 999), st.sampled_from(SPLITS))
@examples(300)
def test_every_member_hatches_at_length(members: list[Model], seed: int, split: str) -> None:
    check_that_every_member_hatches(members, seed, split)


PAIRS: Mapping[str, tuple[Model, Model]] = {
    "only wider": (mlp("m", 4, (3, 5), 3), mlp("n", 4, (7, 11), 3)),
    "wider by a multiple": (mlp("m", 4, (3, 5), 3), mlp("n", 4, (6, 15), 3)),
    "only deeper": (mlp("m", 4, (5,), 3), mlp("n", 4, (5, 5, 5), 3)),
    "wider and deeper": (mlp("m", 4, (5,), 3), mlp("n", 4, (7, 5, 9), 3)),
    "only wider, Tanh": (mlp("m", 4, (3, 5), 3, "Tanh"), mlp("n", 4, (7, 11), 3, "Tanh")),
    "only wider, LeakyRelu": (mlp("m", 4, (3,), 3, "LeakyRelu"), mlp("n", 4, (7,), 3, "LeakyRelu")),
    "wider with norms": (mlp("m", 4, (3, 5), 3, batch_norm=True), mlp("n", 4, (7, 5), 3, batch_norm=True)),
    "deeper with norms": (mlp("m", 4, (5,), 3, batch_norm=True), mlp("n", 4, (5, 5), 3, batch_norm=True)),
    "kernel 1 to 3": (vgg("m", [[(1, 4)]], 3, (2, 6, 6), (5,)), vgg("n", [[(3, 4)]], 3, (2, 6, 6), (5,))),
    "kernel 3 to 5": (vgg("m", [[(3, 4)]], 3, (2, 6, 6), (5,)), vgg("n", [[(5, 4)]], 3, (2, 6, 6), (5,))),
    "kernel 1 to 5, wider": (vgg("m", [[(1, 4)]], 3, (2, 6, 6), (5,)), vgg("n", [[(5, 7)]], 3, (2, 6, 6), (8,))),
    "deeper convolutions": (
        vgg("m", [[(3, 4)], [(3, 5)]], 3, (2, 6, 6), (5,)),
        vgg("n", [[(3, 4), (5, 4), (1, 6)], [(3, 5), (3, 9)]], 3, (2, 6, 6), (5,)),
    ),
    "wider through flatten": (vgg("m", [[(3, 2)]], 3, (2, 6, 6), (5,)), vgg("n", [[(3, 7)]], 3, (2, 6, 6), (5,))),
    "more residual blocks": (resnet("m", (1, 1), 4, 3, (2, 8, 8)), resnet("n", (3, 2), 4, 3, (2, 8, 8))),
    "wider residual blocks": (resnet("m", (1, 2), 3, 3, (2, 8, 8)), resnet("n", (1, 2), 7, 3, (2, 8, 8))),
    "a shortcut gets weights": (residual("m", 4, [(4, False)]), residual("n", 6, [(8, True)])),
    "a block with a weighted shortcut": (residual("m", 4, [(4, False)]), residual("n", 6, [(6, False), (8, True)])),
    "branches of a concat": (inception("m", 3, 2, 3), inception("n", 5, 5, 4, deeper=True)),
    "a gate of one channel": (gated("m", 3, 1), gated("n", 5, 1)),
    "a full gate": (gated("m", 3, 3), gated("n", 5, 5)),
    "a broadcast gate to a full one": (gated("m", 1, 1), gated("n", 5, 5)),
    "layers without activation": (linear("m", (4,)), linear("n", (3, 4, 9))),
    "two heads": (two_heads("m", 4), two_heads("n", 6)),
    "a last dropout": (ended_by_dropout("m", 3, dropout=False), ended_by_dropout("n", 5)),
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("case", PAIRS)
def test_each_kind_of_growth(case: str, split: str) -> None:
    small, large = PAIRS[case]
    mother = trained(small)
    found = hatched_of(mother, large, split=split)
    for batch in batches_for(mother).values():
        assert difference(logits(mother, batch), logits(found.model, batch)).passed
    before = difference(logits(mother, batch_for(mother, 1)), logits(large, batch_for(mother, 1)))
    assert not before.passed


def test_nothing_grows_where_nothing_differs() -> None:
    mother = trained(vgg("m", [[(3, 4)]], 3, (2, 6, 6), (5,), batch_norm=True))
    found = hatched_of(mother, mother.replace(name="n"))
    for name, array in mother.weights.items():
        np.testing.assert_array_equal(found.model.weights[name], array)


def test_growth_repeats_rows_and_splits_columns() -> None:
    mother = trained(mlp("m", 4, (3,), 3))
    grown = hatched_of(mother, mlp("n", 4, (8,), 3)).model.weights
    np.testing.assert_array_equal(grown["fc1.weight"][:3], mother.weights["fc1.weight"])
    old_row = [int(np.argmin(np.abs(grown["fc1.weight"][:3] - row).sum(axis=1))) for row in grown["fc1.weight"]]
    np.testing.assert_array_equal(grown["fc1.weight"], mother.weights["fc1.weight"][old_row])
    np.testing.assert_array_equal(grown["fc1.bias"], mother.weights["fc1.bias"][old_row])
    sums = np.zeros((3, 3))
    np.add.at(sums.T, old_row, grown["head.weight"].T.astype(np.float64))
    np.testing.assert_allclose(sums, mother.weights["head.weight"], atol=1e-6)


def test_random_shares_differ_and_equal_ones_do_not() -> None:
    mother = trained(mlp("m", 4, (3,), 3))
    member = mlp("n", 4, (6,), 3)
    columns = {split: hatched_of(mother, member, split=split).model.weights["head.weight"] for split in SPLITS}
    assert len(np.unique(columns["equal"], axis=1).T) == 3
    assert len(np.unique(columns["random"], axis=1).T) == 6


def test_a_kernel_grows_around_its_centre() -> None:
    mother = trained(vgg("m", [[(3, 4)]], 3, (2, 6, 6), (5,)))
    grown = hatched_of(mother, vgg("n", [[(5, 4)]], 3, (2, 6, 6), (5,))).model.weights["conv1_1.weight"]
    np.testing.assert_array_equal(grown[:, :, 1:4, 1:4], mother.weights["conv1_1.weight"])
    assert np.count_nonzero(grown) == np.count_nonzero(mother.weights["conv1_1.weight"])


def test_a_new_residual_block_keeps_its_own_weights_behind_a_zeroed_norm() -> None:
    mother = trained(resnet("m", (1,), 4, 3, (2, 4, 4)))
    member = resnet("n", (2,), 6, 3, (2, 4, 4))
    grown = hatched_of(mother, member).model.weights
    np.testing.assert_array_equal(grown["block1_2.first.weight"], member.weights["block1_2.first.weight"])
    np.testing.assert_array_equal(grown["block1_2.second.weight"], member.weights["block1_2.second.weight"])
    assert not grown["block1_2.second_norm.scale"].any()
    assert not grown["block1_2.second_norm.shift"].any()


def test_an_inserted_norm_has_the_statistics_of_what_arrives_on_the_calibration_batch() -> None:
    mother = trained(mlp("m", 4, (5,), 3, batch_norm=True))
    batches = batches_for(mother)
    found = hatched_of(mother, mlp("n", 4, (5, 5), 3, batch_norm=True))
    arriving = run(mother, batches["real"], ["fc1_relu"], batch_statistics=True)["fc1_relu"]
    grown = found.model.weights
    assert difference(arriving.mean(axis=0), grown["fc2_norm.mean"]).passed
    assert difference(arriving.var(axis=0), grown["fc2_norm.variance"]).passed
    np.testing.assert_array_equal(grown["fc2_norm.mean"], grown["fc2_norm.shift"])


def test_drift_of_inserted_norms_on_other_batches_is_reported_and_does_not_fail() -> None:
    mother = trained(mlp("m", 4, (5,), 3, batch_norm=True))
    certificate = hatched_of(mother, mlp("n", 4, (5, 5), 3, batch_norm=True)).certificate
    (drift,) = [check for check in certificate.checks if not check.binding]
    assert (drift.inputs, drift.mode) == ("random", "batch statistics")
    assert not drift.difference.passed
    assert certificate.passed


def test_widening_with_norms_binds_on_every_batch_in_both_modes() -> None:
    mother = trained(mlp("m", 4, (5,), 3, batch_norm=True))
    certificate = hatched_of(mother, mlp("n", 4, (8,), 3, batch_norm=True)).certificate
    assert [check.binding for check in certificate.checks] == [True] * 4


def test_a_hatched_model_takes_a_batch_of_any_size() -> None:
    mother = trained(resnet("m", (1,), 4, 3, (2, 4, 4)))
    grown = hatched_of(mother, resnet("n", (2,), 6, 3, (2, 4, 4))).model
    assert shapes(grown, 7)[grown.outputs[0].name] == (7, 3)
    assert logits(grown, batch_for(grown, 0, 1)).shape == (1, 3)


def grown_weights(seed: int, name: str = "n") -> Mapping[str, Array]:
    mother = trained(vgg("m", [[(1, 3)], [(3, 3)]], 3, (2, 6, 6), (5,), batch_norm=True))
    member = vgg(name, [[(3, 7), (3, 8)], [(3, 7)]], 3, (2, 6, 6), (9,), batch_norm=True)
    return grow(mother, member, batch_for(mother, 0), Style(seed))[0].weights


def test_growth_depends_on_the_seed_and_the_name_of_the_member_alone() -> None:
    first, again = grown_weights(3), grown_weights(3)
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])


def test_two_seeds_and_two_names_give_different_shares() -> None:
    first = grown_weights(3)["conv2_1.weight"]
    assert not np.array_equal(first, grown_weights(4)["conv2_1.weight"])
    assert not np.array_equal(first, grown_weights(3, "other")["conv2_1.weight"])


def test_hatching_changes_neither_mother_nor_member() -> None:
    mother, member = trained(mlp("m", 4, (3,), 3)), mlp("n", 4, (8, 3), 3)
    copies = [(model, {name: array.copy() for name, array in model.weights.items()}) for model in (mother, member)]
    hatched_of(mother, member)
    for model, before in copies:
        for name, array in before.items():
            np.testing.assert_array_equal(model.weights[name], array)


def test_a_layer_behind_sigmoid_cannot_be_inserted() -> None:
    mother, member = mlp("m", 4, (5,), 3, "Sigmoid"), mlp("n", 4, (5, 5), 3, "Sigmoid")
    with pytest.raises(GraphError, match="share no mother"):
        planned([mother, member])
    with pytest.raises(GraphError, match="share no mother"):
        hatched_of(trained(mother), member)


def test_an_unknown_split_is_refused_with_what_there_is() -> None:
    mother = trained(mlp("m", 4, (3,), 3))
    with pytest.raises(GraphError, match="unknown split 'even': use one of random, equal"):
        hatched_of(mother, mlp("n", 4, (8,), 3), split="even")


def test_a_member_that_the_mother_does_not_fit_is_refused() -> None:
    with pytest.raises(GraphError, match="n cannot be grown from m"):
        hatched_of(trained(mlp("m", 4, (5,), 3)), mlp("n", 4, (4,), 3))


def shrunk(mother: Model, factor: float) -> Model:
    """What weight decay makes of a normalised network: the same function from far smaller weights."""
    return mother.with_weights(
        {name: np.float32(factor) * array for name, array in mother.weights.items() if array.ndim == 4}
    )


@pytest.mark.parametrize("factor", [1.0, 0.1, 0.004])
def test_shares_keep_the_size_of_the_mothers_rows(factor: float) -> None:
    members = [resnet("a", (1, 1, 1), 8, 10, (3, 8, 8)), resnet("b", (2, 2, 2), 12, 10, (3, 8, 8))]
    mother = shrunk(trained(planned(members)[0], 0), factor)
    assert hatched_of(mother, members[1]).certificate.passed


def test_reordering_channels_keeps_the_function_and_moves_the_weights() -> None:
    member = resnet("a", (1, 1, 1), 8, 10, (3, 8, 8))
    mother = trained(planned([member])[0], 0)
    other = reordered(mother, batch_for(mother, 1), 0)
    batch = batch_for(mother, 2)
    assert difference(logits(mother, batch), logits(other, batch)).passed
    assert any(not np.array_equal(mother.weights[name], other.weights[name]) for name in mother.weights)


@pytest.mark.parametrize("smaller_normalised", [False, True])
def test_members_with_and_without_normalisation_share_a_mother(smaller_normalised: bool, tmp_path: Path) -> None:
    blocks = ([[(3, 6)], [(3, 8)]], [[(3, 6), (3, 8)], [(3, 10)]])
    members = [
        vgg(name, shape, 5, (1, 8, 8), (12,), batch_norm=normalised)
        for name, shape, normalised in zip("ab", blocks, (smaller_normalised, not smaller_normalised), strict=True)
    ]
    path = tmp_path / "mother.onnx"
    write(trained(planned(members)[0], 0), path)
    mother = read(path)
    assert describe(mother).parameter_count == planned(members)[1].parameter_count, "she must come back as planned"
    for member in members:
        certificate = hatched_of(mother, member).certificate
        assert certificate.passed


def test_a_bias_is_taken_up_by_the_normalisation_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [vgg("a", [[(3, 6)]], 5, (1, 8, 8), (12,)), vgg("b", [[(3, 8)]], 5, (1, 8, 8), (12,), batch_norm=True)]
    mother = trained(planned(members)[0], 0)
    assert hatched_of(mother, members[1]).certificate.passed
    monkeypatch.setattr("mnx.graphs.growth.growing.Growing._behind", lambda *_: {})
    with pytest.raises(NotPreserved):
        hatched_of(mother, members[1])


def test_a_mother_answers_once_for_all_her_members(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [mlp(f"p{width}", 4, (width,), 3, batch_norm=True) for width in (5, 7, 9)]
    mother = trained(planned(members)[0])
    batches, asked = batches_for(mother), []
    logits_of = verify.logits

    def counted(model: Model, *rest: Any) -> Array:
        asked.append(model.name)
        return logits_of(model, *rest)

    monkeypatch.setattr(verify, "logits", counted)
    answers = Answers(mother, batches)
    alone = [hatched_of(mother, member).certificate for member in members]
    asked.clear()
    kept = [hatch(mother, member, batches, "real", 0, answers=answers).certificate for member in members]
    assert kept == alone
    assert asked.count(mother.name) == 2 * len(batches)


def test_a_mother_is_computed_in_float64_once_for_all_her_members(monkeypatch: pytest.MonkeyPatch) -> None:
    mother, batches = trained(mlp("m", 4, (5,), 3)), {EXTREME: batch_for(mlp("m", 4, (5,), 3), 1)}
    computed = []
    rule = verify.in_float64

    def counted(model: Model, *rest: Any) -> Any:
        computed.append(model.name)
        return rule(model, *rest)

    monkeypatch.setattr(verify, "in_float64", counted)
    monkeypatch.setattr(verify, "TOLERANCE", 0.0)
    monkeypatch.setattr(verify, "ROUNDING", 1e6)
    answers = Answers(mother, batches)
    for width in (7, 9):
        assert hatch(mother, mlp(f"p{width}", 4, (width,), 3), batches, EXTREME, 0, answers=answers).certificate.passed
    assert computed == [mother.name]


def test_the_answers_of_another_mother_are_no_proof() -> None:
    mother, member = trained(mlp("m", 4, (5,), 3)), mlp("n", 4, (7,), 3)
    batches = batches_for(mother)
    with pytest.raises(NotPreserved, match="n does not compute the function of m"):
        hatch(mother, member, batches, "real", 0, answers=Answers(trained(mother, 1), batches))


def test_fresh_channels_are_each_members_own_and_come_in_twos() -> None:
    mother = trained(mlp("m", 4, (3,), 3))
    style, batch = Style(fresh=1.0), batch_for(mother, 1)
    one, again, other = (grow(mother, mlp(name, 4, (9,), 3), batch, style)[0] for name in ("a", "a", "b"))
    rows = [model.weights["fc1.weight"] for model in (one, again, other)]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.isin(rows[0][3:], rows[2][3:]).any()
    np.testing.assert_array_equal(rows[0][3::2], rows[0][4::2])
    assert len(np.unique(rows[0][3:], axis=0)) == 3
    assert difference(logits(mother, batch), logits(other, batch)).passed
