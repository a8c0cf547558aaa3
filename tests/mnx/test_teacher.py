"""Distillation: networks that learn from a teacher's logits too, which file it is, and what it costs."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import EXAMPLES, NAMES, RECIPE, opened, planned
from small_training import CLASSES, SHAPE, make, plain, same_bits, separable, train_in, with_dropout, with_norm
from test_loop import agree, at_tick

from mnx.data.batches import batches
from mnx.data.dataset import Dataset
from mnx.errors import MnxError
from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.model import Array, Model, Node, Port
from mnx.graphs.run import run
from mnx.graphs.zoo.mlp import mlp
from mnx.metrics import softmax
from mnx.pipeline import hatch_next, open_training, train_next
from mnx.train.fitting import require_fitting, step_settings
from mnx.train.loop import train
from mnx.train.network import Job
from mnx.train.recipe import Recipe
from mnx.train.recipe_files import recipe
from mnx.train.teacher import Teacher

TAUGHT = Recipe(lr=0.1, batch=16, epochs=4, patience=4, anneal=2, crop=0, teacher="", distillation=0.7, temperature=2.0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a network that is right about `separable`."""
    folder = tmp_path_factory.mktemp("teacher")
    onnx_file.write(train_in(folder / "training", with_norm()).model, folder / "teacher.onnx")
    return folder / "teacher.onnx"


def taught(file: Path, **keys: Any) -> Recipe:
    return dataclasses.replace(TAUGHT, teacher=str(file), **keys)


def logits(model: Model, x: Any) -> Array:
    return np.asarray(run(model, x)[model.outputs[0].name])


def test_it_says_of_a_batch_what_its_network_does(teacher: Path) -> None:
    model, x = onnx_file.read(teacher), separable().train.x(slice(16))
    assert np.allclose(Teacher(model, "cpu", 1).logits(x), logits(model, x), atol=1e-5)


def test_of_probabilities_it_says_the_logarithms(teacher: Path, tmp_path: Path) -> None:
    """An ensemble's graph ends in them; softened, they are what the softened logits of one network are."""
    model, x = onnx_file.read(teacher), separable().train.x(slice(16))
    before = model.outputs[0].name
    last = Node("shares", "Softmax", (before,), ("shares:of",), {"axis": -1})
    ended = model.replace(nodes=(*model.nodes, last), outputs=(Port("shares:of", "float32", (CLASSES,)),))
    said, plainly = (Teacher(each, "cpu", 1).logits(x) for each in (ended, model))
    assert np.allclose(softmax(said / 2), softmax(plainly / 2), atol=1e-3)
    assert (said <= 0).all()


def test_every_step_gets_the_logits_of_its_own_batch(teacher: Path, tmp_path: Path) -> None:
    """The loop's first epoch is that of an engine by hand."""
    data, model, wanted = separable(), plain(), taught(teacher, epochs=1, anneal=0, warmup=0)
    found = train_in(tmp_path, model, wanted)
    network, guide = make(model, step_settings(wanted, data), 5), Teacher(onnx_file.read(teacher), "cpu", 1)
    for indices in batches(len(data.train), 16, 5, 0):
        x = data.train.x(indices)
        network.step(x, data.train.y[indices], wanted.lr, guide.logits(x))
    assert same_bits(network.model().weights, found.model.weights)


def test_networks_learn_what_the_teacher_says_and_not_what_labels_do(teacher: Path, tmp_path: Path) -> None:
    data = separable()
    wrong = dataclasses.replace(data, train=dataclasses.replace(data.train, y=(data.train.y + 1) % CLASSES))

    def right(recipe: Recipe, on: Dataset, name: str) -> float:
        job = Job("members", name, plain(), tmp_path / name, 5)
        x, y = data.test.x(), data.test.y
        return float((logits(train(job, on, recipe, make, Events()).model, x).argmax(1) == y).mean())

    long = taught(teacher, epochs=12, patience=12, distillation=1.0)
    assert right(long, wrong, "taught") > 0.95
    assert right(dataclasses.replace(long, teacher=""), wrong, "misled") < 0.05


