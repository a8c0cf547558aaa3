"""Combine trained members into one graph, and score files as their users will run them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mnx.data import dataset
from mnx.data.dataset import Part
from mnx.data.task import Task
from mnx.errors import MnxError
from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.interface import SIGMOID, SOFTMAX, Interface, head_of, interface
from mnx.graphs.join import join
from mnx.graphs.model import Array, Model
from mnx.graphs.proto import as_user_gives
from mnx.graphs.run import Batch, arrays_of, batch_of, run, run_file
from mnx.metrics import (
    ACTIVATIONS,
    Scores,
    disagreement,
    headline,
    oracle_accuracy,
    predictions,
    scores,
)
from mnx.plan import Plan
from mnx.session import Session, loaded, networks, settings
from mnx.workspace import RunFolder, file_hash

SCALING = "mnx.scaling"
"""The key of an ensemble's metadata that says how raw data become its input; of several inputs `mnx.scaling.NAME`."""
TASK = "mnx.task"
"""The key that says what it predicts; what it gives are predictions already, not outputs to make them of."""


@dataclass(frozen=True)
class EnsembleScores:
    """An ensemble beside what it is made of.

    Attributes:
        averaged: the scores of its averaged predictions.
        mean_member: the mean of its members' scores that decide, of each as it was trained to the end.
        disagreement: of its networks, see `metrics.disagreement`.
        oracle: what at least one of its networks gets right, see `metrics.oracle_accuracy`.
        networks: how many they are: its members, and their snapshots.
    """

    averaged: Scores
    mean_member: float
    disagreement: float
    oracle: float | None
    networks: int


def combine(session: Session, stage: str = "members") -> Path:
    """Write one ensemble graph of all trained members: shared inputs, averaged predictions.

    Where the recipe has snapshots, a member says what it and its snapshots say on average (Huang et al. 2017), and
    counts as much as any other: a budget may have stopped one after fewer cycles, and the ends of one training are
    nearer to each other than to another member. A record beside the ensemble says of which networks it is made; where
    it is made of these, nothing is done.

    Raises:
        MnxError: a member is not trained.
    """
    require_trained(session, stage)
    run = session.run
    target = ensemble_file(run, stage)
    if is_combined(run, session.plan, stage):
        return target
    known = settings(run)
    networks_of = {name: loaded(session, stage, name) for name in networks(session.plan, stage)}
    models = [model for found in networks_of.values() for model in found]
    members = [name for name, found in networks_of.items() for _ in found]
    task = known.get("task", "classes")
    activation = ACTIVATIONS[task]
    joined = join(models, "ensemble", _metadata(session.plan, known, task), activation, members)
    onnx_file.write(joined, target)
    record = {"members": hashes(run, session.plan, stage), "ensemble": file_hash(target)}
    run.write_json(target.with_suffix(".json"), record)
    session.events.record("combined", stage=stage, members=len(networks_of), networks=len(models), file=str(target))
    return target


def _metadata(plan: Plan, known: Mapping[str, Any], task: str) -> dict[str, str]:
    """What users of the ensemble need: what it predicts, and how raw data become its input, or each of several."""
    if not known:
        return {}
    texts = [json.dumps(scaling) for scaling in known["scalings"]]
    keys = [f"{SCALING}.{port.name}" for port in plan.interface.inputs] if len(texts) > 1 else [SCALING]
    return {TASK: task, **dict(zip(keys, texts, strict=True))}


def ensemble_file(run: RunFolder, stage: str = "members") -> Path:
    """Where the ensemble of a stage's networks stands."""
    return run.ensemble_file if stage == "members" else run.path / stage / "ensemble.onnx"


def is_combined(run: RunFolder, plan: Plan, stage: str = "members") -> bool:
    """Whether the ensemble that stands there is whole and made of the trained networks that stand there."""
    target = ensemble_file(run, stage)
    record = target.with_suffix(".json")
    if not (target.exists() and record.exists()):
        return False
    return run.read_json(record) == {"members": hashes(run, plan, stage), "ensemble": file_hash(target)}


