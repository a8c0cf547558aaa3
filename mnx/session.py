"""What the stages of one call share: the run folder, its plan, data, recipe, engine and events."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np

from mnx.data import dataset
from mnx.data.dataset import Dataset
from mnx.errors import MnxError
from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.model import Array, Model
from mnx.plan import Plan
from mnx.recipe import Recipe
from mnx.train.engines import engine
from mnx.train.loop import EngineMaker, Job, train
from mnx.workspace import RunFolder

FORWARD_AND_BACKWARD = 3
"""A training step costs about three forward passes: one forward, two backward (to inputs and to weights)."""


@dataclass(frozen=True)
class Session:
    """One call's settings. `data` is None where a stage does without."""

    run: RunFolder
    plan: Plan
    data: Dataset | None
    recipe: Recipe
    make: EngineMaker
    events: Events

    @property
    def dataset(self) -> Dataset:
        """The data.

        Raises:
            MnxError: none were given.
        """
        if self.data is None:
            raise MnxError("no data: say --data digits, or the path of a .npz file or a folder of images")
        return self.data


def open_session(
    run: RunFolder,
    events: Events,
    data: str | None = None,
    train_limit: int | None = None,
    recipe: Recipe | None = None,
    device: str = "cpu",
    threads: int | None = None,
    engine_name: str = "ort",
) -> Session:
    """Read a run's plan and its data; data and limit not given are those that the run was trained with before.

    Raises:
        MnxError: there is no plan, the data do not fit it, or are others than the run was trained with.
    """
    plan = run.plan()
    known = settings(run)
    spec = data or known.get("data")
    limit = train_limit if train_limit is not None else known.get("train_limit") if not data else None
    loaded = dataset.load(spec, plan.input, plan.classes, plan.seed, train_limit=limit) if spec else None
    if loaded is not None and known and loaded.fingerprint != known["fingerprint"]:
        raise MnxError(
            f"{run.path} was trained on {known['data']} ({known['fingerprint']}), {spec} is other data "
            f"({loaded.fingerprint}): use a new folder with -o"
        )
    make = partial(engine, engine_name, device, threads)
    return Session(run, plan, loaded, recipe or Recipe(), make, events.to(run.events_file))


def settings(run: RunFolder) -> dict[str, Any]:
    """What a run was trained with; empty before its first training."""
    path = run.path / "settings.json"
    return run.read_json(path) if path.exists() else {}


def keep_settings(session: Session, spec: str | None, train_limit: int | None) -> None:
    """Write down the data of a run at its first training, with the scaling that users of the models need."""
    if not settings(session.run):
        document = {
            "data": spec,
            "train_limit": train_limit,
            "fingerprint": session.dataset.fingerprint,
            "scaling": session.dataset.scaling.to_json(),
            "recipe": session.recipe.to_json(),
        }
        session.run.write_json(session.run.path / "settings.json", document)


def train_network(session: Session, stage: str, name: str, multiply_adds: int, fresh: bool, anneal: bool) -> bool:
    """Train one network of the run, unless it is trained already. Returns whether there was anything to do."""
    run = session.run
    if run.training(stage, name) is not None:
        return False
    model = onnx_file.read(run.start_file(stage, name)).replace(name=name)
    job = Job(stage, name, model, run.folder(stage, name), job_seed(session.plan.seed, stage, name), fresh, anneal)
    session.events.record("start", stage=stage, network=name, limit=session.recipe.epochs)
    trained = train(job, session.dataset, session.recipe, session.make, session.events)
    cost = FORWARD_AND_BACKWARD * multiply_adds * trained.samples
    run.save_training(stage, name, trained, cost)
    session.events.record(
        "trained",
        stage=stage,
        network=name,
        epochs=len(trained.epochs),
        seconds=trained.seconds,
        multiply_adds=cost,
        validation_accuracy=trained.epochs[-1].validation_accuracy,
    )
    return True


def job_seed(seed: int, stage: str, name: str) -> int:
    """The seed of one network's training: never a matter of the order in which networks are trained."""
    return crc32(f"{seed}/{stage}/{name}".encode())


def calibration_inputs(session: Session, count: int = 512) -> tuple[dict[str, Array], str]:
    """Named batches for certificates, and which of them inserted normalisation is calibrated on.

    Standard normal inputs always; a random part of the training data, and of the validation data, where there are any.
    """
    random = np.random.default_rng((session.plan.seed, count))
    inputs = {"random": random.standard_normal((64, *session.plan.input.shape), dtype=np.float32)}
    if session.data is None:
        return inputs, "random"
    for name, x in (("training", session.data.x_train), ("validation", session.data.x_validation)):
        inputs[name] = x[np.sort(random.permutation(len(x))[:count])]
    return inputs, "training"


def loaded(session: Session, stage: str, name: str) -> Model:
    """A trained network of the run."""
    return onnx_file.read(session.run.trained_file(stage, name)).replace(name=name)
