"""The stopping rule: phases follow from the history of validation accuracies and nothing else."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_training import examples

from mnx.train.recipe import Recipe
from mnx.train.schedule import Phase, flat_since, next_phase

DONE = Phase(0.0, 0.0, done=True)
RISING = [number / 100 for number in range(100)]


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    epochs = draw(st.integers(1, 20))
    return Recipe(
        lr=draw(st.floats(1e-6, 99)),
        epochs=epochs,
        anneal=draw(st.integers(0, epochs - 1)),
        warmup=draw(st.integers(0, 25)),
        grace=draw(st.integers(0, 25)),
        patience=draw(st.integers(1, 6)),
        patience_share=draw(st.floats(0, 0.99)),
        mother_patience=draw(st.integers(1, 6)),
    )


def phases(recipe: Recipe, accuracies: list[float], fresh: bool = False, anneal: bool = True) -> list[Phase]:
    """The phase of every epoch until it is done, where these are the accuracies after each."""
    found: list[Phase] = []
    while not (phase := next_phase(recipe, accuracies[: len(found)], fresh, anneal)).done:
        found.append(phase)
    return found


def test_warm_up_rises_from_zero_to_the_learning_rate() -> None:
    recipe = Recipe(lr=0.4, epochs=10, warmup=2, anneal=2)
    found = phases(recipe, RISING, fresh=True)
    assert found[:3] == [Phase(0.0, 0.2), Phase(0.2, 0.4), Phase(0.4, 0.4)]
    assert [found[0].lr(step, 4) for step in range(4)] == pytest.approx([0.0, 0.05, 0.1, 0.15])


def test_a_hatched_network_has_no_warm_up() -> None:
    assert phases(Recipe(lr=0.4, epochs=10, warmup=2), RISING, fresh=False)[0] == Phase(0.4, 0.4)


def test_a_network_that_learns_on_takes_all_epochs_and_falls_to_zero() -> None:
    recipe = Recipe(lr=0.4, epochs=10, anneal=4, warmup=0)
    found = phases(recipe, RISING)
    assert found[:6] == [Phase(0.4, 0.4)] * 6
    assert [phase.first for phase in found[6:]] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert [phase.last for phase in found[6:]] == pytest.approx([0.3, 0.2, 0.1, 0.0])
    assert found[-1].last == 0


def test_patience_ends_the_constant_phase() -> None:
    recipe = Recipe(epochs=60, patience=3, patience_share=0.0, anneal=2, warmup=0)
    accuracies = [0.1, 0.5, 0.5, 0.4, 0.5, *RISING]
    assert next_phase(recipe, accuracies[:4], False, True) == Phase(recipe.lr, recipe.lr)
    assert next_phase(recipe, accuracies[:5], False, True) == Phase(recipe.lr, recipe.lr / 2)
    assert len(phases(recipe, accuracies)) == 5 + 2


def test_an_equal_accuracy_is_no_progress_and_a_better_one_is() -> None:
    assert flat_since([]) == 0
    assert flat_since([0.5]) == 0
    assert flat_since([0.5, 0.5, 0.5]) == 2
    assert flat_since([0.5, 0.4, 0.6]) == 0


def test_patience_grows_with_the_epochs_so_far() -> None:
    recipe = Recipe(epochs=60, patience=2, patience_share=0.5, anneal=0, warmup=0)
    accuracies = [0.01 * number for number in range(1, 11)] + [0.0] * 50
    # the best is epoch 10; after epoch n it is n - 10 epochs old, and half of n is asked
    assert len(phases(recipe, accuracies)) == 20


def test_a_mother_has_her_own_patience_and_does_not_anneal() -> None:
    recipe = Recipe(epochs=60, patience=2, mother_patience=5, patience_share=0.0, anneal=4, warmup=0)
    flat = [0.5] * 60
    assert len(phases(recipe, flat, anneal=True)) == 1 + 2 + 4
    mother = phases(recipe, flat, anneal=False)
    assert mother == [Phase(recipe.lr, recipe.lr)] * (1 + 5)
    assert len(phases(recipe, RISING, anneal=False)) == 60


@pytest.mark.parametrize(("warmup", "grace"), [(6, 0), (0, 6), (2, 6), (6, 2)])
def test_warm_up_and_grace_do_not_try_the_patience(warmup: int, grace: int) -> None:
    recipe = Recipe(epochs=60, patience=2, patience_share=0.0, anneal=0, warmup=warmup, grace=grace)
    assert phases(recipe, [0.5] * 60, fresh=True)[6:] == [Phase(recipe.lr, recipe.lr)] * 2


def test_a_hatched_network_has_no_grace() -> None:
    recipe = Recipe(epochs=60, patience=2, patience_share=0.0, anneal=0, grace=6)
    assert len(phases(recipe, [0.5] * 60, fresh=False)) == 1 + 2


def test_no_falling_phase_is_done_at_once() -> None:
    recipe = Recipe(epochs=3, anneal=0, warmup=0)
    assert next_phase(recipe, RISING[:3], False, True) == DONE


@examples(200)
@given(recipes(), st.lists(st.floats(0, 1), min_size=20, max_size=20), st.booleans(), st.booleans())
def test_a_resumed_network_goes_through_the_same_phases(
    recipe: Recipe, accuracies: list[float], fresh: bool, anneal: bool
) -> None:
    found = phases(recipe, accuracies, fresh, anneal)
    assert 1 <= len(found) <= recipe.epochs
    for epoch, phase in enumerate(found):
        assert next_phase(recipe, list(accuracies[:epoch]), fresh, anneal) == phase
    for epoch in range(len(found), 21):
        assert next_phase(recipe, accuracies[:epoch], fresh, anneal).done


@examples(200)
@given(recipes(), st.lists(st.floats(0, 1), min_size=20, max_size=20), st.booleans(), st.integers(1, 7))
def test_the_learning_rate_stays_between_zero_and_the_recipe(
    recipe: Recipe, accuracies: list[float], fresh: bool, steps: int
) -> None:
    for anneal in (False, True):
        found = phases(recipe, accuracies, fresh, anneal)
        rates = [phase.lr(step, steps) for phase in found for step in range(steps)]
        rates += [rate for phase in found for rate in (phase.first, phase.last)]
        assert all(0 <= rate <= recipe.lr for rate in rates)
        if anneal and recipe.anneal:
            assert found[-1].last == 0
            falling = found[-recipe.anneal :]
            assert falling[0].first == recipe.lr
            assert all(one.last == pytest.approx(two.first) for one, two in pairwise(falling))
