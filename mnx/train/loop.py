"""Train one network: epochs of steps, validation, a checkpoint an epoch, the stopping rule. Read it top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mnx.data.batches import batches
from mnx.data.dataset import Dataset
from mnx.data.rows import Raw
from mnx.data.scaling import Scaling
from mnx.errors import MnxError
from mnx.events import Events
from mnx.graphs.model import Array, Model, model_hash
from mnx.graphs.parameters import parameters
from mnx.graphs.run import Batch
from mnx.metrics import mean_square, training_score, validation_score
from mnx.train import checkpoint
from mnx.train.augment import Augmentation
from mnx.train.course import Course, Epoch
from mnx.train.feed import Fed, Feed
from mnx.train.feed_graph import is_image
from mnx.train.losses import TASKS
from mnx.train.recipe import Recipe
from mnx.train.schedule import Phase, cycle_ends, next_phase
from mnx.train.settings import MOMENTUM, WEIGHT, Diverged, StepSettings

STATISTICS_STEPS = 100
"""Batches that the statistics of averaged weights are taken from: more than a moving average of 0.9 remembers."""


class Engine(Protocol):
    """What runs training steps; one file in this folder per engine."""

    def feed(self, raw: Sequence[Raw], scalings: Sequence[Scaling], augmentation: Augmentation, seed: int) -> Feed:
        """What makes batches of raw examples on the engine's device, with draws by a seed."""

    def step(
        self, x: Batch | Fed, y: Array, lr: float, teacher: Array | None = None, mix: tuple[Array, float] | None = None
    ) -> tuple[float, float]:
        """One step: (mean loss, sum of scores)."""

    def evaluate(self, x: Batch, batch: int = 256) -> Array:
        """Outputs in eval mode."""

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
        seed: of the order of examples, of augmentation and of Dropout.
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


def train(job: Job, data: Dataset, recipe: Recipe, make: EngineMaker, events: Events) -> Trained:
    """Train a network to the end, from its checkpoint where it has one.

    Every epoch depends on (seed, number of the epoch) and the state before it alone: a run that was interrupted ends
    with the same bits as one that was not. Where the loss is not finite, the network goes on from its last epoch at a
    lower rate, as often as the recipe allows.

    Args:
        job: the network.
        data: what to train and validate it on.
        recipe: of its stage, see `Recipe.of`. What it does to images is left out where no input is one.
        make: what makes its engine.
        events: told of every epoch.

    Raises:
        MnxError: the checkpoint is of another model, recipe or data; the model has an op that cannot be trained; the
            recipe does not fit the images.
        Diverged: the loss is not finite; the checkpoint of the last good epoch stays.
    """
    training = _Training(job, data, recipe, make, events)
    engine, course = training.begun()
    with engine.feed(data.train.raw, data.train.scalings, training.augmentation, job.seed) as feed:
        while not (phase := training.phase(course)).done:
            done = None
            try:
                done = training.epoch(engine, feed, course, phase)
            except Diverged as error:
                if course.retries >= recipe.retries:
                    raise
                rate, retries = course.rate * recipe.retry_rate, course.retries + 1
                engine, course = training.begun()
                course.rate, course.retries = rate, retries
                events.record("diverged", stage=job.stage, network=job.network, reason=str(error), lr=recipe.lr * rate)
            checkpoint.save(
                training.path, {**engine.state(), **course.arrays()}, {**training.identity, **course.record()}
            )
            if done is not None:
                told = {"stage": job.stage, "network": job.network, "epoch": course.epochs, "task": data.kind}
                events.record("epoch", **told, **vars(done))
        if recipe.average_cycles and course.snapshots:
            training.average(engine, feed, course)
    samples = course.epochs * training.examples
    return Trained(engine.model(), tuple(course.history), samples, momentum_of(engine.state()), tuple(course.snapshots))


def momentum_of(state: Mapping[str, Array]) -> dict[str, Array]:
    """The momentum in an engine's state, by parameter."""
    return {key.removeprefix(MOMENTUM): array for key, array in state.items() if key.startswith(MOMENTUM)}


