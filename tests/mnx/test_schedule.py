"""The stopping rule: phases follow from the history of validation accuracies and nothing else."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_training import examples

from mnx.train.recipe import SCHEDULES, Recipe
from mnx.train.schedule import DONE, SHAPES, Phase, cycle_ends, flat_since, next_phase

RISING = [number / 100 for number in range(100)]


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    epochs = draw(st.integers(1, 20))
    return Recipe(
        lr=draw(st.floats(1e-6, 99)),
        epochs=epochs,
        anneal=draw(st.integers(0, 20)),
        warmup=draw(st.integers(0, 25)),
        grace=draw(st.integers(0, 25)),
        patience=draw(st.integers(1, 6)),
        patience_share=draw(st.floats(0, 0.99)),
        schedule=draw(st.sampled_from(SCHEDULES)),
        cycle=draw(st.integers(1, 6)),
        settle=draw(st.floats(0, 0.99)),
        peak=draw(st.floats(0, 1)),
    )


def phases(recipe: Recipe, scores: list[float], most: int | None = None) -> list[Phase]:
    """The phase of every epoch until it is done, where these are the scores after each."""
    found: list[Phase] = []
    while not (phase := next_phase(recipe, scores[: len(found)], most)).done:
        found.append(phase)
    return found


def test_warm_up_rises_from_zero_to_the_learning_rate() -> None:
    recipe = Recipe(lr=0.4, epochs=10, warmup=2, anneal=2)
    found = phases(recipe, RISING)
    assert found[:3] == [Phase(0.0, 0.2), Phase(0.2, 0.4), Phase(0.4, 0.4)]
    assert [found[0].lr(step, 4) for step in range(4)] == pytest.approx([0.0, 0.05, 0.1, 0.15])


def test_a_hatched_network_has_no_warm_up() -> None:
    assert phases(Recipe(lr=0.4, epochs=10).of("members"), RISING)[0] == Phase(0.4, 0.4)


def test_a_network_that_learns_on_takes_all_epochs_and_falls_to_zero() -> None:
    recipe = Recipe(lr=0.4, epochs=10, anneal=4, warmup=0)
    found = phases(recipe, RISING)
    assert found[:6] == [Phase(0.4, 0.4)] * 6
    assert [phase.first for phase in found[6:]] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert [phase.last for phase in found[6:]] == pytest.approx([0.3, 0.2, 0.1, 0.0])
    assert found[-1].last == 0


def test_patience_ends_the_constant_phase() -> None:
    recipe = Recipe(epochs=60, patience=3, patience_share=0.0, anneal=2, warmup=0, grace=0)
    accuracies = [0.1, 0.5, 0.5, 0.4, 0.5, *RISING]
    assert next_phase(recipe, accuracies[:4]) == Phase(recipe.lr, recipe.lr)
    assert next_phase(recipe, accuracies[:5]) == Phase(recipe.lr, recipe.lr / 2)
    assert len(phases(recipe, accuracies)) == 5 + 2


def test_an_equal_accuracy_is_no_progress_and_a_better_one_is() -> None:
    assert flat_since([]) == 0
    assert flat_since([0.5]) == 0
    assert flat_since([0.5, 0.5, 0.5]) == 2
    assert flat_since([0.5, 0.4, 0.6]) == 0


def test_patience_grows_with_the_epochs_so_far() -> None:
    recipe = Recipe(epochs=60, patience=2, patience_share=0.5, anneal=0, warmup=0, grace=0)
    accuracies = [0.01 * number for number in range(1, 11)] + [0.0] * 50
    # the best is epoch 10; after epoch n it is n - 10 epochs old, and half of n is asked
    assert len(phases(recipe, accuracies)) == 20


def test_a_mother_has_her_own_patience_and_does_not_anneal() -> None:
    recipe = Recipe(epochs=60, patience=2, patience_share=0.0, anneal=4, warmup=0, grace=0)
    flat = [0.5] * 60
    assert len(phases(recipe, flat)) == 1 + 2 + 4
    mother = phases(replace(recipe, patience=5, anneal=0), flat)
    assert mother == [Phase(recipe.lr, recipe.lr)] * (1 + 5)
    assert Recipe().of("mothers").patience > Recipe().of("members").patience
    assert (Recipe().of("mothers").anneal, Recipe().of("members").anneal) == (0, 4)


@pytest.mark.parametrize(("warmup", "grace"), [(6, 0), (0, 6), (2, 6), (6, 2)])
def test_warm_up_and_grace_do_not_try_the_patience(warmup: int, grace: int) -> None:
    recipe = Recipe(epochs=60, patience=2, patience_share=0.0, anneal=0, warmup=warmup, grace=grace)
    assert phases(recipe, [0.5] * 60)[6:] == [Phase(recipe.lr, recipe.lr)] * 2


def test_a_hatched_network_has_no_grace() -> None:
    recipe = Recipe(epochs=60, patience=2, patience_share=0.0, anneal=0, grace=6).of("members")
    assert len(phases(recipe, [0.5] * 60)) == 1 + 2


def test_no_falling_phase_is_done_at_once() -> None:
    recipe = Recipe(epochs=3, anneal=0, warmup=0)
    assert next_phase(recipe, RISING[:3]) == DONE


@pytest.mark.parametrize(("epochs", "falling"), [(1, 0), (2, 1), (3, 1), (8, 4), (200, 4)])
def test_few_epochs_shorten_the_falling_phase(epochs: int, falling: int) -> None:
    recipe = Recipe(epochs=epochs, warmup=0, patience=200)
    found = phases(recipe, [number / 200 for number in range(200)])
    assert len(found) == epochs
    assert sum(phase.last < recipe.lr for phase in found) == falling


def test_budgets_shorten_every_schedule() -> None:
    for schedule in SCHEDULES:
        found = phases(Recipe(epochs=20, schedule=schedule, warmup=0), RISING, most=7)
        assert len(found) == 7
        if schedule in ("plateau", "linear", "cosine", "one-cycle"):
            assert found[-1].lr(99, 100) < 0.02


def rates(recipe: Recipe, steps: int = 4) -> list[float]:
    """The rate of every step, as a share of the highest."""
    found = phases(recipe, RISING)
    return [phase.lr(step, steps) / recipe.lr for phase in found for step in range(steps)]


def test_schedules_are_functions_of_the_step() -> None:
    plain = Recipe(epochs=4, warmup=0)
    assert rates(replace(plain, schedule="constant")) == [1.0] * 16
    assert rates(replace(plain, schedule="linear")) == pytest.approx([1 - step / 16 for step in range(16)])
    expected = [(1 + math.cos(math.pi * step / 16)) / 2 for step in range(16)]
    assert rates(replace(plain, schedule="cosine")) == pytest.approx(expected)
    expected = [step / 4 for step in range(4)] + [1 - step / 12 for step in range(12)]
    assert rates(replace(plain, schedule="one-cycle", peak=0.25)) == pytest.approx(expected)
    assert rates(replace(plain, schedule="step", gamma=0.5)) == [1.0] * 8 + [0.5] * 4 + [0.25] * 4
    cosine = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert rates(replace(plain, schedule="cycles", cycle=2)) == pytest.approx(cosine * 2)
    line = [max(0.01, 1 - step / 4) for step in range(4)]
    assert rates(replace(plain, schedule="triangles", cycle=1, settle=0.5)) == pytest.approx([1.0] * 8 + line * 2)


@pytest.mark.parametrize("schedule", [each for each in SCHEDULES if each != "one-cycle"])
def test_every_schedule_warms_up(schedule: str) -> None:
    recipe = Recipe(epochs=8, warmup=0.5, schedule=schedule)
    flat = replace(recipe, warmup=0)
    if schedule == "plateau":
        return  # rises by whole epochs
    assert rates(recipe)[:2] == pytest.approx([0.0, 0.5 * rates(flat)[1]])
    assert rates(recipe)[2:] == pytest.approx(rates(flat)[2:])


def test_cycles_end_where_the_rate_is_least() -> None:
    assert cycle_ends(Recipe(schedule="cycles", cycle=3), 9) == [3, 6, 9]
    assert cycle_ends(Recipe(schedule="cycles", cycle=4), 9) == [4, 8, 9]
    assert cycle_ends(Recipe(schedule="triangles", cycle=2, settle=0.5), 10) == [7, 9, 10]
    assert cycle_ends(Recipe(), 10) == []


def test_every_schedule_has_a_shape() -> None:
    assert set(SHAPES) == set(SCHEDULES)


@examples(200)
@given(recipes(), st.lists(st.floats(0, 1), min_size=20, max_size=20))
def test_a_resumed_network_goes_through_the_same_phases(recipe: Recipe, scores: list[float]) -> None:
    found = phases(recipe, scores)
    assert 1 <= len(found) <= recipe.epochs
    for epoch, phase in enumerate(found):
        again = next_phase(recipe, list(scores[:epoch]))
        assert again == phase
        assert [again.lr(step, 3) for step in range(3)] == [phase.lr(step, 3) for step in range(3)]
    for epoch in range(len(found), 21):
        assert next_phase(recipe, scores[:epoch]).done


@examples(200)
@given(recipes(), st.lists(st.floats(0, 1), min_size=20, max_size=20), st.integers(1, 7))
def test_the_learning_rate_stays_between_zero_and_the_recipe(recipe: Recipe, scores: list[float], steps: int) -> None:
    found = phases(recipe, scores)
    rates = [phase.lr(step, steps) for phase in found for step in range(steps)]
    rates += [rate for phase in found for rate in (phase.first, phase.last)]
    assert all(0 <= rate <= recipe.lr * (1 + 1e-12) for rate in rates)
    falling = min(recipe.anneal, recipe.epochs // 2)
    if recipe.schedule == "plateau" and falling:
        assert found[-1].last == 0
        assert found[-falling].first == recipe.lr or recipe.warmup
        assert all(one.last == pytest.approx(two.first) for one, two in pairwise(found[-falling:]))
