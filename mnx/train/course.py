"""How far a training has come: what a checkpoint keeps beside the engine's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mnx.graphs.model import Array

_SNAPSHOT = "snapshot/"


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: means over the training examples, and the validation score after it."""

    loss: float
    train_score: float
    validation_score: float
    validation_loss: float
    lr: float
    seconds: float


@dataclass
class Course:
    """Where a training stands.

    Attributes:
        history: its epochs.
        rate: what its learning rates are multiplied by.
        retries: how often it went on from an earlier epoch, because a loss was not finite.
        snapshots: weights and statistics at the ends of cycles.
    """

    history: list[Epoch] = field(default_factory=list)
    rate: float = 1.0
    retries: int = 0
    snapshots: list[dict[str, Array]] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def record(self) -> dict[str, Any]:
        """What a checkpoint says of it in JSON."""
        return {"history": [vars(epoch) for epoch in self.history], "rate": self.rate, "retries": self.retries}

    def arrays(self) -> dict[str, Array]:
        """What a checkpoint holds of it in arrays."""
        return {
            f"{_SNAPSHOT}{index}/{name}": array
            for index, each in enumerate(self.snapshots)
            for name, array in each.items()
        }

    @classmethod
    def of(cls, record: Mapping[str, Any], state: dict[str, Array]) -> Course:
        """The course in a checkpoint; takes its arrays out of `state`."""
        found: dict[str, dict[str, Array]] = {}
        for key in [key for key in state if key.startswith(_SNAPSHOT)]:
            index, _, name = key.removeprefix(_SNAPSHOT).partition("/")
            found.setdefault(index, {})[name] = state.pop(key)
        snapshots = [found[index] for index in sorted(found, key=int)]
        history = [Epoch(**epoch) for epoch in record.get("history", [])]
        return cls(history, record.get("rate", 1.0), record.get("retries", 0), snapshots)
