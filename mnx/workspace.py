"""The run folder: which file stands where, and what is done already. The layout is a contract with the user.

plan.json  settings.json  events.jsonl  scores.json  ensemble.onnx  ensemble.json  (heartbeat.json while it trains)
mothers/CLUSTER/      mother.onnx (carved)  trained.onnx  training.json  optimiser.npz
members/NAME/         hatched.onnx  certificate.json  optimiser.npz  trained.onnx  training.json
                      (trained.original.onnx)  (snapshot-1.onnx ...)
independent/NAME/     start.onnx  trained.onnx  training.json  (trained.original.onnx)  (snapshot-1.onnx ...)
independent/          ensemble.onnx  ensemble.json
tensorboard/STAGE/NAME/  events.out.tfevents.*

Where normalisation was put back for training, folding.json beside a trained network certifies that it was taken out.
Members are written in the opset, file format, names and metadata of their users' files. Where a recipe has
snapshots, `snapshot-1.onnx` and so on are the network at the ends of the cycles before the last. mnx trains in float32:
of a member in another float type `trained.original.onnx` and `snapshot-1.original.onnx` are in that type.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.certificate import Certificate
from mnx.graphs.errors import GraphError
from mnx.graphs.files import write_text
from mnx.graphs.model import Array, Precision
from mnx.plan import Plan
from mnx.plan import load as load_plan
from mnx.train import checkpoint
from mnx.train.course import Epoch
from mnx.train.loop import Trained

STAGES = {"mothers": "mother.onnx", "members": "hatched.onnx", "independent": "start.onnx"}
"""Folder of a kind of network -> the file its training starts from."""
FOLDING = "folding.json"
ORIGINAL = "trained.original.onnx"
"""A trained network in the float types of its user's file, where those are not float32."""
_SNAPSHOTS = re.compile(rf"\.?(snapshot-[0-9]+(?:\.original)?)(?:\.[0-9a-f]{{8}})?{re.escape(onnx_file.SUFFIX)}")
"""The files of snapshots, and what a killed writer left of one."""


