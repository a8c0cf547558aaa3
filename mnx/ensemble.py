"""Combine trained members into one graph, and score files as their users will run them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnx.data import dataset
from mnx.errors import MnxError
from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.join import join
from mnx.graphs.model import Array
from mnx.graphs.proto import as_user_gives
from mnx.graphs.run import Batch, arrays_of, run_file
from mnx.metrics import Scores, disagreement, oracle_accuracy, scores, softmax
from mnx.plan import Plan
from mnx.session import Session, loaded, networks, settings
from mnx.workspace import RunFolder, file_hash


@dataclass(frozen=True)
class EnsembleScores:
    """An ensemble of averaged probabilities beside its members."""

    averaged: Scores
    mean_member: float
    disagreement: float
    oracle: float


def combine(session: Session, stage: str = "members") -> Path:
    """Write one ensemble graph of all trained members: shared input, averaged probabilities.

    A record beside it says of which trained members it is made; where it is made of these, nothing is done.

    Raises:
        MnxError: a member is not trained.
    """
    require_trained(session, stage)
    run = session.run
    target = ensemble_file(run, stage)
    if is_combined(run, session.plan, stage):
        return target
    known = settings(run)
    metadata = {"mnx.scaling": json.dumps(known["scaling"])} if known else {}
    models = [loaded(session, stage, member.name) for member in session.plan.members]
    onnx_file.write(join(models, "ensemble", metadata), target)
    record = {"members": _hashes(run, session.plan, stage), "ensemble": file_hash(target)}
    run.write_json(target.with_suffix(".json"), record)
    session.events.record("combined", stage=stage, members=len(models), file=str(target))
    return target


def ensemble_file(run: RunFolder, stage: str = "members") -> Path:
    """Where the ensemble of a stage's networks stands."""
    return run.ensemble_file if stage == "members" else run.path / stage / "ensemble.onnx"


def is_combined(run: RunFolder, plan: Plan, stage: str = "members") -> bool:
    """Whether the ensemble that stands there is whole and made of the trained members that stand there."""
    target = ensemble_file(run, stage)
    record = target.with_suffix(".json")
    if not (target.exists() and record.exists()):
        return False
    return run.read_json(record) == {"members": _hashes(run, plan, stage), "ensemble": file_hash(target)}


def _hashes(run: RunFolder, plan: Plan, stage: str) -> dict[str, str]:
    return {member.name: file_hash(run.trained_file(stage, member.name)) for member in plan.members}


def require_trained(session: Session, stage: str) -> None:
    """Refuse to go on before every network of a stage is trained.

    Raises:
        MnxError: it names those that are not, and the command to train them.
    """
    missing = [name for name in networks(session.plan, stage) if session.run.training(stage, name) is None]
    if missing:
        raise MnxError(f"not trained yet: {', '.join(missing)}; run 'mnx train -o {session.run.path}'")


def probabilities(path: Path, x: Array, loaded: bytes | None = None) -> Array:
    """What a classifier's file says of examples: its outputs if they are probabilities, else their softmax.

    Args:
        path: an ONNX file with one output (n, classes).
        x: examples (n, *input shape).
        loaded: see `run_file`.

    Raises:
        GraphError: the file cannot be run on these inputs.
        MnxError: its output is not one row a example.
    """
    outputs = run_file(path, x, loaded=loaded)
    if outputs.ndim != 2 or len(outputs) != len(x):
        raise MnxError(f"{path} gives an output of shape {outputs.shape} for {len(x)} examples, not (n, classes)")
    normal = np.all(outputs >= 0) and np.allclose(outputs.sum(axis=1), 1, atol=1e-3)
    return outputs.astype(np.float64) if normal else softmax(outputs)


def score_files(
    files: Mapping[str, Path], x: Batch, y: Array, classes: int, events: Events
) -> dict[str, tuple[Scores, Array]]:
    """Scores and probabilities of each file on examples x (n, *input) with classes y (n,); `events` hear of each.

    x is in the layout of the canonical models (channels first); a file gets it in its own.

    Raises:
        MnxError: a file tells another number of classes apart.
    """
    found = {}
    for done, (name, path) in enumerate(files.items(), start=1):
        events.tick("score", network=name, done=done, total=len(files))
        model = onnx_file.read(path)
        predicted = probabilities(path, as_user_gives(model, arrays_of(x)[0]), onnx_file.as_loaded(model))
        if predicted.shape[1] != classes:
            raise MnxError(f"{path} tells {predicted.shape[1]} classes apart, the data have {classes}")
        found[name] = (scores(predicted, y), predicted)
    return found


