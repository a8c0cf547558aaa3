"""Networks that train on the same batches: each as it would alone, whoever stops, diverges or is killed."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_training import DeadlyWrites, make, plain, same_bits, separable, with_dropout, with_norm

from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs.model import Model
from mnx.graphs.zoo.mlp import mlp
from mnx.train import checkpoint, loop
from mnx.train.loop import Trained, train_together
from mnx.train.network import Job
from mnx.train.recipe import Recipe

RECIPES = {
    "sgd": Recipe(lr=0.1, batch=16, epochs=4, patience=4, anneal=2),
    "adamw": Recipe(batch=16, epochs=4, optimiser="adamw", lr=0.01, average=0.9, accumulate=2, clip_norm=0.1),
    "mixed": Recipe(batch=16, epochs=4, schedule="cycles", cycle=2, average_cycles=True, mixup=0.3, crop=1),
}
SEED = 11
"""Of all together."""


def models() -> list[Model]:
    return [plain(), with_norm(), with_dropout()]


def jobs(folder: Path, made: Sequence[Model] = ()) -> list[Job]:
    return [Job("members", model.name, model, folder / model.name, seed) for seed, model in enumerate(made or models())]


def together(
    folder: Path, recipe: Recipe, made: Sequence[Model] = (), events: Events | None = None, scale: float = 1.0
) -> dict[str, Trained]:
    every = train_together(jobs(folder, made), SEED, separable(scale=scale), recipe, make, events or Events())
    return {job.network: trained for job, trained in every}


def apart(folder: Path, recipe: Recipe, made: Sequence[Model] = (), scale: float = 1.0) -> dict[str, Trained]:
    data = separable(scale=scale)
    return {
        job.network: next(train_together([job], SEED, data, recipe, make, Events()))[1] for job in jobs(folder, made)
    }


def agree(one: dict[str, Trained], other: dict[str, Trained]) -> bool:
    def epochs(trained: Trained) -> list[object]:
        return [replace(epoch, seconds=0) for epoch in trained.epochs]

    return one.keys() == other.keys() and all(
        same_bits(trained.model.weights, other[name].model.weights)
        and same_bits(trained.kept, other[name].kept)
        and epochs(trained) == epochs(other[name])
        for name, trained in one.items()
    )


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_together_is_as_apart_on_the_same_batches(recipe: Recipe, tmp_path: Path) -> None:
    heard: list[Event] = []
    found = together(tmp_path / "together", recipe, events=Events(listeners=[heard.append]))
    assert agree(found, apart(tmp_path / "apart", recipe))
    steps = [(event["epoch"], event["step"], event["network"]) for event in heard if event["event"] == "step"]
    assert [name for _, _, name in steps[:3]] == [model.name for model in models()]
    assert len(steps) == len(set(steps)) == 3 * 4 * 5


def test_another_seed_of_all_is_another_training(tmp_path: Path) -> None:
    found = together(tmp_path / "one", RECIPES["sgd"])
    other = train_together(jobs(tmp_path / "other"), SEED + 1, separable(), RECIPES["sgd"], make, Events())
    for job, trained in other:
        assert not same_bits(trained.model.weights, found[job.network].model.weights)


def test_networks_that_stop_earlier_change_nothing_for_the_others(tmp_path: Path) -> None:
    recipe = Recipe(lr=0.1, batch=16, epochs=20, grace=0, patience=2, patience_share=0.0, anneal=2)
    made = [plain(), mlp("slow", (1, 4, 4), (3, 3), 3), with_norm()]
    found = together(tmp_path / "together", recipe, made)
    assert len({len(trained.epochs) for trained in found.values()}) > 1
    lengths = [len(trained.epochs) for trained in found.values()]
    assert lengths == sorted(lengths), "whoever stops first comes first"
    assert agree(found, apart(tmp_path / "apart", recipe, made))


def test_a_budget_of_multiply_adds_is_each_network_s_own(tmp_path: Path) -> None:
    recipe = replace(RECIPES["sgd"], epochs=9, patience=9, multiply_adds=80 * 100 * 6.0)
    costs = {"plain": 300, "norm": 100, "dropout": 200}
    given = [replace(job, step_cost=costs[job.network]) for job in jobs(tmp_path)]
    found = {
        job.network: len(trained.epochs)
        for job, trained in train_together(given, SEED, separable(), recipe, make, Events())
    }
    assert found == {"plain": 2, "norm": 6, "dropout": 3}


WILD = Recipe(lr=1.0, batch=16, epochs=6, anneal=0, warmup=3, clip_norm=0.0, retries=9, retry_rate=0.1)


def explosive() -> Model:
    """A perceptron whose training diverges at rates that others take."""
    model = mlp("explosive", (1, 4, 4), (8,), 3, activation="LeakyRelu")
    return model.with_weights({name: array * np.float32(3e18) for name, array in model.weights.items()})


def test_a_network_that_diverges_goes_back_alone_and_the_others_do_not_notice(tmp_path: Path) -> None:
    made: list[Model] = [plain(), explosive(), with_dropout()]
    heard: list[Event] = []
    found = together(tmp_path / "together", WILD, made, Events(listeners=[heard.append]))
    assert {event["network"] for event in heard if event["event"] == "diverged"} == {"explosive"}
    assert agree(found, apart(tmp_path / "apart", WILD, made))
    assert all(len(trained.epochs) == 6 for trained in found.values())


def test_without_a_retry_the_others_finish_their_epoch(tmp_path: Path) -> None:
    hopeless = replace(WILD, retries=0)
    with pytest.raises(MnxError, match="training explosive diverged"):
        together(tmp_path, hopeless, [plain(), explosive(), with_norm()])
    epochs = {path.parent.name: len(checkpoint.load(path)[1]["history"]) for path in tmp_path.glob("*/checkpoint.npz")}
    assert epochs["plain"] == epochs["norm"] == epochs.get("explosive", 0) + 1


@pytest.mark.parametrize("recipe", [*RECIPES.values(), WILD], ids=[*RECIPES, "diverging"])
def test_a_training_that_dies_between_any_files_it_writes_ends_with_the_same_bits(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [plain(), explosive(), with_norm()] if recipe is WILD else models()
    whole = together(tmp_path / "whole", recipe, made)
    writes, uneven = DeadlyWrites(), 0
    monkeypatch.setattr(os, "fsync", writes)
    parts: dict[str, Trained] = {}
    while not parts:
        writes.next()
        try:
            parts = together(tmp_path / "parts", recipe, made)
        except KeyboardInterrupt:
            found = [checkpoint.load(path)[1]["history"] for path in (tmp_path / "parts").glob("*/checkpoint.npz")]
            uneven += len({len(history) for history in found}) > 1
    assert agree(parts, whole)
    assert uneven


@pytest.mark.parametrize("tick", range(0, 60, 7))
def test_an_interrupt_at_any_step_changes_no_bit(tick: int, tmp_path: Path, whole: dict[str, Trained]) -> None:
    left = [tick]

    def listen(event: Event) -> None:
        if event["event"] == "step":
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1

    with pytest.raises(KeyboardInterrupt):
        together(tmp_path, RECIPES["sgd"], events=Events(listeners=[listen]))
    assert agree(together(tmp_path, RECIPES["sgd"]), whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    return together(tmp_path_factory.mktemp("whole"), RECIPES["sgd"])


def test_a_checkpoint_of_other_company_is_refused(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if event["event"] == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together(tmp_path, RECIPES["sgd"], events=Events(listeners=[stop]))
    with pytest.raises(MnxError, match="was written for another seed"):
        list(train_together(jobs(tmp_path), SEED + 1, separable(), RECIPES["sgd"], make, Events()))


def test_an_order_that_depends_on_who_is_there_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin: were the seed of the epoch the first network's own, those that catch up would see others."""
    recipe = replace(RECIPES["sgd"], epochs=2)
    epoch = loop._Training.epoch

    def broken(training: loop._Training, networks: Sequence[loop.Network], feed: loop.Feed) -> None:
        training.seed = SEED + len(networks)
        epoch(training, networks, feed)

    monkeypatch.setattr(loop._Training, "epoch", broken)
    assert not agree(together(tmp_path / "together", recipe), apart(tmp_path / "apart", recipe))
