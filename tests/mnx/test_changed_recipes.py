"""What may still change of a run that stands: how stages are trained that have not begun, or are trained again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import EXAMPLES, NAMES, RECIPE, opened, planned, write_members

from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.graphs.zoo.ensembles import ensemble
from mnx.pipeline import begin, hatch_next, open_training, train_next
from mnx.session import Session, settings
from mnx.workspace import RunFolder

GIVEN: dict[str, Any] = {"data": "digits", "train_limit": EXAMPLES, "threads": 1}


def rates(run: RunFolder, session: Session) -> list[float]:
    """The learning rates of the stages, by what is kept and what is open, which must agree."""
    assert settings(run)["recipe"] == session.recipe.to_json()
    return [session.recipe.of(stage).lr for stage in ("mothers", "members", "independent")]


def stopped_in_an_epoch(session: Session, number: int) -> None:
    """Train the next stage up to this epoch of its first network."""

    def listen(event: Event) -> None:
        if event["event"] == "step" and event["epoch"] == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_next(replace(session, events=session.events.beside(listen)))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"loss": "mse"}, "the loss 'mse' is none for targets that are classes: give cross-entropy$"),
        ({"members.loss": "mse"}, r"the loss 'mse' is none .*\(in stage members\)"),
        ({"mixup": "0.2", "cutout": "8"}, "augmentation: cutout = 8: give less than the sides of the images"),
        (
            {"members.crop": "8"},
            r"augmentation: crop = 8: give less than the sides .* 8 x 8 pixels  \(in stage members\)",
        ),
        (
            {"batch": "1000", "accumulate": "200"},
            r"the 540 training examples are one batch of 540, which cannot be taken in accumulate = 200 equal parts",
        ),
    ],
)
def test_a_recipe_that_the_data_do_not_fit_is_refused_before_anything_is_written(
    recipe: dict[str, str], message: str, tmp_path: Path
) -> None:
    (model, *_) = ensemble("v5-bn", 10, (1, 8, 8))
    file = tmp_path / "members" / f"{model.name}.onnx"
    onnx_file.write(model, file)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(MnxError, match=message):
        begin([file], run, Events(), recipe=recipe, **GIVEN)
    assert not run.path.exists()
    begin([file], run, Events(), **GIVEN)
    with pytest.raises(MnxError, match=message):
        open_training(run, Events(), recipe=recipe, **GIVEN)
    assert not run.settings_file.exists()


def test_a_baseline_s_recipe_is_asked_where_it_is_trained(tmp_path: Path) -> None:
    files, bad = write_members(tmp_path / "members"), {"independent.loss": "mse"}
    begin(files, RunFolder(tmp_path / "one"), Events(), recipe=bad, **GIVEN)
    with pytest.raises(MnxError, match=r"\(in stage independent\)"):
        begin(files, RunFolder(tmp_path / "other"), Events(), recipe=bad, compare="independent", **GIVEN)


def test_while_nothing_has_begun_all_may_change(tmp_path: Path) -> None:
    run = planned(tmp_path)
    opened(run)
    session = open_training(run, Events(), recipe={"lr": "0.3"}, threads=1)
    assert (session.spec, session.train_limit) == (settings(run)["data"], EXAMPLES)
    stopped_in_an_epoch(session, 1)
    assert rates(run, session) == [0.3, 0.3, 0.3]
    other = open_training(run, Events(), data="digits", train_limit=300, threads=1)
    assert len(other.dataset.train) == 270
    stopped_in_an_epoch(other, 2)
    assert settings(run)["train_limit"] == 300
    with pytest.raises(MnxError, match=r"was trained on digits with --train-limit 300"):
        open_training(run, Events(), **GIVEN)
    with pytest.raises(
        MnxError, match=r"trained with lr = 0\.3, not 0\.2: give members\.lr or independent\.lr, choose"
    ):
        open_training(run, Events(), recipe={"lr": "0.2"})


def test_a_stage_that_has_not_begun_takes_another_recipe(hatched: Session) -> None:
    run = hatched.run
    with pytest.raises(MnxError, match=r"trained with mothers\.lr = 0\.1, not 0\.2: choose a new folder"):
        open_training(run, Events(), recipe={"mothers.lr": "0.2"})
    session = open_training(run, Events(), recipe={"members.lr": "0.02"}, threads=1)
    stopped_in_an_epoch(session, 2)
    assert rates(run, session) == [RECIPE.lr, 0.02, RECIPE.lr]
    with pytest.raises(MnxError, match=r"trained with members\.lr = 0\.02, not 0\.03: .* train a stage again with"):
        open_training(run, Events(), recipe={"members.lr": "0.03"})
    session = open_training(run, Events(), recipe={"independent.lr": "0.5"}, threads=1)
    stopped_in_an_epoch(session, 2)
    assert rates(run, session) == [RECIPE.lr, 0.02, 0.5]


def test_members_are_trained_again_by_another_recipe(hatched: Session) -> None:
    run = hatched.run
    train_next(hatched)
    with pytest.raises(MnxError, match=r"trained with lr = 0\.1, not 0\.02: give members\.lr"):
        open_training(run, Events(), recipe={"lr": "0.02"}, force=True)
    assert all(run.training("members", name) for name in NAMES)
    session = open_training(run, Events(), recipe={"members.lr": "0.02"}, force=True, threads=1)
    assert train_next(session) == ("members", sorted(NAMES))
    assert rates(run, session) == [RECIPE.lr, 0.02, RECIPE.lr]
    found = run.training("members", NAMES[0])
    assert found is not None
    assert found.epochs[0].lr == 0.02


def test_mothers_are_trained_again_on_the_same_data_and_recipe(tmp_path: Path) -> None:
    run = planned(tmp_path)
    train_next(opened(run))
    session = open_training(run, Events(), force=True, threads=1)
    assert session.recipe == RECIPE
    assert len(session.dataset.train) == 540
    train_next(session)
    hatch_next(session)
    assert settings(run)["recipe"] == RECIPE.to_json()


def test_mothers_are_trained_again_on_other_data_by_another_recipe(tmp_path: Path) -> None:
    run = planned(tmp_path)
    train_next(opened(run))
    session = open_training(run, Events(), data="digits", train_limit=300, recipe={"lr": "0.2"}, force=True, threads=1)
    train_next(session)
    assert (settings(run)["train_limit"], rates(run, session)) == (300, [0.2, 0.2, 0.2])
    assert session.recipe.epochs == RECIPE.epochs
    mother = run.training("mothers", "cluster1")
    assert mother is not None
    assert mother.samples % 256 == 0


def test_data_that_have_moved_are_found_again(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (200, 8, 8), np.uint8), random.integers(0, 10, 200)
    before, after = tmp_path / "before.npz", tmp_path / "after.npz"
    np.savez(before, x=x, y=y)
    run = planned(tmp_path, NAMES[:2])
    train_next(opened(run, data=str(before), train_limit=None))
    before.rename(after)
    with pytest.raises(MnxError, match=r"before\.npz"):
        open_training(run, Events())
    train_next(open_training(run, Events(), data=str(after), threads=1))
    assert open_training(run, Events(), threads=1).spec == str(after)
