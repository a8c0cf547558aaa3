"""The forecast: what it counts, what it assumes, when mothering pays, and how near it came to what was measured."""

import json
from dataclasses import astuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import opened, planned
from small_training import examples

from mnx.cluster import by_tau
from mnx.errors import MnxError
from mnx.forecast import ASSUMED, MEASURED, Epochs, examples_of, forecast, limited, measured, passes_of, planned_passes
from mnx.graphs.mothers.mother import stand_in
from mnx.graphs.zoo.ensembles import ensemble
from mnx.methods.mothernets import train_mothers
from mnx.session import FORWARD_AND_BACKWARD
from mnx.train.recipe_files import recipe

NUMBERS = st.floats(0.5, 100)
PASSES = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.tuples(st.integers(1, 10**9), st.lists(st.integers(1, 10**9), min_size=1, max_size=4).map(tuple)),
    min_size=1,
    max_size=3,
)


def test_the_price_of_a_cluster() -> None:
    found = forecast({"c": (10, (12, 20))}, Epochs(scratch=5, mother=4, member=2), examples=100, rate=1000)
    price = found.clusters["c"]
    assert price.mothers == FORWARD_AND_BACKWARD * 100 * 4 * 10
    assert price.members == FORWARD_AND_BACKWARD * 100 * 2 * 32
    assert price.scratch == FORWARD_AND_BACKWARD * 100 * 5 * 32
    assert price.share == price.total / price.scratch == pytest.approx(104 / 160)
    assert found.seconds(price.total) == price.total / 1000
    assert found.pays


def test_no_more_epochs_are_assumed_than_the_recipe_allows() -> None:
    assert limited(recipe({"epochs": "1000"})) == ASSUMED
    assert limited(recipe({"epochs": "2"})) == Epochs(2, 2, 2)
    assert limited(recipe({"mothers.epochs": "5"})) == Epochs(ASSUMED.scratch, 5, ASSUMED.member)


@examples(40)
@given(PASSES, st.builds(Epochs, NUMBERS, NUMBERS, NUMBERS), st.integers(1, 10**6))
def test_shares_do_not_depend_on_the_data_and_clusters_add_up(
    passes: dict[str, tuple[int, tuple[int, ...]]], epochs: Epochs, count: int
) -> None:
    one, many = forecast(passes, epochs), forecast(passes, epochs, count)
    assert one.total.share == pytest.approx(many.total.share)
    assert many.total.total == pytest.approx(sum(price.total for price in many.clusters.values()))
    assert one.least is one.most is None
    assumed = forecast(passes)
    assert assumed.least is not None and assumed.most is not None
    assert assumed.least <= assumed.most
    assert one.seconds(1) is None and forecast(passes, rate=3).seconds(1) is None


def test_mothers_without_company_do_not_pay() -> None:
    members = [stand_in(model) for model in ensemble("mlp")]
    alone = forecast(passes_of(by_tau(members, 1.0)))
    assert not alone.pays
    assert alone.to_json()["pays"] is False
    assert forecast(passes_of(by_tau(members, 0.1))).total.share < alone.total.share


def test_what_is_assumed_is_the_mean_of_what_was_measured() -> None:
    for column, value in zip(zip(*map(astuple, MEASURED.values()), strict=True), astuple(ASSUMED), strict=True):
        assert round(min(column)) <= value <= round(max(column))
        assert value == round(sum(column) / len(column))


def test_the_forecast_of_a_measured_run_comes_near() -> None:
    """The demo in the README: 68 % of the multiply-adds were measured."""
    members = [stand_in(model) for model in ensemble("v5-bn")]
    (epochs,) = [each for name, each in MEASURED.items() if name.startswith("digits")]
    assert forecast(passes_of(by_tau(members, 0.5)), epochs).total.share == pytest.approx(0.68, abs=0.05)


def test_a_plan_and_its_clusters_cost_the_same(tmp_path: Path) -> None:
    run = planned(tmp_path)
    plan = run.plan()
    [(mother, members)] = planned_passes(plan).values()
    assert mother == plan.clusters[0].multiply_adds
    assert sorted(members) == sorted(member.multiply_adds for member in plan.members)


def test_examples_are_those_of_the_training_part(tmp_path: Path) -> None:
    plan = planned(tmp_path).plan()
    assert examples_of("digits", plan, 600) == 540
    assert examples_of("digits", plan) > 1000
    with pytest.raises(MnxError, match="did you mean digits"):
        examples_of("digit", plan)


def test_a_run_that_has_trained_knows_its_rate_and_examples(tmp_path: Path) -> None:
    run = planned(tmp_path)
    assert measured(run) == (None, None)
    session = opened(run)
    train_mothers(session)
    with run.events_file.open("a") as file:
        file.write('{"event": "trai')  # torn by a kill
    count, rate = measured(run)
    [record] = [
        json.loads(line) for line in run.events_file.read_text().splitlines()[:-1] if '"event": "trained"' in line
    ]
    assert rate == record["multiply_adds"] / record["seconds"]
    training = run.training("mothers", "cluster1")
    assert training is not None
    assert count == training.samples / len(training.epochs)