def ensemble_scores(members: Sequence[Array], y: Array) -> EnsembleScores:
    """Scores of the averaged probabilities of members, and how the members relate."""
    each = [float((member.argmax(axis=1) == y).mean()) for member in members]
    averaged = scores(np.mean(members, axis=0), y)
    return EnsembleScores(averaged, float(np.mean(each)), disagreement(members), oracle_accuracy(members, y))


def score_models(
    paths: Sequence[Path],
    events: Events,
    data: str | None,
    train_limit: int | None = None,
    seed: int | None = None,
    run: RunFolder | None = None,
) -> dict[str, Any]:
    """Test scores of classifiers in files, and of the average of their probabilities where there are several.

    Args:
        paths: ONNX files with one input and equal classes; the first one's input says how the data are laid out.
        events: whose listeners hear of each file.
        data: a data set's name or path; None for what `run` was trained with.
        train_limit: at most so many training examples, which decide the scaling.
        seed: of the split; None for that of `run`, or 0.
        run: the run that the files may belong to; its data, limit and seed hold where none are given.

    Raises:
        GraphError: a file cannot be read or run.
        MnxError: there are no data, or they do not fit.
    """
    plan = run.plan() if run is not None and run.plan_file.exists() else None
    known = settings(run) if run is not None and plan is not None else {}
    spec = data or known.get("data")
    if spec is None:
        raise MnxError("no data: say --data digits, or the path of a .npz file or a folder of images")
    limit = train_limit if train_limit is not None else known.get("train_limit")
    first = onnx_file.read(paths[0])
    if len(first.inputs) != 1 or len(first.outputs[0].shape) != 1:
        raise MnxError(f"{paths[0]} is no classifier of one input and an output (batch, classes)")
    chosen = seed if seed is not None else plan.seed if plan is not None else 0
    test = dataset.load(spec, first.inputs[0], first.outputs[0].shape[0], chosen, train_limit=limit)
    found = score_files({str(path): path for path in paths}, test.test.x(), test.test.y, test.classes, events)
    together = ensemble_scores([predicted for _, predicted in found.values()], test.test.y)
    return {
        "data": test.name,
        "test_examples": len(test.test.y),
        "files": {name: dataclasses.asdict(each) for name, (each, _) in found.items()},
        "ensemble": dataclasses.asdict(together) if len(found) > 1 else None,
    }


def score_stage(session: Session, stage: str, start: bool = True) -> dict[str, Any]:
    """Test scores of a stage's trained networks: each after hatching and at the end, and of their ensemble.

    Raises:
        MnxError: a member is not trained.
    """
    require_trained(session, stage)
    data, run = session.dataset, session.run
    names = [member.name for member in session.plan.members]
    test = data.test.x(), data.test.y, data.classes, session.events
    trained = score_files({name: run.trained_file(stage, name) for name in names}, *test)
    begun = score_files({name: run.start_file(stage, name) for name in names}, *test) if start else {}
    together = ensemble_scores([predicted for _, predicted in trained.values()], data.test.y)
    return {
        "networks": {
            name: {
                **dataclasses.asdict(found),
                **({"accuracy_at_start": begun[name][0].accuracy} if start else {}),
                **cost(session, stage, name),
            }
            for name, (found, _) in trained.items()
        },
        "ensemble": dataclasses.asdict(together),
        **total_cost(session, stage, names),
    }


def score_mothers(session: Session) -> dict[str, Any]:
    """Test scores and cost of every mother.

    Raises:
        MnxError: one is not trained.
    """
    require_trained(session, "mothers")
    data, run = session.dataset, session.run
    files = {cluster.name: run.trained_file("mothers", cluster.name) for cluster in session.plan.clusters}
    found = score_files(files, data.test.x(), data.test.y, data.classes, session.events)
    return {
        "networks": {
            name: {**dataclasses.asdict(score), **cost(session, "mothers", name)} for name, (score, _) in found.items()
        },
        **total_cost(session, "mothers", list(files)),
    }


def cost(session: Session, stage: str, name: str) -> dict[str, Any]:
    """Epochs, examples seen, seconds and multiply-adds that one network's training took."""
    training = session.run.training(stage, name)
    if training is None:
        return {}
    return {
        "epochs": len(training.epochs),
        "samples": training.samples,
        "seconds": training.seconds,
        "multiply_adds": training.multiply_adds,
    }


def total_cost(session: Session, stage: str, names: Sequence[str]) -> dict[str, Any]:
    """Seconds and multiply-adds of a stage's networks together."""
    costs = [cost(session, stage, name) for name in names]
    return {key: sum(part.get(key, 0) for part in costs) for key in ("epochs", "samples", "seconds", "multiply_adds")}