@dataclass(frozen=True)
class _Training:
    """What stays the same over all epochs of a training, and its parts."""

    job: Job
    data: Dataset
    recipe: Recipe
    make: EngineMaker
    events: Events

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return self.job.folder / "checkpoint.npz"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        return {
            "model": model_hash(self.job.model),
            "recipe": self.recipe.to_json(),
            "data": self.data.fingerprint,
            "seed": self.job.seed,
            "momentum": _digest(self.job.momentum),
        }

    @cached_property
    def settings(self) -> StepSettings:
        """What the step must know."""
        data = self.data
        counts = np.bincount(data.train.y, minlength=data.classes).tolist() if data.kind == "classes" else []
        return self.recipe.step(data.kind, TASKS[data.kind].default, counts)

    @property
    def augmentation(self) -> Augmentation:
        """What is done to examples; to images only where there are any."""
        recipe = self.recipe
        if any(is_image(scaling) for scaling in self.data.train.scalings):
            return Augmentation(recipe.crop, "reflect", recipe.mirror, recipe.cutout, recipe.mixup)
        return Augmentation(mixup=recipe.mixup)

    @property
    def examples(self) -> int:
        """How many an epoch visits."""
        size = min(self.recipe.batch, len(self.data.train))
        return len(self.data.train) // size * size

    def begun(self) -> tuple[Engine, Course]:
        """An engine where the checkpoint left it, or at the start with the momentum that it is given."""
        engine = self.make(self.job.model, self.settings, self.job.seed)
        if self.path.exists():
            state, record = checkpoint.load(self.path)
            self._require_alike(record)
            course = Course.of(record, state)
            engine.load_state(state)
            return engine, course
        if self.job.momentum:
            state = engine.state()
            known = {MOMENTUM + name: array for name, array in self.job.momentum.items() if MOMENTUM + name in state}
            engine.load_state({**state, **known})
        return engine, Course()

    def phase(self, course: Course) -> Phase:
        """What to do next."""
        training = self.recipe.watch == "training"
        watched = [epoch.train_score if training else epoch.validation_score for epoch in course.history]
        return next_phase(self.recipe, watched, self._most(course))

    def epoch(self, engine: Engine, feed: Feed, course: Course, phase: Phase) -> Epoch:
        """Train through all examples, validate, and note it in the course."""
        start, number, data = time.perf_counter(), course.epochs, self.data
        order = self._order(number)
        losses, score, seen, spread = 0.0, 0.0, 0, mean_square(data.kind, data.train.y)
        for step, (x, y, mix) in enumerate(self._batches(feed, order, number)):
            try:
                loss, scored = engine.step(x, y, course.rate * phase.lr(step, len(order)), mix=mix)
            except Diverged as error:
                raise error.at(number + 1, step + 1, len(order)) from None
            losses, score, seen = losses + loss * len(y), score + scored, seen + len(y)
            self.events.tick(
                "step",
                stage=self.job.stage,
                network=self.job.network,
                epoch=number + 1,
                step=step + 1,
                steps=len(order),
                loss=losses / seen,
                task=data.kind,
                accuracy=training_score(score / seen, spread),
            )
        outputs = np.concatenate([engine.evaluate(x) for x in data.validation.batches()])
        if not np.isfinite(outputs).all():
            what = f"after epoch {number + 1} its outputs for validation examples are not finite"
            raise Diverged(self.job.model.name, what)
        validation, validation_loss = validation_score(data.kind, outputs, data.validation.y)
        if number + 1 in cycle_ends(self.recipe, self._most(course)):
            course.snapshots.append(dict(engine.model().weights))
        rate, seconds = course.rate * phase.first, time.perf_counter() - start
        reached = training_score(score / seen, spread)
        done = Epoch(losses / seen, reached, validation, validation_loss, rate, seconds)
        course.history.append(done)
        return done

    def average(self, engine: Engine, feed: Feed, course: Course) -> None:
        """Give an engine the mean of the snapshots' weights, and statistics of its own (Izmailov et al. 2018)."""
        kinds = parameters(self.job.model)
        mean = {
            WEIGHT + name: np.stack([each[name] for each in course.snapshots]).mean(axis=0, dtype=np.float64)
            for name in kinds
        }
        engine.load_state({**engine.state(), **{key: array.astype(np.float32) for key, array in mean.items()}})
        if any(not kind.trained for kind in kinds.values()) and not self.recipe.frozen_norm:
            order = self._order(course.epochs)[:STATISTICS_STEPS]
            for x, y, mix in self._batches(feed, order, course.epochs):
                engine.step(x, y, 0.0, mix=mix)

    def _batches(
        self, feed: Feed, order: Sequence[Array], epoch: int
    ) -> Iterator[tuple[Fed, Array, tuple[Array, float] | None]]:
        """The batches of an epoch: inputs, targets, and how they are mixed; see `Engine.step`."""
        y = self.data.train.y
        for step, (indices, x) in enumerate(feed.each(order, epoch)):
            mixed = feed.mixture(indices, epoch, step)
            yield x, y[indices], None if mixed is None else (y[mixed.partners], mixed.share)

    def _order(self, epoch: int) -> list[Array]:
        return list(batches(len(self.data.train), self.recipe.batch, self.job.seed, epoch))

    def _most(self, course: Course) -> int:
        """The epochs that all budgets allow, one at least; time goes by the mean of the epochs so far."""
        recipe, most = self.recipe, self.recipe.epochs
        if recipe.multiply_adds and self.job.step_cost:
            most = min(most, int(recipe.multiply_adds // (self.job.step_cost * self.examples)))
        if recipe.seconds and course.history:
            spent = sum(epoch.seconds for epoch in course.history)
            most = min(most, int(recipe.seconds // max(spent / course.epochs, 1e-9)))
        return max(most, 1)

    def _require_alike(self, record: Mapping[str, Any]) -> None:
        for key, value in self.identity.items():
            if record.get(key) != value:
                raise MnxError(
                    f"{self.path} was written for another {key}; go on with the settings it was started with, "
                    "or start this stage afresh with --force"
                )


def _digest(arrays: Mapping[str, Array]) -> str:
    """A hash of arrays by name, '' of none."""
    digest = sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest() if arrays else ""
