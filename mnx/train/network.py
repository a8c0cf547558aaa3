"""A network in training: what is asked, its engine, how far it has come, and the checkpoint that it comes back from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mnx.errors import MnxError
from mnx.graphs.model import Array, Model, model_hash
from mnx.train import checkpoint
from mnx.train.course import Course
from mnx.train.engine import Engine
from mnx.train.optimiser_state import begun


@dataclass(frozen=True)
class Job:
    """One network to train.

    Attributes:
        stage: mothers, members or independent.
        network: its name in the stage.
        model: where it starts.
        folder: where its checkpoint stands while it trains.
        seed: of Dropout, and of the order of examples and of augmentation where it trains by itself.
        step_cost: multiply-adds of a training step, for each example.
        kept: what its optimiser goes on with, see `optimiser_state.begun`; empty for from the start.
    """

    stage: str
    network: str
    model: Model
    folder: Path
    seed: int
    step_cost: int = 0
    kept: Mapping[str, Array] = field(default_factory=dict)


class Network:
    """A network in training; begins where its checkpoint left it, or at the start with what its optimiser is given."""

    def __init__(self, job: Job, make: Callable[[Model, int], Engine], terms: Mapping[str, Any]) -> None:
        """Make its engine, from (model, seed); `terms` are what the checkpoint must agree with, beside the job.

        Raises:
            MnxError: the checkpoint is of another model, or of other terms.
        """
        self.job, self._make = job, make
        self._identity = {
            "model": model_hash(job.model),
            **terms,
            "seed": terms["seed"] if terms["seed"] == job.seed else [job.seed, terms["seed"]],
            "optimiser state": _digest(job.kept),
        }
        self.engine, self.course = self._begun()

    def save(self) -> None:
        """Write the checkpoint."""
        state = {**self.engine.state(), **self.course.arrays()}
        checkpoint.save(self._path, state, {**self._identity, **self.course.record()})

    def retry(self, share: float) -> None:
        """Go back to the last checkpoint, and on from there at a share of the learning rate."""
        rate, retries = self.course.rate * share, self.course.retries + 1
        self.engine, self.course = self._begun()
        self.course.rate, self.course.retries = rate, retries

    @property
    def _path(self) -> Path:
        return self.job.folder / "checkpoint.npz"

    def _begun(self) -> tuple[Engine, Course]:
        engine = self._make(self.job.model, self.job.seed)
        if self._path.exists():
            state, record = checkpoint.load(self._path)
            self._require_alike(record)
            course = Course.of(record, state)
            engine.load_state(state)
            return engine, course
        if self.job.kept:
            engine.load_state(begun(engine.state(), self.job.kept))
        return engine, Course()

    def _require_alike(self, record: Mapping[str, Any]) -> None:
        for key, value in self._identity.items():
            if record.get(key) != value:
                raise MnxError(
                    f"{self._path} was written for another {key}; go on with the settings it was started with, "
                    "or start this stage afresh with --force"
                )


def _digest(arrays: Mapping[str, Array]) -> str:
    """A hash of arrays by name, '' of none."""
    digest = sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest() if arrays else ""
