"""Train one network: epochs of steps, validation, a checkpoint an epoch, the stopping rule. Read it top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mnx.data.batches import batches
from mnx.data.dataset import Dataset
from mnx.errors import MnxError
from mnx.events import Events
from mnx.graphs.model import Array, Model, model_hash
from mnx.graphs.parameters import parameters
from mnx.graphs.run import Batch
from mnx.metrics import mean_square, training_score, validation_score
from mnx.train import checkpoint
from mnx.train.losses import TASKS
from mnx.train.recipe import Recipe
from mnx.train.schedule import Phase, cycle_ends, next_phase
from mnx.train.settings import MOMENTUM, WEIGHT, Diverged, StepSettings

STATISTICS_STEPS = 100
"""Batches that the statistics of averaged weights are taken from: more than a moving average of 0.9 remembers."""


class Engine(Protocol):
    """What runs training steps; one file in this folder per engine."""

    def step(self, x: Batch, y: Array, lr: float) -> tuple[float, float]:
        """One step: (mean loss, number of correct predictions)."""

    def evaluate(self, x: Batch, batch: int = 256) -> Array:
        """Logits in eval mode."""

    def state(self) -> dict[str, Array]:
        """All that training changes."""

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on from a state."""

    def model(self) -> Model:
        """The model with its current weights."""


EngineMaker = Callable[[Model, StepSettings, int], Engine]
"""(model, settings, seed) -> engine."""


@dataclass(frozen=True)
class Job:
    """One network to train.

    Attributes:
        stage: mothers, members or independent.
        network: its name in the stage.
        model: where it starts.
        folder: where its checkpoint stands while it trains.
        seed: of the order of examples and of Dropout.
        step_cost: multiply-adds of a training step, for each example.
        momentum: what its optimiser begins with, by parameter; zeros of those not given.
    """

    stage: str
    network: str
    model: Model
    folder: Path
    seed: int
    step_cost: int = 0
    momentum: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: means over the training examples, and the validation score after it."""

    loss: float
    train_score: float
    validation_score: float
    validation_loss: float
    lr: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A trained network, how it came to be, its optimiser's momentum by parameter, its weights at the end of cycles."""

    model: Model
    epochs: tuple[Epoch, ...]
    samples: int
    momentum: Mapping[str, Array] = field(default_factory=dict)
    snapshots: tuple[Mapping[str, Array], ...] = ()

    @property
    def seconds(self) -> float:
        """Time spent in epochs, over all sittings."""
        return sum(epoch.seconds for epoch in self.epochs)


