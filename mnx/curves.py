"""Curves of a training for TensorBoard: what every epoch gave, one folder a network.

Needs the package tensorboard alone, without TensorFlow, for the form of its records.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

from mnx.errors import MnxError
from mnx.events import Event
from mnx.train import checkpoint
from mnx.train.course import Epoch
from mnx.workspace import RunFolder

TAGS: Final[Mapping[str, str]] = {
    "loss": "loss/training",
    "validation_loss": "loss/validation",
    "train_score": "score/training",
    "validation_score": "score/validation",
    "lr": "learning_rate",
    "seconds": "seconds",
}
"""What an epoch gives -> the name of its curve; a field that is not named here has its own name."""

_VERSION = "brain.Event:2"


def require_tensorboard() -> None:
    """Refuse to write curves where the package is missing.

    Raises:
        MnxError: it cannot be imported.
    """
    _module("tensorboard.summary.writer.record_writer")


class Curves:
    """A listener that writes the curves of a stage.

    The first epoch of a network that it hears of writes all epochs before it anew, from the checkpoint: curves have
    every step once, however often a training was killed, and whether they were asked for from its start or not.
    """

    def __init__(self, run: RunFolder, stages: Mapping[str, Sequence[str]]) -> None:
        """Write the curves of networks of these stages that are trained already, where they are missing.

        Raises:
            MnxError: the package is missing, or a record of the run is broken.
        """
        require_tensorboard()
        self._run = run
        self._files: dict[tuple[str, str], Any] = {}
        for stage, names in stages.items():
            for name in names:
                done = run.training(stage, name)
                if done is not None and not any(run.curves_folder(stage, name).glob("events.*")):
                    self._begin(stage, name)
                    self._write((stage, name), enumerate(map(dataclasses.asdict, done.epochs), 1))
                    self._files.pop((stage, name)).close()

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        key = (event.get("stage", ""), event.get("network", ""))
        if event["event"] == "epoch":
            if key not in self._files:
                self._begin(*key)
                self._write(key, enumerate(self._before(*key, event["epoch"]), 1))
            self._write(key, [(event["epoch"], event)])
        elif event["event"] in ("start", "trained") and key in self._files:
            self._files.pop(key).close()

    def end(self) -> None:
        """Close the files."""
        while self._files:
            self._files.popitem()[1].close()

    def _before(self, stage: str, name: str, epoch: int) -> list[Mapping[str, Any]]:
        """The epochs before this one, as the checkpoint has them."""
        path = self._run.folder(stage, name) / "checkpoint.npz"
        return list(checkpoint.load(path)[1].get("history", [])[: epoch - 1]) if path.exists() else []

    def _begin(self, stage: str, name: str) -> None:
        """Open a new file in place of those of earlier sittings."""
        folder = self._run.curves_folder(stage, name)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._files[stage, name] = (folder / f"events.out.tfevents.{time.time_ns()}.mnx").open("wb")
        self._record((stage, name), file_version=_VERSION)

    def _write(self, key: tuple[str, str], epochs: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        summary = _module("tensorboard.compat.proto.summary_pb2")
        for number, epoch in epochs:
            names = [
                field.name for field in dataclasses.fields(Epoch) if isinstance(epoch.get(field.name), float | int)
            ]
            values = [summary.Summary.Value(tag=TAGS.get(name, name), simple_value=epoch[name]) for name in names]
            self._record(key, step=number, summary=summary.Summary(value=values))
        self._files[key].flush()

    def _record(self, key: tuple[str, str], **fields: Any) -> None:
        event = _module("tensorboard.compat.proto.event_pb2").Event(wall_time=time.time(), **fields)
        writer = _module("tensorboard.summary.writer.record_writer").RecordWriter(self._files[key])
        writer.write(event.SerializeToString())


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MnxError(
            f"curves for TensorBoard need the package tensorboard ({error}): pip install 'mothernets[tensorboard]'"
        ) from error
