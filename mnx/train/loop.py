"""Train networks: epochs of steps, validation, a checkpoint an epoch, the stopping rule. Read it top to bottom.

Networks that train together see the same batches. Each computes what it would alone, whoever else is there: order and
draws depend on the seed of all and the number of the epoch, and those that are behind, because they were killed or
diverged, train apart until they are level.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mnx.data.batches import batches
from mnx.data.dataset import Dataset
from mnx.events import Events
from mnx.graphs.model import Array, Model, model_hash
from mnx.graphs.parameters import parameters
from mnx.metrics import mean_square, training_score, validation_score
from mnx.train.course import Epoch
from mnx.train.engine import Engine, EngineMaker, Steps
from mnx.train.feed import Fed, Feed
from mnx.train.fitting import augmentation_of, step_settings, teacher_of
from mnx.train.network import Job, Network
from mnx.train.optimiser_state import optimiser_state
from mnx.train.recipe import Recipe
from mnx.train.schedule import Phase, cycle_ends, next_phase
from mnx.train.settings import WEIGHT, Diverged, Outcome
from mnx.train.teacher import Teacher

STATISTICS_STEPS = 100
"""Batches that the statistics of averaged weights are taken from: more than a moving average of 0.9 remembers."""


@dataclass(frozen=True)
class Trained:
    """A trained network, how it came to be, and what it left on the way.

    Attributes:
        model: the network.
        epochs: its history.
        samples: examples that it has seen.
        kept: what its optimiser ended with, see `optimiser_state`.
        snapshots: its weights and statistics at the ends of cycles, without the one that it ended with.
    """

    model: Model
    epochs: tuple[Epoch, ...]
    samples: int
    kept: Mapping[str, Array] = field(default_factory=dict)
    snapshots: tuple[Mapping[str, Array], ...] = ()

    @property
    def seconds(self) -> float:
        """Time spent in epochs, over all sittings."""
        return sum(epoch.seconds for epoch in self.epochs)


def train(job: Job, data: Dataset, recipe: Recipe, make: EngineMaker, events: Events) -> Trained:
    """Train a network by itself; see `train_together`."""
    ((_, trained),) = train_together([job], job.seed, data, recipe, make, events)
    return trained


def train_together(
    jobs: Sequence[Job], seed: int, data: Dataset, recipe: Recipe, make: EngineMaker, events: Events
) -> Iterator[tuple[Job, Trained]]:
    """Train networks on the same batches to the end, from their checkpoints where they have some.

    Every epoch of a network depends on (seeds, number of the epoch) and its state before it alone: a run that was
    interrupted ends with the same bits as one that was not. Where the loss is not finite, the network goes on from its
    last epoch at a lower rate, as often as the recipe allows. The time of an epoch is shared out evenly.

    Args:
        jobs: the networks.
        seed: of the order of examples, and of augmentation.
        data: what to train and validate them on.
        recipe: of their stage, see `Recipe.of`. What it does to images is left out where no input is one.
        make: what makes their engines.
        events: told of every epoch.

    Yields:
        The networks as they end, whichever stops first.

    Raises:
        MnxError: a checkpoint is of another model, recipe, data or seed; a model has an op that cannot be trained; the
            recipe does not fit the images; the networks take other inputs.
        Diverged: a loss is not finite; the checkpoint of the last good epoch stays, the others finish their epoch.
    """
    training = _Training(seed, data, recipe, events)
    settings = step_settings(recipe, data)
    networks = [Network(job, lambda model, own: make(model, settings, own), training.terms) for job in jobs]
    with networks[0].engine.feed(data.train.raw, data.train.scalings, augmentation_of(recipe, data), seed) as feed:
        training.taught(networks[0].engine)
        while networks:
            for network in [each for each in networks if training.phase(each).done]:
                networks.remove(network)
                if recipe.average_cycles and network.course.snapshots:
                    training.average(network, feed)
                yield network.job, training.trained(network)
            fewest = min((each.course.epochs for each in networks), default=0)
            if level := [each for each in networks if each.course.epochs == fewest]:
                training.epoch(level, feed)


@dataclass
class _Pass:
    """A network's way through one epoch: sums over the examples seen, the validation outputs, or why it failed."""

    network: Network
    phase: Phase
    losses: float = 0.0
    score: float = 0.0
    seen: int = 0
    outputs: list[Array] = field(default_factory=list)
    failed: Diverged | None = None


