"""The recipe: every key is refused outside its range, by name, and text is read as the command line gives it."""

import dataclasses
import re
from typing import Any

import pytest

from mnx.errors import MnxError
from mnx.train.recipe import RANGES, Recipe, recipe

NAN, INF = float("nan"), float("inf")

ILLEGAL: dict[str, list[Any]] = {
    "lr": [0.0, -0.1, 100.0, NAN, INF],
    "batch": [0, -1],
    "epochs": [0, -3],
    "grace": [-1],
    "patience": [0],
    "patience_share": [-0.1, 1.0, NAN],
    "mother_patience": [0],
    "anneal": [-1],
    "warmup": [-1],
    "momentum": [-0.1, 1.0, NAN],
    "weight_decay": [-1e-9, 1.0, NAN, INF],
    "clip_norm": [-1.0, INF, NAN],
    "label_smoothing": [-0.1, 1.0, NAN],
}

LEGAL: dict[str, list[Any]] = {
    "lr": [1e-9, 99.0],
    "batch": [1, 10**6],
    "epochs": [5],
    "grace": [0, 100],
    "patience": [1],
    "patience_share": [0.0, 0.99],
    "mother_patience": [1],
    "anneal": [0, 59],
    "warmup": [0],
    "nesterov": [False],
    "carry": [False],
    "momentum": [0.1, 0.99],
    "weight_decay": [0.0, 0.5],
    "clip_norm": [0.0, 1e9],
    "label_smoothing": [0.0, 0.5],
}

WRONG_TYPE = {"lr": "fast", "batch": "12.5", "epochs": "", "patience": "three", "anneal": "1e2", "momentum": "0,9"}


def pairs(values: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(key, value) for key, each in values.items() for value in each]


def test_every_key_is_tried_here() -> None:
    keys = {field.name for field in dataclasses.fields(Recipe)}
    assert set(LEGAL) == keys
    assert set(ILLEGAL) == set(RANGES) == keys - {"nesterov", "carry"}


@pytest.mark.parametrize(("key", "value"), pairs(ILLEGAL))
def test_a_value_out_of_range_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(MnxError, match=rf"recipe: {key} = {value}: give .+"):
        dataclasses.replace(Recipe(), **{key: value})
    with pytest.raises(MnxError, match=rf"recipe: {key} = {value}: give .+"):
        recipe({key: str(value), "anneal": "0"} if key == "epochs" else {key: str(value)})


@pytest.mark.parametrize(("key", "value"), pairs(LEGAL))
def test_a_legal_value_is_taken_from_text(key: str, value: Any) -> None:
    found = getattr(recipe({key: str(value)}), key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("key", "text"), WRONG_TYPE.items())
def test_text_of_another_type_is_refused_with_what_to_give(key: str, text: str) -> None:
    with pytest.raises(MnxError, match=re.escape(f"recipe: {key} = {text}: give {RANGES[key][1]}")):
        recipe({key: text})


def test_truth_is_true_or_false() -> None:
    assert [recipe({"nesterov": text}).nesterov for text in ("true", "False")] == [True, False]
    with pytest.raises(MnxError, match="recipe: nesterov = yes: give true or false"):
        recipe({"nesterov": "yes"})


def test_an_unknown_key_is_refused_with_those_there_are() -> None:
    with pytest.raises(MnxError, match=r"unknown key 'learning_rate'; there are lr, batch, epochs, .*label_smoothing"):
        recipe({"learning_rate": "0.1"})


def test_no_settings_are_the_defaults() -> None:
    assert recipe() == recipe({}) == Recipe()


def test_the_falling_phase_must_leave_epochs_before_it() -> None:
    with pytest.raises(MnxError, match="anneal = 5 must be less than epochs = 5"):
        recipe({"epochs": "5", "anneal": "5"})


@pytest.mark.parametrize(("epochs", "anneal"), [(1, 0), (2, 1), (3, 1), (8, 4), (200, 4)])
def test_few_epochs_alone_shorten_the_falling_phase(epochs: int, anneal: int) -> None:
    found = recipe({"epochs": str(epochs)})
    assert (found.epochs, found.anneal) == (epochs, anneal)


def test_nesterov_without_momentum_is_refused_before_training() -> None:
    with pytest.raises(MnxError, match=r"momentum = 0 .*give nesterov = false too"):
        recipe({"momentum": "0"})
    assert recipe({"momentum": "0", "nesterov": "false"}).step().momentum == 0


def test_the_step_gets_what_the_recipe_says() -> None:
    step = recipe({"momentum": "0.8", "nesterov": "false", "weight_decay": "0.01", "label_smoothing": "0.2"}).step()
    assert (step.momentum, step.nesterov, step.weight_decay, step.label_smoothing) == (0.8, False, 0.01, 0.2)
    assert step.clip_norm == Recipe().clip_norm
    assert recipe({"clip_norm": "0"}).step().clip_norm is None


def test_what_is_written_reads_back_the_same() -> None:
    odd = Recipe(lr=0.1 + 0.2, epochs=7, anneal=1, nesterov=False, weight_decay=1 / 3)
    assert recipe({key: str(value) for key, value in odd.to_json().items()}) == odd
