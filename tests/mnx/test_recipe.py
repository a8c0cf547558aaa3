"""The recipe: every key is refused outside its range, by name, and text is read as the command line gives it."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from mnx.errors import MnxError
from mnx.train.augment import Augmentation
from mnx.train.recipe import RANGES, SCHEDULES, STAGES, Recipe, in_words
from mnx.train.recipe_files import from_document, from_toml, names, recipe, text_of
from mnx.train.settings import StepSettings

NAN, INF = float("nan"), float("inf")

ILLEGAL: dict[str, list[Any]] = {
    "lr": [0.0, -0.1, 100.0, NAN, INF],
    "batch": [-1],
    "accumulate": [0],
    "optimiser": ["adam", ""],
    "momentum": [-0.1, 1.0, NAN],
    "beta2": [-0.1, 1.0, NAN],
    "epsilon": [0.0, 1.0, NAN],
    "weight_decay": [-1e-9, 1.0, NAN, INF],
    "clip_norm": [-1.0, INF, NAN],
    "average": [-0.1, 1.0, NAN],
    "loss": ["hinge", "distillation"],
    "label_smoothing": [-0.1, 1.0, NAN],
    "distillation": [-0.1, 1.1, NAN],
    "temperature": [0.0, INF, NAN],
    "class_weights": ["heavy", "1,,2", "1,-2", "1,nan", "0,0", "1,inf", "1e7"],
    "schedule": ["cosines"],
    "warmup": [-1.0, INF, NAN],
    "epochs": [0, -3],
    "seconds": [-1.0, INF, NAN],
    "multiply_adds": [-1.0, INF, NAN],
    "watch": ["loss"],
    "grace": [-1],
    "patience": [0],
    "patience_share": [-0.1, 1.0, NAN],
    "anneal": [-1],
    "peak": [-0.1, 1.1, NAN],
    "milestones": [(0.5, 0.2), (0.0,), (1.0,), (NAN,)],
    "gamma": [0.0, 1.1, NAN],
    "cycle": [0],
    "settle": [-0.1, 1.0, NAN],
    "crop": [-1.0, -0.1, 1.5, INF, NAN],
    "mirror": ["on"],
    "cutout": [-1],
    "mixup": [-0.1, INF, NAN],
    "retries": [-1],
    "retry_rate": [0.0, 1.0, NAN],
}

LEGAL: dict[str, list[Any]] = {
    "lr": [1e-9, 99.0],
    "batch": [0, 1, 10**6],
    "accumulate": [1, 32],
    "optimiser": ["sgd", "adamw"],
    "momentum": [0.1, 0.99],
    "nesterov": [False],
    "beta2": [0.0, 0.95],
    "epsilon": [1e-12],
    "weight_decay": [0.0, 0.5],
    "clip_norm": [0.0, 1e9],
    "average": [0.0, 0.999],
    "frozen_norm": [True],
    "loss": ["auto", "cross-entropy", "binary", "mse", "mae"],
    "label_smoothing": [0.0, 0.5],
    "teacher": ["/somewhere/teacher.onnx"],
    "distillation": [0.0, 1.0],
    "temperature": [0.5, 20.0],
    "class_weights": ["none", "balanced", "1, 2.5, 0", "0.5"],
    "schedule": list(SCHEDULES),
    "warmup": [0.0, 2.5],
    "epochs": [5],
    "seconds": [0.0, 60.5],
    "multiply_adds": [0.0, 1e15],
    "watch": ["training"],
    "grace": [0, 100],
    "patience": [1],
    "patience_share": [0.0, 0.99],
    "anneal": [0, 59],
    "peak": [0.0, 1.0],
    "milestones": [(), (0.5,), (0.25, 0.5, 0.75)],
    "gamma": [1.0, 0.1],
    "cycle": [1],
    "settle": [0.0, 0.9],
    "average_cycles": [False],
    "snapshots": [False],
    "crop": [0.0, 4.0, 0.25],
    "mirror": ["off", "random", "alternating"],
    "cutout": [0, 8],
    "mixup": [0.0, 0.2],
    "identity": [False],
    "retries": [0, 3],
    "retry_rate": [0.1],
    "carry": [False],
}

WRONG_TYPE = {
    "lr": "fast",
    "batch": "12.5",
    "epochs": "",
    "patience": "three",
    "anneal": "1e2",
    "momentum": "0,9",
    "milestones": "half",
}


def pairs(values: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(key, value) for key, each in values.items() for value in each]


def test_every_key_is_tried_here() -> None:
    keys = {field.name for field in dataclasses.fields(Recipe)} - {"stages"}
    assert set(LEGAL) == keys
    truths = {key for key in keys if isinstance(getattr(Recipe(), key), bool)}
    assert set(ILLEGAL) == set(RANGES) - {"teacher"} == keys - truths - {"teacher"}  # any path is legal


@pytest.mark.parametrize(("key", "value"), pairs(ILLEGAL))
def test_a_value_out_of_range_is_refused_by_name(key: str, value: Any) -> None:
    message = re.escape(f"recipe: {key} = {in_words(value)}: give ")
    with pytest.raises(MnxError, match=message):
        dataclasses.replace(Recipe(), **{key: value})
    with pytest.raises(MnxError, match=message):
        recipe({key: in_words(value)})
    with pytest.raises(MnxError, match=message + r".*\(in stage members\)"):
        recipe({f"members.{key}": in_words(value)})


@pytest.mark.parametrize(("key", "value"), pairs(LEGAL))
def test_a_legal_value_is_taken_from_text(key: str, value: Any) -> None:
    found = recipe({key: in_words(value)})
    for each in (found, *(found.of(stage) for stage in STAGES)):
        assert getattr(each, key) == value
        assert type(getattr(each, key)) is type(value)
    assert getattr(recipe({f"mothers.{key}": in_words(value)}).of("mothers"), key) == value


@pytest.mark.parametrize(("key", "text"), WRONG_TYPE.items())
def test_text_of_another_type_is_refused_with_what_to_give(key: str, text: str) -> None:
    with pytest.raises(MnxError, match=re.escape(f"recipe: {key} = {text}: give {RANGES[key][1]}")):
        recipe({key: text})


def test_truth_is_true_or_false() -> None:
    assert [recipe({"nesterov": text}).nesterov for text in ("true", "False")] == [True, False]
    with pytest.raises(MnxError, match="recipe: nesterov = yes: give true or false"):
        recipe({"nesterov": "yes"})


def test_an_unknown_key_is_refused_with_those_there_are() -> None:
    with pytest.raises(MnxError, match=r"unknown key 'learning_rate'; there are lr, batch, .*, epochs, .*carry"):
        recipe({"learning_rate": "0.1"})


def test_no_settings_are_the_defaults() -> None:
    assert recipe() == recipe({}) == Recipe()


def test_nesterov_without_momentum_is_refused_before_training() -> None:
    with pytest.raises(MnxError, match=r"momentum = 0 .*give nesterov = false too"):
        recipe({"momentum": "0"})
    assert recipe({"momentum": "0", "nesterov": "false"}).step().momentum == 0


def test_the_step_gets_what_the_recipe_says() -> None:
    step = recipe({"momentum": "0.8", "nesterov": "false", "weight_decay": "0.01", "label_smoothing": "0.2"}).step()
    assert (step.momentum, step.nesterov, step.weight_decay, step.label_smoothing) == (0.8, False, 0.01, 0.2)
    assert step.clip_norm == Recipe().clip_norm
    assert recipe({"clip_norm": "0"}).step().clip_norm is None


def test_everything_the_step_must_know_comes_from_the_recipe() -> None:
    given = recipe({"optimiser": "adamw", "average": "0.9", "accumulate": "4", "frozen_norm": "true", "mixup": "0.2"})
    step = given.step("labels", "binary")
    assert (step.optimiser, step.average, step.accumulate, step.frozen_norm) == ("adamw", 0.9, 4, True)
    assert (step.task, step.loss, step.mixup, step.nesterov) == ("labels", "binary", True, False)
    assert recipe({"loss": "mae"}).step("numbers", "mse").loss == "mae"


def test_balanced_class_weights_are_those_of_scikit_learn() -> None:
    step = recipe({"class_weights": "balanced"}).step(counts=[10, 30, 0, 40])
    assert step.class_weights == pytest.approx((80 / (3 * 10), 80 / (3 * 30), 0.0, 80 / (3 * 40)))
    with pytest.raises(MnxError, match="balanced needs labels that are classes"):
        recipe({"class_weights": "balanced"}).step("numbers", "mse")
    with pytest.raises(MnxError, match="class_weights = 1,2 needs labels that are classes"):
        recipe({"class_weights": "1,2"}).step("numbers", "mse")
    assert recipe({"class_weights": "1, 0.5,2"}).step(counts=[1, 1, 1]).class_weights == (1, 0.5, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulate": "64"}, r"batch = 0 \(one of 32, 64, 128\) cannot be taken in accumulate = 64 equal parts"),
        ({"batch": "10", "accumulate": "3"}, "batch = 10 cannot be taken in accumulate = 3 equal parts"),
        ({"average_cycles": "true"}, "average_cycles = true needs the schedule cycles or triangles"),
        ({"snapshots": "true"}, "snapshots = true needs the schedule cycles or triangles"),
        ({"members.snapshots": "true"}, r"snapshots = true needs the schedule .*\(in stage members\)"),
        (
            {"schedule": "triangles", "members.snapshots": "true", "average_cycles": "true"},
            r"average_cycles = true only their mean: give one of the two  \(in stage members\)",
        ),
        (
            {"mothers.schedule": "cycles", "mothers.snapshots": "true"},
            "mothers.snapshots = true: a mother is no member of the ensemble; give members.snapshots or independent",
        ),
        (
            {"members.identity": "true"},
            "members.identity = true: a hatched member begins as her mother ends; give mothers.identity or independent",
        ),
        ({"mother.lr": "1"}, "no stage 'mother'; there are mothers, members, independent"),
        ({"members.speed": "1"}, "unknown key 'members.speed'; there are lr"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(MnxError, match=message):
        recipe(settings)


def test_a_key_for_all_is_one_for_every_stage() -> None:
    assert Recipe().of("mothers").anneal == 0
    assert recipe({"anneal": "7"}).of("mothers").anneal == 7
    assert recipe({"members.anneal": "7"}).of("mothers").anneal == 0


def test_snapshots_are_members_own() -> None:
    given = {"schedule": "cycles", "snapshots": "true", "mothers.schedule": "plateau"}
    assert {stage: recipe(given).of(stage).snapshots for stage in STAGES} == {
        "mothers": False,
        "members": True,
        "independent": True,
    }
    text = '[members]\nschedule = "triangles"\nsnapshots = true\n'
    assert [from_toml(text, "mine.toml").of(stage).snapshots for stage in STAGES] == [False, True, False]


def test_hatched_members_have_no_fresh_weights() -> None:
    assert [recipe({}).of(stage).identity for stage in STAGES] == [True, False, True]
    assert [recipe(source="paper").of(stage).identity for stage in STAGES] == [False, False, False]


@pytest.mark.parametrize("odd", [Recipe(), Recipe(lr=0.1 + 0.2, epochs=7, milestones=(1 / 3,), stages={})], ids=str)
def test_what_is_written_reads_back_the_same(odd: Recipe) -> None:
    assert from_document(json.loads(json.dumps(odd.to_json()))) == odd


def test_the_default_is_the_file_of_that_name() -> None:
    assert recipe(source="default") == Recipe()


@pytest.mark.parametrize("name", names())
def test_every_recipe_that_comes_with_mnx_can_be_used(name: str) -> None:
    found = recipe(source=name)
    for stage in STAGES:
        assert isinstance(found.of(stage).step(), StepSettings)
    assert text_of(name).startswith("# ")


def test_a_file_is_read_with_its_stages_and_keys_may_be_set_on_top(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("lr = 0.3\nanneal = 2\nmilestones = [0.5]\n[members]\nlr = 1\nepochs = 3\n", encoding="utf-8")
    found = recipe({"batch": "7"}, str(path))
    assert (found.lr, found.batch, found.milestones) == (0.3, 7, (0.5,))
    assert (found.of("members").lr, found.of("members").epochs) == (1.0, 3)
    # what the file sets for all holds for mothers too; what it does not stays theirs
    assert (found.of("mothers").anneal, found.of("mothers").patience) == (2, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = ", "is no TOML"),
        ("lr = 'fast'", 'recipe: lr = "fast": give a number above 0'),
        ('lr = "0.1"', 'recipe: lr = "0.1": give a number above 0'),
        (f"epochs = {10**400}", "recipe: epochs = 1000.*: give a whole number"),
        (f"[members]\nlr = {10**400}", "recipe: members.lr = 1000.*: give a number"),
        ("stages = 3", "recipe: stages = 3: give tables"),
        ("[stages.children]\nlr = 1", "no stage 'children'; there are mothers"),
        ("[members]\nlr = 1\n[stages.members]\nlr = 2", r"\[members\] and \[stages.members\] are the same table"),
        ("lr = true", "recipe: lr = true: give a number above 0"),
        ("epochs = 2.5", "recipe: epochs = 2.5: give a whole number"),
        ("epochs = true", "recipe: epochs = true: give a whole number"),
        ("nesterov = 1", "recipe: nesterov = 1: give true or false"),
        ("milestones = ['a']", "recipe: milestones = .*: give numbers"),
        ("speed = 1", "unknown key 'speed'"),
        ("[members]\nspeed = 1", "unknown key 'members.speed'"),
        ("[member]\nlr = 1", "no stage 'member'; there are mothers"),
        ("members = 3", "recipe: members = 3: give a table"),
        ("[members]\nlr = -1", r"recipe: lr = -1.0: give .*\(in stage members\)"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(MnxError, match=rf"mine\.toml:? .*{message}"):
        from_toml(text, "mine.toml")


def test_a_recipe_that_is_not_there_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(MnxError, match=r"no recipe 'quick'; there are default, fast, paper, or give a \.toml file"):
        recipe(source="quick")
    with pytest.raises(MnxError, match=r"the recipe .*none\.toml cannot be read"):
        recipe(source=str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("crop", "sizes", "pixels"),
    [
        (3, {(28, 28)}, 3),
        (0.0625, {(28, 28)}, 2),
        (0.0625, {(224, 160)}, 10),
        (0.0625, {(8, 8)}, 0),
        (0.0625, {(32, 32), (16, 16)}, 0),
        (0.0, {(224, 224)}, 0),
    ],
)
def test_a_shift_below_one_is_a_share_of_the_shorter_side(
    crop: float, sizes: set[tuple[int, int]], pixels: int
) -> None:
    assert Recipe(crop=crop).augmentation(sizes).crop == pixels


def test_examples_that_are_no_images_are_mixed_at_most() -> None:
    recipe = Recipe(crop=0.5, mirror="random", cutout=3, mixup=0.2)
    assert recipe.augmentation([]) == Augmentation(mixup=0.2)
    assert recipe.augmentation([(8, 8)]) == Augmentation(4, "reflect", "random", 3, 0.2)


@pytest.mark.parametrize(
    ("examples", "size"),
    [(5, 5), (31, 31), (32, 32), (4095, 32), (4096, 64), (8191, 64), (8192, 128), (10**6, 128)],
)
def test_the_number_of_examples_chooses_the_batch(examples: int, size: int) -> None:
    assert Recipe().batch_of(examples) == size
    assert Recipe(batch=7).batch_of(examples) == min(7, examples)
    assert size == 128 or examples // size < 128
    assert size <= 32 or examples // size >= 64


def test_tables_may_stand_as_json_has_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = 7\n[stages.members]\nlr = 0.001\n[mothers]\nepochs = 9\n")
    found = recipe(source=str(path))
    assert (found.of("members").lr, found.of("mothers").lr) == (0.001, Recipe().lr)
    assert (found.of("members").epochs, found.of("mothers").epochs) == (7, 9)


@pytest.mark.parametrize(
    ("key", "value"), [(".lr", "1"), ("milestones", "0.5,0.5"), ("epsilon", "1e-300"), ("epochs", "1" + 400 * "0")]
)
def test_settings_that_mean_nothing_are_refused(key: str, value: str) -> None:
    with pytest.raises(MnxError, match="no stage ''" if key == ".lr" else f"recipe: {key} = .*: give"):
        recipe({key: value})