class _Training:
    """What stays the same over all epochs of networks that train together, and its parts."""

    def __init__(self, seed: int, data: Dataset, recipe: Recipe, events: Events) -> None:
        self.seed, self.data, self.recipe, self.events = seed, data, recipe, events
        self._engines: list[Engine] = []
        self._steps: Steps
        self._teacher: Teacher | None = None

    @property
    def terms(self) -> dict[str, Any]:
        """What checkpoints must agree with, beside their networks."""
        found = {"recipe": self.recipe.to_json(), "data": self.data.fingerprint, "seed": self.seed}
        return {**found, "teacher": model_hash(self.teacher)} if self.teacher else found

    @cached_property
    def teacher(self) -> Model | None:
        """The network that the others learn from too."""
        return teacher_of(self.recipe, self.data)

    @property
    def examples(self) -> int:
        """How many an epoch visits."""
        size = self.recipe.batch_of(len(self.data.train))
        return len(self.data.train) // size * size

    def taught(self, engine: Engine) -> None:
        """Start the teacher, where there is one, on the device of an engine."""
        self._teacher = engine.teacher(self.teacher) if self.teacher else None

    def phase(self, network: Network) -> Phase:
        """What to do next."""
        training, history = self.recipe.watch == "training", network.course.history
        watched = [epoch.train_score if training else epoch.validation_score for epoch in history]
        return next_phase(self.recipe, watched, self._most(network))

    def epoch(self, networks: Sequence[Network], feed: Feed) -> None:
        """Train networks that are level through all examples, validate them, and write their checkpoints.

        Raises:
            Diverged: a network has no retry left.
        """
        start, number = time.perf_counter(), networks[0].course.epochs
        passes, steps = [_Pass(network, self.phase(network)) for network in networks], self._together(networks)
        order = self._order(number)
        for step, (x, y, said, mix) in enumerate(self._batches(feed, order, number)):
            lrs = [each.network.course.rate * each.phase.lr(step, len(order)) for each in passes]
            for each, outcome in zip(passes, steps.step(x, y, lrs, said, mix), strict=True):
                self._note(each, outcome, len(y), step, len(order))
            if all(each.failed for each in passes):
                break
        self._validate([each for each in passes if not each.failed])
        seconds = (time.perf_counter() - start) / len(networks)
        lost = [error for each in passes if (error := self._end(each, seconds))]
        if lost:
            raise lost[0]

    def average(self, network: Network, feed: Feed) -> None:
        """Give a network the mean of the snapshots' weights, and statistics of its own (Izmailov et al. 2018)."""
        kinds, engine, course = parameters(network.job.model), network.engine, network.course
        mean = {
            WEIGHT + name: np.stack([each[name] for each in course.snapshots]).mean(axis=0, dtype=np.float64)
            for name in kinds
        }
        engine.load_state({**engine.state(), **{key: array.astype(np.float32) for key, array in mean.items()}})
        if any(not kind.trained for kind in kinds.values()) and not self.recipe.frozen_norm:
            order = self._order(course.epochs)[:STATISTICS_STEPS]
            for x, y, said, mix in self._batches(feed, order, course.epochs):
                engine.step(x, y, 0.0, said, mix)

    def trained(self, network: Network) -> Trained:
        """What a network that is done has become."""
        course, model, ends = network.course, network.engine.model(), network.course.snapshots
        if ends and all(np.array_equal(array, ends[-1][name]) for name, array in model.weights.items()):
            ends = ends[:-1]
        samples, kept = course.epochs * self.examples, optimiser_state(network.engine.state())
        return Trained(model, tuple(course.history), samples, kept, tuple(ends))

    def _together(self, networks: Sequence[Network]) -> Steps:
        """Steps of these networks; a session stands as long as nobody comes or goes."""
        engines = [network.engine for network in networks]
        if engines != self._engines:
            self._engines, self._steps = engines, engines[0].together(engines[1:])
        return self._steps

    def _note(self, each: _Pass, outcome: Outcome, examples: int, step: int, steps: int) -> None:
        """Add what a step gave to a pass, and tell of it."""
        job, epoch, data = each.network.job, each.network.course.epochs + 1, self.data
        if each.failed:
            return
        if isinstance(outcome, Diverged):
            each.failed = outcome.at(job.stage, epoch, step + 1, steps)
            return
        each.losses, each.score = each.losses + outcome[0] * examples, each.score + outcome[1]
        each.seen += examples
        self.events.tick(
            "step",
            stage=job.stage,
            network=job.network,
            epoch=epoch,
            step=step + 1,
            steps=steps,
            loss=each.losses / each.seen,
            task=data.kind,
            accuracy=self._score(each),
        )

    def _validate(self, passes: Sequence[_Pass]) -> None:
        """What networks say of the validation examples, of which each batch is made once."""
        for x in self.data.validation.batches() if passes else ():
            for each in passes:
                each.outputs.append(each.network.engine.evaluate(x))
        for each in passes:
            if not all(np.isfinite(outputs).all() for outputs in each.outputs):
                job, number = each.network.job, each.network.course.epochs + 1
                what = f"after epoch {number} its outputs for validation examples are not finite"
                each.failed = Diverged(job.model.name, what, job.stage)

    def _end(self, each: _Pass, seconds: float) -> Diverged | None:
        """Note an epoch in the network's course, or send it back, and write its checkpoint; the error of one lost."""
        network, recipe, data = each.network, self.recipe, self.data
        course, told = network.course, {"stage": network.job.stage, "network": network.job.network}
        if each.failed:
            if course.retries >= recipe.retries:
                return each.failed
            network.retry(recipe.retry_rate)
            lr = recipe.lr * network.course.rate
            self.events.record("diverged", **told, reason=str(each.failed), lr=lr)
            network.save()
            return None
        validation, loss = validation_score(data.kind, np.concatenate(each.outputs), data.validation.y)
        if course.epochs + 1 in cycle_ends(recipe, self._most(network)):
            course.snapshots.append(dict(network.engine.model().weights))
        rate = course.rate * each.phase.first
        done = Epoch(each.losses / each.seen, self._score(each), validation, loss, rate, seconds)
        course.history.append(done)
        network.save()
        self.events.record("epoch", **told, epoch=course.epochs, task=data.kind, **vars(done))
        return None

    def _score(self, each: _Pass) -> float:
        """The mean training score so far."""
        return training_score(each.score / each.seen, self._spread)

    @cached_property
    def _spread(self) -> float | None:
        return mean_square(self.data.kind, self.data.train.y)

    def _batches(
        self, feed: Feed, order: Sequence[Array], epoch: int
    ) -> Iterator[tuple[Fed, Array, Array | None, tuple[Array, float] | None]]:
        """The batches of an epoch: inputs, targets, a teacher's logits, how they are mixed; see `Engine.step`."""
        y = self.data.train.y
        for step, (indices, x) in enumerate(feed.each(order, epoch)):
            mixed = feed.mixture(indices, epoch, step)
            said = self._teacher.logits(x) if self._teacher else None
            yield x, y[indices], said, None if mixed is None else (y[mixed.partners], mixed.share)

    def _order(self, epoch: int) -> list[Array]:
        examples = len(self.data.train)
        return list(batches(examples, self.recipe.batch_of(examples), self.seed, epoch))

    def _most(self, network: Network) -> int:
        """The epochs that all budgets allow, one at least; time goes by the mean of the epochs so far."""
        recipe, most, course = self.recipe, self.recipe.epochs, network.course
        if recipe.multiply_adds and network.job.step_cost:
            most = min(most, int(recipe.multiply_adds // (network.job.step_cost * self.examples)))
        if recipe.seconds and course.history:
            spent = sum(epoch.seconds for epoch in course.history)
            most = min(most, int(recipe.seconds // max(spent / course.epochs, 1e-9)))
        return max(most, 1)
