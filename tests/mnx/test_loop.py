"""The training loop: it learns, says what happens, and an interrupt anywhere changes no bit of the outcome."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_training import MODELS, RECIPE, job, make, plain, same_bits, separable, train_in, with_dropout, with_norm

from mnx.data.batches import batches
from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs.model import Model
from mnx.graphs.run import run
from mnx.train.loop import Trained, scored, train
from mnx.train.recipe import Recipe

STEPS = 80 // RECIPE.batch
STEP = {"event", "stage", "network", "epoch", "step", "steps", "loss", "accuracy"}
EPOCH = {"loss", "train_score", "validation_score", "validation_loss", "lr", "seconds"}


def at_tick(number: int) -> Events:
    """Events that interrupt at a step of training, counted from 0 over all epochs of this sitting."""
    left = [number]

    def listen(event: Event) -> None:
        if event["event"] == "step":
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1

    return Events(None, [listen])


def course(trained: Trained) -> list[dict[str, Any]]:
    """What every epoch gave, but for the seconds."""
    return [dataclasses.asdict(epoch) | {"seconds": 0.0} for epoch in trained.epochs]


def agree(one: Trained, other: Trained) -> bool:
    return (
        same_bits(one.model.weights, other.model.weights)
        and course(one) == course(other)
        and one.samples == other.samples
    )


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_separable_problem_is_learnt(build: Callable[[], Model], tmp_path: Path) -> None:
    model, data = build(), separable()
    trained = train(job(model, tmp_path), data, Recipe(lr=0.1, batch=16, epochs=12, anneal=4), make, Events())
    before, after = (run(each, data.test.x())[each.outputs[0].name] for each in (model, trained.model))
    assert scored(before, data.test.y)[0] < 0.9
    assert scored(after, data.test.y)[0] == 1
    assert trained.epochs[-1].validation_score == 1
    assert trained.epochs[-1].loss < trained.epochs[0].loss / 2
    assert trained.samples == len(trained.epochs) * 80
    assert trained.seconds == sum(epoch.seconds for epoch in trained.epochs) > 0


def test_scores_are_those_of_the_weights_that_come_back(tmp_path: Path) -> None:
    data = separable()
    trained = train_in(tmp_path, with_norm())
    logits = run(trained.model, data.validation.x())[trained.model.outputs[0].name]
    accuracy, loss = scored(logits, data.validation.y)
    assert trained.epochs[-1].validation_score == accuracy
    assert trained.epochs[-1].validation_loss == pytest.approx(loss, rel=1e-5)


def test_the_model_that_was_given_is_not_touched(tmp_path: Path) -> None:
    model = with_norm()
    kept = {name: array.copy() for name, array in model.weights.items()}
    trained = train_in(tmp_path, model)
    assert same_bits(model.weights, kept)
    assert not same_bits(trained.model.weights, kept)


def test_the_rate_follows_the_schedule_and_training_stops_early(tmp_path: Path) -> None:
    recipe = Recipe(lr=0.2, batch=16, epochs=30, grace=0, patience=2, patience_share=0.0, anneal=2)
    trained = train_in(tmp_path, plain(), recipe)
    rates = [epoch.lr for epoch in trained.epochs]
    assert rates[:2] == [0.0, 0.2]
    assert rates[-2:] == [0.2, 0.1]
    assert 5 <= len(rates) < 30


def test_the_last_incomplete_batch_does_not_count(tmp_path: Path) -> None:
    recipe = Recipe(batch=32, epochs=2, anneal=1)
    assert train_in(tmp_path, plain(), recipe).samples == 2 * 64
    shutil.rmtree(tmp_path)
    few = Recipe(batch=1000, epochs=2, anneal=1)
    assert train_in(tmp_path, plain(), few).samples == 2 * 80


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[Callable[[], Model], Trained]:
    return {build: train_in(tmp_path_factory.mktemp("whole"), build()) for build in (with_norm, with_dropout)}


@pytest.mark.parametrize("build", [with_norm, with_dropout], ids=["norm", "dropout"])
@pytest.mark.parametrize("tick", range(RECIPE.epochs * STEPS))
def test_an_interrupt_at_any_step_changes_no_bit(
    tick: int, build: Callable[[], Model], uninterrupted: dict[Callable[[], Model], Trained], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_in(tmp_path / "parts", build(), events=at_tick(tick))
    assert (tmp_path / "parts" / "checkpoint.npz").exists() == (tick >= STEPS)
    assert agree(train_in(tmp_path / "parts", build()), uninterrupted[build])


@pytest.mark.parametrize("build", [with_norm, with_dropout], ids=["norm", "dropout"])
def test_an_interrupt_in_every_epoch_changes_no_bit(build: Callable[[], Model], tmp_path: Path) -> None:
    whole = train_in(tmp_path / "whole", build())
    for epoch in range(RECIPE.epochs):
        # the last epoch before is finished, then comes the interrupt: once at the first step, once at the last one
        for tick in (0, STEPS - 1, STEPS + epoch % STEPS)[: 3 if epoch < RECIPE.epochs - 1 else 2]:
            with pytest.raises(KeyboardInterrupt):
                train_in(tmp_path / "parts", build(), events=at_tick(tick))
    assert agree(train_in(tmp_path / "parts", build()), whole)


def test_a_finished_training_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    whole = train_in(tmp_path, with_norm())
    seen: list[Event] = []
    again = train_in(tmp_path, with_norm(), events=Events(None, [seen.append]))
    assert agree(again, whole)
    assert again.seconds == whole.seconds
    assert not seen


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "weights": ("model", {"model": plain().with_weights({"head.bias": np.ones(3, np.float32)})}),
    "graph": ("model", {"model": with_dropout()}),
    "recipe": ("recipe", {"recipe": dataclasses.replace(RECIPE, weight_decay=0.0)}),
    "data": ("data", {"data": separable(seed=1)}),
    "seed": ("seed", {"seed": 6}),
}


@pytest.mark.parametrize("change", OTHERS)
def test_the_checkpoint_of_another_training_is_refused_by_name(change: str, tmp_path: Path) -> None:
    def begun(
        model: Model | None = None,
        recipe: Recipe = RECIPE,
        data: Any = None,
        seed: int = 5,
        events: Events | None = None,
    ) -> Trained:
        task = job(model or plain(), tmp_path, seed)
        return train(task, data or separable(), recipe, make, events or Events())

    with pytest.raises(KeyboardInterrupt):
        begun(events=at_tick(STEPS))
    what, other = OTHERS[change]
    path = tmp_path / "checkpoint.npz"
    written = path.read_bytes()
    with pytest.raises(MnxError, match=rf"checkpoint\.npz was written for another {what}; .*--force"):
        begun(**other)
    assert path.read_bytes() == written
    begun()


def test_events_come_in_order_with_their_fields(tmp_path: Path) -> None:
    seen: list[Event] = []
    trained = train_in(tmp_path, plain(), events=Events(tmp_path / "events.jsonl", [seen.append]))
    expected = [
        entry
        for epoch in range(1, RECIPE.epochs + 1)
        for entry in (*(("step", epoch, step) for step in range(1, STEPS + 1)), ("epoch", epoch, None))
    ]
    assert [(event["event"], event["epoch"], event.get("step")) for event in seen] == expected
    for event in seen:
        assert (event["stage"], event["network"]) == ("members", "plain")
        if event["event"] == "step":
            assert set(event) == STEP
            assert event["steps"] == STEPS
            assert 0 <= event["accuracy"] <= 1
        else:
            assert set(event) == EPOCH | {"time", "event", "stage", "network", "epoch"}
    ends = [event for event in seen if event["event"] == "epoch"]
    assert [{key: event[key] for key in EPOCH} for event in ends] == [vars(epoch) for epoch in trained.epochs]
    assert [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()] == ends


def test_an_epoch_s_means_are_those_of_its_steps(tmp_path: Path) -> None:
    seen: list[Event] = []
    trained = train_in(tmp_path, plain(), events=Events(None, [seen.append]))
    last = [event for event in seen if event["event"] == "step" and event["step"] == STEPS]
    assert [(event["loss"], event["accuracy"]) for event in last] == [
        (epoch.loss, epoch.train_score) for epoch in trained.epochs
    ]


def test_every_epoch_visits_the_examples_in_an_order_of_its_own(tmp_path: Path) -> None:
    trained = train_in(tmp_path, plain())
    engine, data = make(plain(), RECIPE.step(), 5), separable()
    for epoch, (first, last) in enumerate(((0.0, 0.1), (0.1, 0.1), (0.1, 0.05), (0.05, 0.0))):
        losses = [
            engine.step(data.train.x(indices), data.train.y[indices], first + (last - first) * step / STEPS)[0]
            for step, indices in enumerate(batches(80, RECIPE.batch, 5, epoch))
        ]
        assert trained.epochs[epoch].loss == pytest.approx(sum(losses) / STEPS)
    assert same_bits(engine.model().weights, trained.model.weights)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    wild = Recipe(lr=99.0, batch=16, epochs=4, anneal=1, warmup=0, clip_norm=0.0)
    with pytest.raises(MnxError, match=r"training plain diverged: the loss of step \d+ is"):
        train(job(plain(), tmp_path), separable(scale=1e12), wild, make, Events())


def test_a_network_that_breaks_in_its_last_step_is_an_error(tmp_path: Path) -> None:
    wild = Recipe(lr=99.0, batch=80, epochs=1, anneal=0, warmup=0, clip_norm=0.0)
    with pytest.raises(MnxError, match=r"training plain diverged: after epoch 1 .* not finite; lower the"):
        train(job(plain(), tmp_path), separable(scale=1e15), wild, make, Events())
    assert not list(tmp_path.iterdir())


def test_scores_of_logits_are_exact_and_do_not_overflow() -> None:
    logits = np.array([[0.0, 0.0], [3e38, -3e38], [1.0, 2.0]], np.float32)
    accuracy, loss = scored(logits, np.array([0, 0, 1]))
    assert accuracy == 1
    assert loss == pytest.approx((np.log(2) + 0 + np.log1p(np.exp(-1))) / 3)
