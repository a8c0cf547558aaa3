"""Networks that train in a blink, data that they can learn, and what these tests compare of a training."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings

from mnx.data.dataset import Dataset, Part
from mnx.data.scaling import Scaling
from mnx.events import Events
from mnx.graphs.builder import Builder
from mnx.graphs.model import Array, Model, Port
from mnx.graphs.parameters import parameters
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.vgg import vgg
from mnx.train.engines import engine
from mnx.train.loop import Trained, train
from mnx.train.network import Job
from mnx.train.recipe import Recipe
from mnx.train.settings import MOMENTUM

SHAPE = (1, 4, 4)
CLASSES = 3
RECIPE = Recipe(lr=0.1, batch=16, epochs=4, patience=4, anneal=2)

make = partial(engine, "ort", "cpu", 1)


def examples(count: int) -> settings:
    """Settings of a property that is tried `count` times, always on the same examples."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@dataclass
class DeadlyWrites:
    """Stands in for `os.fsync` and dies at one of its calls, a later one after every `next`."""

    fsync: Callable[[int], None] = os.fsync
    calls: int = 0
    deadly: int = 0

    def next(self) -> None:
        """Count anew, up to one call more."""
        self.calls, self.deadly = 0, self.deadly + 1

    def __call__(self, descriptor: int) -> None:
        self.calls += 1
        if self.calls == self.deadly:
            raise KeyboardInterrupt
        self.fsync(descriptor)


def plain() -> Model:
    """A perceptron with nothing random and no statistics."""
    return mlp("plain", SHAPE, (8,), CLASSES)


def with_norm() -> Model:
    """A VGG network with BatchNormalization, whose statistics training moves."""
    return vgg("norm", [[(3, 4)], [(3, 6)]], CLASSES, SHAPE, (8,), batch_norm=True)


def with_dropout() -> Model:
    """A perceptron with Dropout, whose masks training draws."""
    random = np.random.default_rng(0)
    builder = Builder()
    first = builder.weight("first", random.standard_normal((16, 16), np.float32) * np.float32(0.3))
    x = builder.add("Flatten", "x", axis=1)
    x = builder.add("Gemm", x, first, builder.weight("first_bias", np.zeros(16, np.float32)), transB=1)
    x = builder.add("Dropout", builder.add("Relu", x), builder.weight("ratio", np.array(0.5, np.float32)))
    last = builder.weight("last", random.standard_normal((CLASSES, 16), np.float32) * np.float32(0.3))
    logits = builder.add("Gemm", x, last, builder.weight("last_bias", np.zeros(CLASSES, np.float32)), transB=1)
    return builder.model("dropout", [Port("x", "float32", SHAPE)], [Port(logits, "float32", (CLASSES,))])


MODELS = {"plain": plain, "norm": with_norm, "dropout": with_dropout}


def separable(n: int = 80, seed: int = 0, scale: float = 1.0) -> Dataset:
    """Data of `CLASSES` well separated clouds: `n` training examples, half as many to validate and to test."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((CLASSES, *SHAPE)) * 2

    def drawn(count: int) -> tuple[Array, Array]:
        y = np.arange(count) % CLASSES
        x = centres[y] + 0.3 * random.standard_normal((count, *SHAPE))
        return (x * scale).astype(np.float32), y.astype(np.int64)

    train, validation, test = drawn(n), drawn(n // 2), drawn(n // 2)
    scaling = Scaling(SHAPE, (0, 1, 2), None, None, (), (), SHAPE)
    parts = [Part((x,), (scaling,), y) for x, y in (train, validation, test)]
    return Dataset("clouds", *parts, CLASSES, f"clouds-{n}-{seed}-{scale}")


def job(model: Model, folder: Path, seed: int = 5, momentum: float = 0.0) -> Job:
    """The training of one network as a member, whose momentum deviates by so much at the start."""
    random = np.random.default_rng(seed)
    kept = {
        MOMENTUM + name: random.normal(0, momentum, model.weights[name].shape).astype(np.float32)
        for name, kind in parameters(model).items()
        if kind.trained and momentum
    }
    return Job("members", model.name, model, folder, seed, 0, kept)


def train_in(
    folder: Path, model: Model, recipe: Recipe = RECIPE, events: Events | None = None, momentum: float = 0.0
) -> Trained:
    """Train a network on `separable` data, with its checkpoint in `folder`."""
    return train(job(model, folder, momentum=momentum), separable(), recipe, make, events or Events())


def same_bits(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Whether two sets of arrays are equal to the last bit, types and shapes included."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].tobytes() == other[name].tobytes()
        for name in one
    )
