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
from mnx.graphs.run import Batch
from mnx.train import checkpoint
from mnx.train.recipe import Recipe
from mnx.train.schedule import Phase, next_phase
from mnx.train.settings import MOMENTUM, StepSettings


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
        fresh: whether its weights are freshly drawn, so that the learning rate rises first.
        anneal: whether the learning rate falls at the end.
        momentum: what its optimiser begins with, by parameter; zeros of those not given.
    """

    stage: str
    network: str
    model: Model
    folder: Path
    seed: int
    fresh: bool
    anneal: bool
    momentum: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: means over the training examples, and the validation accuracy after it."""

    loss: float
    train_score: float
    validation_score: float
    validation_loss: float
    lr: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A trained network, how it came to be, and its optimiser's momentum by parameter."""

    model: Model
    epochs: tuple[Epoch, ...]
    samples: int
    momentum: Mapping[str, Array] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Time spent in epochs, over all sittings."""
        return sum(epoch.seconds for epoch in self.epochs)


def train(job: Job, data: Dataset, recipe: Recipe, make: EngineMaker, events: Events) -> Trained:
    """Train a network to the end, from its checkpoint where it has one.

    Every epoch depends on (seed, number of the epoch) and the state before it alone: a run that was interrupted ends
    with the same bits as one that was not.

    Raises:
        MnxError: the checkpoint is of another model, recipe or data; the loss is not finite; the model has an op that
            cannot be trained.
    """
    engine = make(job.model, recipe.step(), job.seed)
    path = job.folder / "checkpoint.npz"
    identity = {"model": model_hash(job.model), "recipe": recipe.to_json(), "data": data.fingerprint, "seed": job.seed}
    identity["momentum"] = _digest(job.momentum)
    history = _resumed(engine, path, identity) if path.exists() else _begun(engine, job.momentum)
    while not (phase := _phase(job, recipe, history)).done:
        history.append(_epoch(job, engine, data, recipe, phase, len(history), events))
        checkpoint.save(path, engine.state(), {**identity, "history": [vars(epoch) for epoch in history]})
        events.record("epoch", stage=job.stage, network=job.network, epoch=len(history), **vars(history[-1]))
    per_epoch = len(data.train) // min(recipe.batch, len(data.train)) * min(recipe.batch, len(data.train))
    return Trained(engine.model(), tuple(history), len(history) * per_epoch, momentum_of(engine.state()))


def momentum_of(state: Mapping[str, Array]) -> dict[str, Array]:
    """The momentum in an engine's state, by parameter."""
    return {key.removeprefix(MOMENTUM): array for key, array in state.items() if key.startswith(MOMENTUM)}


def _begun(engine: Engine, momentum: Mapping[str, Array]) -> list[Epoch]:
    """Give an engine the momentum that training goes on with; no epochs are done yet."""
    if momentum:
        state = engine.state()
        known = {MOMENTUM + name: array for name, array in momentum.items() if MOMENTUM + name in state}
        engine.load_state({**state, **known})
    return []


def _digest(arrays: Mapping[str, Array]) -> str:
    """A hash of arrays by name, '' of none."""
    digest = sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest() if arrays else ""


def _phase(job: Job, recipe: Recipe, history: Sequence[Epoch]) -> Phase:
    return next_phase(recipe, [epoch.validation_score for epoch in history], job.fresh, job.anneal)


def _epoch(job: Job, engine: Engine, data: Dataset, recipe: Recipe, phase: Phase, number: int, events: Events) -> Epoch:
    start = time.perf_counter()
    order = list(batches(len(data.train), recipe.batch, job.seed, number))
    losses, correct, seen = 0.0, 0.0, 0
    for step, indices in enumerate(order):
        loss, right = engine.step(data.train.x(indices), data.train.y[indices], phase.lr(step, len(order)))
        losses, correct, seen = losses + loss * len(indices), correct + right, seen + len(indices)
        events.tick(
            "step",
            stage=job.stage,
            network=job.network,
            epoch=number + 1,
            step=step + 1,
            steps=len(order),
            loss=losses / seen,
            accuracy=correct / seen,
        )
    logits = engine.evaluate(data.validation.x())
    if not np.isfinite(logits).all():
        raise MnxError(
            f"training {job.model.name} diverged: after epoch {number + 1} its outputs for validation examples are not "
            "finite; lower the learning rate, or clip gradients"
        )
    accuracy, validation_loss = scored(logits, data.validation.y)
    seconds = time.perf_counter() - start
    return Epoch(losses / seen, correct / seen, accuracy, validation_loss, phase.first, seconds)


def scored(logits: Array, y: Array) -> tuple[float, float]:
    """Accuracy and mean cross-entropy of logits (n, classes) for classes y (n,)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float((logits.argmax(axis=1) == y).mean()), float(-log_probabilities[np.arange(len(y)), y].mean())


def _resumed(engine: Engine, path: Path, identity: Mapping[str, Any]) -> list[Epoch]:
    state, record = checkpoint.load(path)
    history = record.pop("history", [])
    for key, value in identity.items():
        if record.get(key) != value:
            raise MnxError(
                f"{path} was written for another {key}; go on with the settings it was started with, "
                "or start this stage afresh with --force"
            )
    engine.load_state(state)
    return [Epoch(**epoch) for epoch in history]