@dataclass(frozen=True)
class Training:
    """What `training.json` says of a finished training; files by their hashes."""

    start: str
    trained: str
    snapshots: tuple[str, ...]
    multiply_adds: int
    samples: int
    seconds: float
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True)
class RunFolder:
    """A run folder; nothing is made before something is written."""

    path: Path

    @property
    def plan_file(self) -> Path:
        """The plan."""
        return self.path / "plan.json"

    @property
    def events_file(self) -> Path:
        """The records of the run, one JSON document a line."""
        return self.path / "events.jsonl"

    @property
    def ensemble_file(self) -> Path:
        """The ensemble graph."""
        return self.path / "ensemble.onnx"

    @property
    def settings_file(self) -> Path:
        """Data and recipe that the run is trained with."""
        return self.path / "settings.json"

    @property
    def heartbeat_file(self) -> Path:
        """Where networks in training stand between two epochs; there while they train, or where that was killed."""
        return self.path / "heartbeat.json"

    def curves_folder(self, stage: str, name: str) -> Path:
        """The curves of one network for TensorBoard."""
        return self.path / "tensorboard" / stage / name

    @property
    def scores_file(self) -> Path:
        """The scores of the last `mnx score`."""
        return self.path / "scores.json"

    def folder(self, stage: str, name: str) -> Path:
        """The folder of one network."""
        return self.path / stage / name

    def start_file(self, stage: str, name: str) -> Path:
        """The file that a network's training starts from."""
        return self.folder(stage, name) / STAGES[stage]

    def trained_file(self, stage: str, name: str) -> Path:
        """The trained network."""
        return self.folder(stage, name) / "trained.onnx"

    def snapshot_file(self, stage: str, name: str, number: int) -> Path:
        """The network at the end of a cycle before the last, from 1 on."""
        return self.folder(stage, name) / f"snapshot-{number}.onnx"

    def network_files(self, stage: str, name: str) -> dict[str, Path]:
        """What stands for a network in an ensemble: itself under its name, snapshots as NAME/snapshot-1 and so on."""
        training = self.training(stage, name)
        count = 0 if training is None else len(training.snapshots)
        return self._network_files(stage, name, count)

    def network_hashes(self, stage: str, name: str) -> dict[str, str]:
        """The hash of each of `network_files`; where they are a finished training's, it has found them so."""
        training = self.training(stage, name)
        if training is None:
            return {name: file_hash(self.trained_file(stage, name))}
        names = self._network_files(stage, name, len(training.snapshots))
        return dict(zip(names, (training.trained, *training.snapshots), strict=True))

    def _network_files(self, stage: str, name: str, snapshots: int) -> dict[str, Path]:
        earlier = [self.snapshot_file(stage, name, number + 1) for number in range(snapshots)]
        return {name: self.trained_file(stage, name), **{f"{name}/{file.stem}": file for file in earlier}}

    def originals(self, stage: str, names: Sequence[str]) -> dict[str, Path]:
        """Of `network_files` of networks in other float types than float32, the files in these types."""
        trained = [name for name in names if self.training(stage, name) is not None]
        found = {key: file for name in trained for key, file in self.network_files(stage, name).items()}
        files = {name: _in_own_types(file) for name, file in found.items()}
        return {name: file for name, file in files.items() if file.exists()}

    def optimiser_file(self, stage: str, name: str) -> Path:
        """What the optimiser of a mother ended with, or that of a member begins with."""
        return self.folder(stage, name) / "optimiser.npz"

    def optimiser_state(self, stage: str, name: str, network: str) -> dict[str, Array]:
        """What a network's optimiser kept; empty where nothing stands there for the network with this hash.

        Raises:
            MnxError: the file is broken.
        """
        path = self.optimiser_file(stage, name)
        if not path.exists():
            return {}
        try:
            arrays, record = checkpoint.load(path)
        except MnxError:
            raise MnxError(
                f"the optimiser's state {path} cannot be read: delete it, and training goes on without; or "
                f"make it again with 'mnx {'train' if stage == 'mothers' else 'hatch'} --force -o {self.path}'"
            ) from None
        return arrays if record.get("network") == network else {}

    def write_optimiser_state(self, stage: str, name: str, arrays: Mapping[str, Array], network: str) -> None:
        """Write what a network's optimiser kept, or remove it where that is nothing; `network` is its file's hash."""
        if arrays:
            checkpoint.save(self.optimiser_file(stage, name), arrays, {"network": network})
        else:
            self.optimiser_file(stage, name).unlink(missing_ok=True)

    def certificate_file(self, name: str) -> Path:
        """A member's certificate."""
        return self.folder("members", name) / "certificate.json"

    def folding_file(self, stage: str, name: str) -> Path:
        """The certificate that restored normalisation was folded exactly; there only where there was some."""
        return self.folder(stage, name) / FOLDING

    def plan(self) -> Plan:
        """The plan of this run.

        Raises:
            MnxError: there is none, or it cannot be read.
        """
        if not self.plan_file.exists():
            raise MnxError(f"there is no plan in {self.path}: begin with 'mnx mother members/*.onnx -o {self.path}'")
        return load_plan(self.plan_file)

    def training(self, stage: str, name: str) -> Training | None:
        """How a network was trained; None where it is not, or not to and from the files that stand there now."""
        record = self.folder(stage, name) / "training.json"
        start, trained = self.start_file(stage, name), self.trained_file(stage, name)
        if not (record.exists() and start.exists() and trained.exists()):
            return None
        document = {"snapshots": [], **self.read_json(record)}
        if document.keys() != {field.name for field in dataclasses.fields(Training)}:
            raise MnxError(f"{record} is broken (it lacks fields); delete it to train {name} again")
        snapshots = [self.snapshot_file(stage, name, number + 1) for number in range(len(document["snapshots"]))]
        if not all(file.exists() for file in snapshots):
            return None
        files = {"start": file_hash(start), "trained": file_hash(trained), "snapshots": [*map(file_hash, snapshots)]}
        if any(document[key] != found for key, found in files.items()):
            return None
        epochs = tuple(Epoch(**epoch) for epoch in document["epochs"])
        return Training(**{**document, "snapshots": tuple(document["snapshots"]), "epochs": epochs})

    def save_training(self, stage: str, name: str, trained: Trained, multiply_adds: int) -> str:
        """Write a trained network and its snapshots; their record goes first and comes last, and is always of them.

        Returns why they could not be written in their user's float types too; '' where they were, or these are float32.
        """
        folder = self.folder(stage, name)
        (folder / "training.json").unlink(missing_ok=True)
        _remove(folder, (ORIGINAL, *_snapshots(folder)))
        models = (trained.model, *map(trained.model.with_weights, trained.snapshots))
        files = list(self._network_files(stage, name, len(trained.snapshots)).values())
        for file, model in zip(files, models, strict=True):
            onnx_file.write(model, file, form="working")
        problem = ""
        if stage != "mothers" and trained.model.precision != Precision():
            try:
                for file, model in zip(files, models, strict=True):
                    onnx_file.write(model, _in_own_types(file), form="original")
            except GraphError as error:
                problem = str(error)
        digest = file_hash(self.trained_file(stage, name))
        if stage == "mothers":
            self.write_optimiser_state(stage, name, trained.kept, digest)
        document = {
            "start": file_hash(self.start_file(stage, name)),
            "trained": digest,
            "snapshots": [file_hash(file) for file in files[1:]],
            "multiply_adds": multiply_adds,
            "samples": trained.samples,
            "seconds": trained.seconds,
            "epochs": [dataclasses.asdict(epoch) for epoch in trained.epochs],
        }
        self.write_json(folder / "training.json", document)
        (folder / "checkpoint.npz").unlink(missing_ok=True)
        return problem

    def begun(self, stage: str, name: str) -> bool:
        """Whether the training of a network has begun, or ended."""
        return any((self.folder(stage, name) / file).exists() for file in ("checkpoint.npz", "training.json"))

    def forget_training(self, stage: str, name: str) -> None:
        """Remove a network's training, finished or not; its start file stays."""
        folder = self.folder(stage, name)
        if folder.is_dir():
            names = ("training.json", "trained.onnx", ORIGINAL, FOLDING, "checkpoint.npz")
            _remove(folder, (*names, *_snapshots(folder)))
            if stage == "mothers":
                _remove(folder, (self.optimiser_file(stage, name).name,))

    def hatched_from(self, name: str) -> str:
        """The hash of the mother that a member was hatched from, '' where no file stands there as it was certified.

        Raises:
            MnxError: the certificate is broken or another version's.
        """
        if not (self.certificate_file(name).exists() and self.start_file("members", name).exists()):
            return ""
        found = self.certificate(name)
        whole = found.passed and found.sha256.get("hatched") == file_hash(self.start_file("members", name))
        return found.sha256.get("mother", "") if whole else ""

    def certificate(self, name: str) -> Certificate:
        """A member's certificate.

        Raises:
            MnxError: it is broken, or was written by a version of mnx with other certificates.
        """
        path = self.certificate_file(name)
        try:
            return Certificate.from_json(self.read_json(path))
        except GraphError as error:
            raise MnxError(
                f"the certificate {path} cannot be read: {error}; hatch again with 'mnx hatch --force -o {self.path}'"
            ) from error

    def read_json(self, path: Path) -> dict[str, Any]:
        """A JSON document of this run.

        Raises:
            MnxError: the file is broken.
        """
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise MnxError(f"{path} is broken ({error}); delete it to make it again") from None

    def write_json(self, path: Path, document: Any) -> None:
        """Write a JSON document, whole or not at all."""
        write_text(path, json.dumps(document, indent=1) + "\n")

    def clear(self) -> None:
        """Remove what a run wrote here, and nothing else: a folder without a plan is left alone."""
        if not self.plan_file.exists():
            return
        for stage, start in STAGES.items():
            written = (
                start,
                "trained.onnx",
                ORIGINAL,
                "training.json",
                "certificate.json",
                FOLDING,
                "checkpoint.npz",
                "optimiser.npz",
            )
            for folder in [path for path in (self.path / stage).glob("*") if path.is_dir()]:
                _remove(folder, (*written, *_snapshots(folder)))
                _remove_empty(folder)
            if (self.path / stage).is_dir():
                _remove(self.path / stage, ("ensemble.onnx", "ensemble.json"))
                _remove_empty(self.path / stage)
        for folder in sorted((self.path / "tensorboard").glob("**/"), reverse=True):
            for curves in folder.glob("events.out.tfevents.*"):
                curves.unlink()
            _remove_empty(folder)
        names = ("settings.json", "scores.json", "ensemble.onnx", "ensemble.json", "events.jsonl", "heartbeat.json")
        _remove(self.path, (*names, "plan.json"))


def _in_own_types(file: Path) -> Path:
    """Where a network stands in its user's float types."""
    return file.with_name(f"{file.stem}.original{file.suffix}")


def _snapshots(folder: Path) -> list[str]:
    """Names of the snapshots in a network's folder, whole or begun."""
    found = {match[1] for path in folder.iterdir() if (match := _SNAPSHOTS.match(path.name))}
    return [name + onnx_file.SUFFIX for name in sorted(found)]


def _remove(folder: Path, names: Sequence[str]) -> None:
    """Remove these files, the weights beside models, and what a killed writer left of them."""
    apart = [name + onnx_file.DATA for name in names if name.endswith(onnx_file.SUFFIX)]
    for name in map(Path, (*names, *apart)):
        for path in (folder / name, *folder.glob(f".{name.stem}.{'[0-9a-f]' * 8}{name.suffix}")):
            path.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def file_hash(path: Path) -> str:
    """The sha256 of a model's file and of those that hold its weights; a missing one counts as empty."""
    digest = hashlib.sha256()
    for part in onnx_file.files_of(path):
        if part == path or part.exists():
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