def hashes(run: RunFolder, plan: Plan, stage: str) -> dict[str, str]:
    """The hash of every network that a stage gave, snapshots included, by the names of `RunFolder.network_files`."""
    found = [run.network_hashes(stage, name) for name in networks(plan, stage)]
    return {network: digest for each in found for network, digest in each.items()}


def require_trained(session: Session, stage: str) -> None:
    """Refuse to go on before every network of a stage is trained.

    Raises:
        MnxError: it names those that are not, and the command to train them.
    """
    missing = [name for name in networks(session.plan, stage) if session.run.training(stage, name) is None]
    if missing:
        raise MnxError(f"not trained yet: {', '.join(missing)}; run 'mnx train -o {session.run.path}'")


def predicted_by(path: Path, model: Model, x: Batch | Iterable[Batch], task: str = "classes") -> Array:
    """What a network's file says of examples, in float64: probabilities, or numbers.

    Outputs that are probabilities already stay as they are: rows of shares, the outputs of a Sigmoid, and those of an
    ensemble. Where the file's first output is something else (labels, one probability of two) the body's is asked.

    Args:
        path: an ONNX file.
        model: the same network as it was read.
        x: examples as the body takes them: the array of its only input, those of all, or one such after the other.
        task: what it predicts.

    Raises:
        GraphError: the file cannot be run on these inputs.
        MnxError: its output is not one row an example.
    """
    given = [x] if isinstance(x, np.ndarray | tuple) else list(x)
    outputs = run_file(path, (_as_given(model, each) for each in given), loaded=onnx_file.as_loaded(model))
    count, shape = sum(len(arrays_of(each)[0]) for each in given), model.outputs[0].shape
    if model.head and (outputs.dtype.kind != "f" or outputs.shape != (count, *shape)):
        return predictions(task, np.concatenate([run(model, each)[model.outputs[0].name] for each in given]))
    if outputs.ndim != 2 or len(outputs) != count:
        raise MnxError(f"{path} gives an output of shape {outputs.shape} for {count} examples, not (n, classes)")
    if ACTIVATIONS[task] == SOFTMAX:
        done = bool(np.all(outputs >= 0) and np.allclose(outputs.sum(axis=1), 1, atol=1e-3))
    else:
        done = TASK in model.metadata or head_of(model) == SIGMOID
    return outputs.astype(np.float64) if done else predictions(task, outputs)


def score_files(files: Mapping[str, Path], part: Part, task: Task, events: Events) -> dict[str, tuple[Scores, Array]]:
    """Scores and predictions of each file on examples; `events` hear of each.

    Examples are in the layout of the canonical models (channels first); a file gets them in its own.

    Raises:
        MnxError: a file takes other inputs, or gives another number of outputs.
    """
    found = {}
    for done, (name, path) in enumerate(files.items(), start=1):
        events.tick("score", network=name, done=done, total=len(files))
        model = onnx_file.read(path)
        if len(model.inputs) != len(part.raw):
            raise MnxError(f"{path} takes {len(model.inputs)} inputs, the data have {len(part.raw)}")
        predicted = predicted_by(path, model, part.batches(), task.kind)
        if predicted.shape[1] != task.width:
            if ACTIVATIONS[task.kind] == SOFTMAX:
                raise MnxError(f"{path} tells {predicted.shape[1]} classes apart, the data have {task.width}")
            raise MnxError(f"{path} gives {predicted.shape[1]} outputs, the data have {task.width} {task.kind}")
        found[name] = (scores(predicted, part.y, task.kind), predicted)
    return found


