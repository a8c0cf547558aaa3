"""Combine trained members into one graph, and score files as their users will run them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.join import join
from mnx.graphs.model import Array
from mnx.graphs.run import run_file
from mnx.metrics import Scores, disagreement, oracle_accuracy, scores, softmax
from mnx.session import Session, loaded, settings


@dataclass(frozen=True)
class EnsembleScores:
    """An ensemble of averaged probabilities beside its members."""

    averaged: Scores
    mean_member: float
    disagreement: float
    oracle: float


def combine(session: Session, stage: str = "members") -> Path:
    """Write one ensemble graph of all trained members: shared input, averaged probabilities.

    Raises:
        MnxError: a member is not trained.
    """
    missing = untrained(session, stage)
    if missing:
        raise MnxError(f"not trained yet: {', '.join(missing)}; run 'mnx train -o {session.run.path}'")
    target = session.run.ensemble_file if stage == "members" else session.run.path / stage / "ensemble.onnx"
    known = settings(session.run)
    metadata = {"mnx.scaling": json.dumps(known["scaling"])} if known else {}
    model = join([loaded(session, stage, member.name) for member in session.plan.members], "ensemble", metadata)
    onnx_file.write(model, target)
    session.events.record("combined", stage=stage, members=len(session.plan.members), file=str(target))
    return target


def untrained(session: Session, stage: str) -> list[str]:
    """Names of the members that are not trained in a stage."""
    return [member.name for member in session.plan.members if session.run.training(stage, member.name) is None]


def probabilities(path: Path, x: Array) -> Array:
    """What a classifier's file says of examples: its outputs if they are probabilities, else their softmax.

    Args:
        path: an ONNX file with one output (n, classes).
        x: examples (n, *input shape).

    Raises:
        GraphError: the file cannot be run on these inputs.
        MnxError: its output is not one row a example.
    """
    outputs = run_file(path, x)
    if outputs.ndim != 2 or len(outputs) != len(x):
        raise MnxError(f"{path} gives an output of shape {outputs.shape} for {len(x)} examples, not (n, classes)")
    normal = np.all(outputs >= 0) and np.allclose(outputs.sum(axis=1), 1, atol=1e-3)
    return outputs.astype(np.float64) if normal else softmax(outputs)


def score_files(files: Mapping[str, Path], x: Array, y: Array, classes: int) -> dict[str, tuple[Scores, Array]]:
    """Scores and probabilities of each file on examples x (n, *input) with classes y (n,).

    Raises:
        MnxError: a file tells another number of classes apart.
    """
    found = {}
    for name, path in files.items():
        predicted = probabilities(path, x)
        if predicted.shape[1] != classes:
            raise MnxError(f"{path} tells {predicted.shape[1]} classes apart, the data have {classes}")
        found[name] = (scores(predicted, y), predicted)
    return found


def ensemble_scores(members: Sequence[Array], y: Array) -> EnsembleScores:
    """Scores of the averaged probabilities of members, and how the members relate."""
    each = [float((member.argmax(axis=1) == y).mean()) for member in members]
    averaged = scores(np.mean(members, axis=0), y)
    return EnsembleScores(averaged, float(np.mean(each)), disagreement(members), oracle_accuracy(members, y))


def score_stage(session: Session, stage: str, start: bool = True) -> dict[str, Any]:
    """Test scores of a stage's trained networks: each after hatching and at the end, and of their ensemble.

    Raises:
        MnxError: a member is not trained.
    """
    missing = untrained(session, stage)
    if missing:
        raise MnxError(f"not trained yet: {', '.join(missing)}; run 'mnx train -o {session.run.path}'")
    data, run = session.dataset, session.run
    names = [member.name for member in session.plan.members]
    trained = score_files(
        {name: run.trained_file(stage, name) for name in names}, data.x_test, data.y_test, data.classes
    )
    begun = (
        score_files({name: run.start_file(stage, name) for name in names}, data.x_test, data.y_test, data.classes)
        if start
        else {}
    )
    together = ensemble_scores([predicted for _, predicted in trained.values()], data.y_test)
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
    """Test scores and cost of every trained mother."""
    data, run = session.dataset, session.run
    files = {cluster.name: run.trained_file("mothers", cluster.name) for cluster in session.plan.clusters}
    found = score_files(files, data.x_test, data.y_test, data.classes)
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
