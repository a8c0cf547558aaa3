"""The training loop: it learns, says what happens, and an interrupt anywhere changes no bit of the outcome."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_training import MODELS, RECIPE, job, make, plain, same_bits, separable, train_in, with_dropout, with_norm

from mnx.data.batches import batches
from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs.model import Model
from mnx.graphs.parameters import parameters
from mnx.graphs.run import run
from mnx.metrics import validation_score
from mnx.train import checkpoint
from mnx.train.loop import Trained, train
from mnx.train.recipe import Recipe

STEPS = 80 // RECIPE.batch
STEP = {"event", "stage", "network", "epoch", "step", "steps", "task", "loss", "accuracy"}
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
    assert validation_score("classes", before, data.test.y)[0] < 0.9
    assert validation_score("classes", after, data.test.y)[0] == 1
    assert trained.epochs[-1].validation_score == 1
    assert trained.epochs[-1].loss < trained.epochs[0].loss / 2
    assert trained.samples == len(trained.epochs) * 80
    assert trained.seconds == sum(epoch.seconds for epoch in trained.epochs) > 0


def test_scores_are_those_of_the_weights_that_come_back(tmp_path: Path) -> None:
    data = separable()
    trained = train_in(tmp_path, with_norm())
    logits = run(trained.model, data.validation.x())[trained.model.outputs[0].name]
    accuracy, loss = validation_score("classes", logits, data.validation.y)
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
            assert set(event) == EPOCH | {"time", "event", "stage", "network", "epoch", "task"}
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
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.npz"]  # one retry was begun


def test_a_network_that_diverges_goes_on_from_its_last_epoch_at_a_lower_rate(tmp_path: Path) -> None:
    heard: list[Event] = []
    wild = Recipe(lr=99.0, batch=16, epochs=4, anneal=0, warmup=3, clip_norm=0.0, retries=9, retry_rate=0.01)
    trained = train(job(plain(), tmp_path), separable(scale=1e8), wild, make, Events(listeners=[heard.append]))
    assert len(trained.epochs) == 4
    assert np.isfinite([epoch.loss for epoch in trained.epochs]).all()
    retries = [event for event in heard if event["event"] == "diverged"]
    assert retries
    assert re.search(r"the loss of step \d+ is (nan|inf), at batch \d of 5 of epoch \d", retries[0]["reason"])
    assert [event["lr"] for event in retries] == pytest.approx([99 * 0.01 ** (n + 1) for n in range(len(retries))])
    assert trained.epochs[-1].lr == pytest.approx(retries[-1]["lr"])


def test_without_retries_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    steep = Recipe(lr=99.0, batch=16, epochs=60, anneal=0, warmup=30, patience=60, clip_norm=0.0, retries=0)
    with pytest.raises(MnxError, match=r"diverged: the loss of step \d+ is (nan|inf), at batch \d of 5 of epoch \d+;"):
        train(job(plain(), tmp_path), separable(scale=1e3), steep, make, Events())
    history = checkpoint.load(tmp_path / "checkpoint.npz")[1]["history"]
    assert len(history) > 0
    assert np.isfinite([epoch["loss"] for epoch in history]).all()


def test_budgets_end_a_training(tmp_path: Path) -> None:
    recipe = Recipe(batch=16, epochs=50, patience=50, anneal=2)
    cheap = replace(job(plain(), tmp_path / "cost"), step_cost=100)
    trained = train(cheap, separable(), replace(recipe, multiply_adds=100 * 80 * 6.5), make, Events())
    assert len(trained.epochs) == 6
    assert trained.epochs[-1].lr < recipe.lr
    # less than an epoch is an epoch
    least = train(
        replace(cheap, folder=tmp_path / "less"), separable(), replace(recipe, multiply_adds=1.0), make, Events()
    )
    assert len(least.epochs) == 1
    brief = train(job(plain(), tmp_path / "time"), separable(), replace(recipe, seconds=1e-6), make, Events())
    assert len(brief.epochs) == 1


def test_averaged_cycles_are_the_mean_of_what_the_cycles_ended_with(tmp_path: Path) -> None:
    recipe = Recipe(batch=16, epochs=6, schedule="cycles", cycle=2, warmup=0)
    apart = train(job(with_norm(), tmp_path / "apart"), separable(), recipe, make, Events())
    together = train(
        job(with_norm(), tmp_path / "mean"), separable(), replace(recipe, average_cycles=True), make, Events()
    )
    assert [len(each.snapshots) for each in (apart, together)] == [2, 3]
    ends = [*apart.snapshots, apart.model.weights]
    assert all(same_bits(one, other) for one, other in zip(together.snapshots, ends, strict=True))
    for name, kind in parameters(apart.model).items():
        mean = np.mean([each[name] for each in ends], axis=0)
        close = np.allclose(together.model.weights[name], mean, atol=1e-6)
        assert close or not kind.trained
    assert any(
        not np.array_equal(together.model.weights[name], apart.model.weights[name])
        for name, kind in parameters(apart.model).items()
        if not kind.trained
    )


def test_a_moving_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    recipe = Recipe(batch=16, epochs=3, patience=9, average=0.9)
    trained = train(job(with_norm(), tmp_path), separable(), recipe, make, Events())
    plainly = train(job(with_norm(), tmp_path / "plain"), separable(), replace(recipe, average=0.0), make, Events())
    assert not same_bits(trained.model.weights, plainly.model.weights)
    assert [epoch.loss for epoch in trained.epochs] == [epoch.loss for epoch in plainly.epochs]
    logits = run(trained.model, separable().validation.x())[trained.model.outputs[0].name]
    loss = validation_score("classes", logits, separable().validation.y)[1]
    assert loss == pytest.approx(trained.epochs[-1].validation_loss, abs=1e-6)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(batch=16, epochs=6, optimiser="adamw", lr=0.01, average=0.9, accumulate=2),
        Recipe(batch=16, epochs=6, schedule="cycles", cycle=2, average_cycles=True),
        Recipe(batch=16, epochs=6, schedule="one-cycle", label_smoothing=0.1),
        Recipe(lr=99.0, batch=16, epochs=6, anneal=0, warmup=3, clip_norm=0.0, retries=9, retry_rate=0.01),
    ],
    ids=["adamw", "cycles", "one-cycle", "retried"],
)
def test_an_interrupted_training_of_any_recipe_ends_with_the_same_bits(recipe: Recipe, tmp_path: Path) -> None:
    data = separable(scale=1e8 if recipe.lr > 1 else 1.0)
    whole = train(job(with_dropout(), tmp_path / "whole"), data, recipe, make, Events())

    def interrupted(event: Event) -> None:
        if event["event"] in ("step", "diverged") and next(dice) < 0.08:
            raise KeyboardInterrupt

    dice = iter(np.random.default_rng(0).random(10_000))
    stops = 0
    while True:
        try:
            parts = train(job(with_dropout(), tmp_path / "parts"), data, recipe, make, Events(listeners=[interrupted]))
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 1
    assert same_bits(parts.model.weights, whole.model.weights)
    assert same_bits(parts.kept, whole.kept)
    assert [replace(each, seconds=0) for each in parts.epochs] == [replace(each, seconds=0) for each in whole.epochs]


def test_scores_of_logits_are_exact_and_do_not_overflow() -> None:
    logits = np.array([[0.0, 0.0], [3e38, -3e38], [1.0, 2.0]], np.float32)
    accuracy, loss = validation_score("classes", logits, np.array([0, 0, 1]))
    assert accuracy == 1
    assert loss == pytest.approx((np.log(2) + 0 + np.log1p(np.exp(-1))) / 3)