def ensemble_scores(
    members: Sequence[Array], y: Array, task: str = "classes", snapshots: Sequence[Sequence[Array]] | None = None
) -> EnsembleScores:
    """Scores of the averaged predictions of members, and how the networks relate.

    Args:
        members: what each says of the examples.
        y: the targets.
        task: what is predicted.
        snapshots: what the snapshots of each member say; None where there are none. A member and its snapshots
            together count as much as any other member.
    """
    each = [headline(scores(member, y, task))[1] for member in members]
    groups = [[one, *more] for one, more in zip(members, snapshots or [[] for _ in members], strict=True)]
    averaged = scores(np.mean([np.mean(group, axis=0) for group in groups], axis=0), y, task)
    all_of_them = [network for group in groups for network in group]
    differing, oracle = disagreement(all_of_them, task), oracle_accuracy(all_of_them, y, task)
    return EnsembleScores(averaged, float(np.mean(each)), differing, oracle, len(all_of_them))


def _as_given(model: Model, x: Batch) -> Batch:
    """Examples as the model's users give them."""
    return batch_of(as_user_gives(model, array, place) for place, array in enumerate(arrays_of(x)))


def score_models(
    paths: Sequence[Path],
    events: Events,
    data: str | None,
    train_limit: int | None = None,
    seed: int | None = None,
    run: RunFolder | None = None,
) -> dict[str, Any]:
    """Test scores of networks in files, and of the average of their predictions where there are several.

    Args:
        paths: ONNX files with equal inputs and outputs; the first one's inputs say how the data are laid out.
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
    chosen = seed if seed is not None else plan.seed if plan is not None else 0
    test = dataset.load(spec, _taking(first), chosen, train_limit=limit)
    found = score_files({str(path): path for path in paths}, test.test, test.task, events)
    together = ensemble_scores([predicted for _, predicted in found.values()], test.test.y, test.kind)
    return {
        "data": test.name,
        "task": test.kind,
        "test_examples": len(test.test.y),
        "files": {name: dataclasses.asdict(each) for name, (each, _) in found.items()},
        "ensemble": dataclasses.asdict(together) if len(found) > 1 else None,
    }


def _taking(model: Model) -> Interface:
    """What a network takes and gives; of an ensemble of ours the head is that of its members."""
    found = interface([model])
    task = model.metadata.get(TASK, "")
    return replace(found, head=ACTIVATIONS[task]) if task in ACTIVATIONS else found


def score_stage(session: Session, stage: str, start: bool = True) -> dict[str, Any]:
    """Test scores of a stage's trained networks: each after hatching and at the end, of snapshots, and of the ensemble.

    Raises:
        MnxError: a member is not trained.
    """
    require_trained(session, stage)
    data, run = session.dataset, session.run
    names = [member.name for member in session.plan.members]
    test = data.test, data.task, session.events
    files = {name: run.network_files(stage, name) for name in names}
    trained = score_files({network: path for each in files.values() for network, path in each.items()}, *test)
    snapshots = {name: [trained[network] for network in each if network != name] for name, each in files.items()}
    begun = score_files({name: run.start_file(stage, name) for name in names}, *test) if start else {}
    together = ensemble_scores(
        [trained[name][1] for name in names],
        data.test.y,
        data.kind,
        [[predicted for _, predicted in snapshots[name]] for name in names],
    )
    return {
        "networks": {
            name: {
                **dataclasses.asdict(trained[name][0]),
                **(_at_start(begun[name][0]) if start else {}),
                "snapshots": [dataclasses.asdict(found) for found, _ in snapshots[name]],
                **cost(session, stage, name),
            }
            for name in names
        },
        "ensemble": dataclasses.asdict(together),
        **total_cost(session, stage, names),
    }


def _at_start(found: Scores) -> dict[str, float]:
    name, value = headline(found)
    return {f"{name}_at_start": value}


def score_mothers(session: Session) -> dict[str, Any]:
    """Test scores and cost of every mother.

    Raises:
        MnxError: one is not trained.
    """
    require_trained(session, "mothers")
    data, run = session.dataset, session.run
    files = {cluster.name: run.trained_file("mothers", cluster.name) for cluster in session.plan.clusters}
    found = score_files(files, data.test, data.task, session.events)
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