@pytest.mark.parametrize("build", [plain, with_norm, with_dropout])
@pytest.mark.parametrize("mixup", [0.0, 0.3])
def test_an_interrupt_changes_no_bit(build: Any, mixup: float, teacher: Path, tmp_path: Path) -> None:
    wanted = taught(teacher, mixup=mixup)
    whole = train_in(tmp_path / "whole", build(), wanted)
    with pytest.raises(KeyboardInterrupt):
        train_in(tmp_path / "parts", build(), wanted, at_tick(7))
    assert agree(whole, train_in(tmp_path / "parts", build(), wanted))
    assert not agree(whole, train_in(tmp_path / "none", build(), dataclasses.replace(wanted, teacher="")))


def test_a_checkpoint_is_of_one_teacher(teacher: Path, tmp_path: Path) -> None:
    file = tmp_path / "teacher.onnx"
    file.write_bytes(teacher.read_bytes())
    with pytest.raises(KeyboardInterrupt):
        train_in(tmp_path, plain(), taught(file), at_tick(7))
    onnx_file.write(with_norm(), file)
    with pytest.raises(MnxError, match=r"checkpoint\.npz was written for another teacher"):
        train_in(tmp_path, plain(), taught(file))


def test_what_cannot_teach_is_refused(teacher: Path, tmp_path: Path) -> None:
    data, other = separable(), tmp_path / "other.onnx"
    with pytest.raises(MnxError, match=r"recipe: teacher = .*nobody\.onnx"):
        require_fitting(taught(tmp_path / "nobody.onnx"), data)
    for model in (mlp("narrow", (1, 4, 5), (8,), CLASSES), mlp("more", SHAPE, (8,), CLASSES + 1)):
        onnx_file.write(model, other)
        with pytest.raises(MnxError, match=r"other\.onnx: it takes float32 .* the networks that are to learn from it"):
            require_fitting(taught(other), data)
    other.write_bytes(b"nothing")
    with pytest.raises(MnxError, match=r"recipe: teacher = .*other\.onnx"):
        require_fitting(taught(other), data)
    with pytest.raises(MnxError, match="a teacher tells classes apart, and targets are numbers"):
        require_fitting(taught(teacher), dataclasses.replace(data, kind="numbers"))
    with pytest.raises(MnxError, match="loss = mse learns from no teacher"):
        taught(teacher, loss="mse")
    require_fitting(taught(teacher), data)


def test_its_path_is_right_from_every_folder(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(teacher.parent)
    (tmp_path / "mine.toml").write_text("[members]\nteacher = 'teacher.onnx'\n")
    for found in (recipe({"members.teacher": "teacher.onnx"}), recipe(source=str(tmp_path / "mine.toml"))):
        assert found.of("members").teacher == str(teacher)
        assert found.of("mothers").teacher == ""


def test_members_of_a_run_learn_from_it_at_its_cost(tmp_path: Path) -> None:
    """The mother herself is a teacher that takes what her members do."""
    run = planned(tmp_path, NAMES[:2])
    train_next(opened(run))
    hatch_next(opened(run))
    guide = run.trained_file("mothers", "cluster1")
    session = open_training(run, Events(), recipe={"members.teacher": str(guide)}, threads=1)
    train_next(session)
    examples, costs = len(session.dataset.train), {each.name: each.multiply_adds for each in session.plan.members}
    size = RECIPE.batch_of(examples)
    for name in NAMES[:2]:
        found = run.training("members", name)
        assert found is not None
        assert found.samples == len(found.epochs) * (examples // size * size)
        assert found.multiply_adds == found.samples * (3 * costs[name] + session.plan.clusters[0].multiply_adds)
    assert examples < EXAMPLES
