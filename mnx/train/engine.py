"""What the training loop asks of an engine: one network on a device, and steps of several on the same batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from mnx.data.rows import Raw
from mnx.data.scaling import Scaling
from mnx.graphs.model import Array, Model
from mnx.graphs.run import Batch
from mnx.train.augment import Augmentation
from mnx.train.feed import Fed, Feed
from mnx.train.settings import Outcome, StepSettings
from mnx.train.teacher import Teacher


class Steps(Protocol):
    """Steps of several networks, each on the same batch; see `Engine.together`."""

    def step(
        self,
        x: Batch | Fed,
        y: Array,
        lrs: Sequence[float],
        teacher: Array | None = None,
        mix: tuple[Array, float] | None = None,
    ) -> list[Outcome]:
        """One step of each, with a learning rate for each; one that diverges stays as it was."""


class Engine(Protocol):
    """What runs training steps; one file in this folder per engine."""

    def feed(self, raw: Sequence[Raw], scalings: Sequence[Scaling], augmentation: Augmentation, seed: int) -> Feed:
        """What makes batches of raw examples on the engine's device, with draws by a seed."""

    def teacher(self, model: Model) -> Teacher:
        """A network on the engine's device that answers batches."""

    def step(
        self, x: Batch | Fed, y: Array, lr: float, teacher: Array | None = None, mix: tuple[Array, float] | None = None
    ) -> tuple[float, float]:
        """One step: (mean loss, sum of scores)."""

    def together(self, others: Sequence[Any]) -> Steps:
        """Steps of this network and of others of the same maker; each computes to the bit what it would alone."""

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