@dataclass
class _Course:
    """Where a training stands: epochs, what its rates are multiplied by, how often it was retried, its snapshots."""

    history: list[Epoch] = field(default_factory=list)
    rate: float = 1.0
    retries: int = 0
    snapshots: list[dict[str, Array]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """What a checkpoint says beside arrays."""
        return {"history": [vars(epoch) for epoch in self.history], "rate": self.rate, "retries": self.retries}

    def arrays(self) -> dict[str, Array]:
        """The snapshots as arrays of a checkpoint."""
        return {
            f"{_SNAPSHOT}{index}/{name}": array
            for index, each in enumerate(self.snapshots)
            for name, array in each.items()
        }


_SNAPSHOT = "snapshot/"


def train(job: Job, data: Dataset, recipe: Recipe, make: EngineMaker, events: Events) -> Trained:
    """Train a network to the end, from its checkpoint where it has one.

    Every epoch depends on (seed, number of the epoch) and the state before it alone: a run that was interrupted ends
    with the same bits as one that was not. Where the loss is not finite, the network goes on from its last epoch at a
    lower rate, as often as the recipe allows.

    Args:
        job: the network.
        data: what to train and validate it on.
        recipe: of its stage, see `Recipe.of`.
        make: what makes its engine.
        events: told of every epoch.

    Raises:
        MnxError: the checkpoint is of another model, recipe or data; the model has an op that cannot be trained.
        Diverged: the loss is not finite; the checkpoint of the last good epoch stays.
    """
    counts = np.bincount(data.train.y, minlength=data.classes).tolist() if data.kind == "classes" else []
    settings = recipe.step(data.kind, TASKS[data.kind].default, counts)
    path = job.folder / "checkpoint.npz"
    identity = {"model": model_hash(job.model), "recipe": recipe.to_json(), "data": data.fingerprint, "seed": job.seed}
    identity["momentum"] = _digest(job.momentum)

    def begun() -> tuple[Engine, _Course]:
        engine = make(job.model, settings, job.seed)
        return engine, _resumed(engine, path, identity) if path.exists() else _started(engine, job.momentum)

    engine, course = begun()
    while not (phase := _phase(job, data, recipe, course.history)).done:
        try:
            course.history.append(_epoch(job, engine, data, recipe, phase, course, events))
        except Diverged as error:
            if course.retries >= recipe.retries:
                raise
            rate, retries = course.rate * recipe.retry_rate, course.retries + 1
            engine, course = begun()
            course.rate, course.retries = rate, retries
            events.record("diverged", stage=job.stage, network=job.network, reason=str(error), lr=recipe.lr * rate)
        else:
            events.record(
                "epoch",
                stage=job.stage,
                network=job.network,
                epoch=len(course.history),
                task=data.kind,
                **vars(course.history[-1]),
            )
        checkpoint.save(path, {**engine.state(), **course.arrays()}, {**identity, **course.record()})
    if recipe.average_cycles and course.snapshots:
        _average(job, engine, data, recipe, course)
    samples = len(course.history) * _seen(data, recipe)
    return Trained(engine.model(), tuple(course.history), samples, momentum_of(engine.state()), tuple(course.snapshots))


def momentum_of(state: Mapping[str, Array]) -> dict[str, Array]:
    """The momentum in an engine's state, by parameter."""
    return {key.removeprefix(MOMENTUM): array for key, array in state.items() if key.startswith(MOMENTUM)}


def _started(engine: Engine, momentum: Mapping[str, Array]) -> _Course:
    """Give an engine the momentum that training goes on with; no epochs are done yet."""
    if momentum:
        state = engine.state()
        known = {MOMENTUM + name: array for name, array in momentum.items() if MOMENTUM + name in state}
        engine.load_state({**state, **known})
    return _Course()


def _digest(arrays: Mapping[str, Array]) -> str:
    """A hash of arrays by name, '' of none."""
    digest = sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest() if arrays else ""


def _seen(data: Dataset, recipe: Recipe) -> int:
    """Examples that an epoch visits."""
    size = min(recipe.batch, len(data.train))
    return len(data.train) // size * size


def _phase(job: Job, data: Dataset, recipe: Recipe, history: Sequence[Epoch]) -> Phase:
    watched = [epoch.train_score if recipe.watch == "training" else epoch.validation_score for epoch in history]
    return next_phase(recipe, watched, _most(job, data, recipe, history))


def _most(job: Job, data: Dataset, recipe: Recipe, history: Sequence[Epoch]) -> int:
    """The epochs that all budgets allow, one at least; time goes by the mean of the epochs so far."""
    most = recipe.epochs
    if recipe.multiply_adds and job.step_cost:
        most = min(most, int(recipe.multiply_adds // (job.step_cost * _seen(data, recipe))))
    if recipe.seconds and history:
        spent = sum(epoch.seconds for epoch in history)
        most = min(most, int(recipe.seconds // max(spent / len(history), 1e-9)))
    return max(most, 1)


def _epoch(
    job: Job, engine: Engine, data: Dataset, recipe: Recipe, phase: Phase, course: _Course, events: Events
) -> Epoch:
    start, number = time.perf_counter(), len(course.history)
    order = list(batches(len(data.train), recipe.batch, job.seed, number))
    losses, score, seen, spread = 0.0, 0.0, 0, mean_square(data.kind, data.train.y)
    for step, indices in enumerate(order):
        rate = course.rate * phase.lr(step, len(order))
        try:
            loss, right = engine.step(data.train.x(indices), data.train.y[indices], rate)
        except Diverged as error:
            raise error.at(number + 1, step + 1, len(order)) from None
        losses, score, seen = losses + loss * len(indices), score + right, seen + len(indices)
        events.tick(
            "step",
            stage=job.stage,
            network=job.network,
            epoch=number + 1,
            step=step + 1,
            steps=len(order),
            loss=losses / seen,
            task=data.kind,
            accuracy=training_score(score / seen, spread),
        )
    logits = np.concatenate([engine.evaluate(x) for x in data.validation.batches()])
    if not np.isfinite(logits).all():
        raise Diverged(job.model.name, f"after epoch {number + 1} its outputs for validation examples are not finite")
    validation, validation_loss = validation_score(data.kind, logits, data.validation.y)
    if number + 1 in cycle_ends(recipe, _most(job, data, recipe, course.history)):
        course.snapshots.append(dict(engine.model().weights))
    seconds = time.perf_counter() - start
    reached = training_score(score / seen, spread)
    return Epoch(losses / seen, reached, validation, validation_loss, course.rate * phase.first, seconds)


def _average(job: Job, engine: Engine, data: Dataset, recipe: Recipe, course: _Course) -> None:
    """Give an engine the mean of the snapshots' weights, and statistics that belong to it (Izmailov et al. 2018)."""
    state, kinds = engine.state(), parameters(job.model)
    mean = {
        name: np.mean(np.stack([each[name] for each in course.snapshots]), axis=0, dtype=np.float64) for name in kinds
    }
    engine.load_state({**state, **{WEIGHT + name: np.asarray(array, np.float32) for name, array in mean.items()}})
    if any(not kind.trained for kind in kinds.values()) and not recipe.frozen_norm:
        for indices in list(batches(len(data.train), recipe.batch, job.seed, len(course.history)))[:STATISTICS_STEPS]:
            engine.step(data.train.x(indices), data.train.y[indices], 0.0)


def _resumed(engine: Engine, path: Path, identity: Mapping[str, Any]) -> _Course:
    state, record = checkpoint.load(path)
    for key, value in identity.items():
        if record.get(key) != value:
            raise MnxError(
                f"{path} was written for another {key}; go on with the settings it was started with, "
                "or start this stage afresh with --force"
            )
    snapshots: dict[str, dict[str, Array]] = {}
    for key in [key for key in state if key.startswith(_SNAPSHOT)]:
        index, _, name = key.removeprefix(_SNAPSHOT).partition("/")
        snapshots.setdefault(index, {})[name] = state.pop(key)
    engine.load_state(state)
    history = [Epoch(**epoch) for epoch in record.get("history", [])]
    ordered = [snapshots[index] for index in sorted(snapshots, key=int)]
    return _Course(history, record.get("rate", 1.0), record.get("retries", 0), ordered)
