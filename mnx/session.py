"""What the stages of one call share: the run folder, its plan, data, recipe, engine and events."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

from mnx.data import dataset, sources
from mnx.data.dataset import Dataset
from mnx.data.examples import TRAINING, named_batches
from mnx.errors import MnxError
from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.errors import NotPreserved
from mnx.graphs.files import lasting
from mnx.graphs.model import Model
from mnx.graphs.mothers.identity import identity_like
from mnx.graphs.norms.restore import alike, folded, put_in
from mnx.graphs.probes import RANDOM, Probe, batches_of, made_of
from mnx.graphs.trees.describe import describe
from mnx.groups import Group, groups
from mnx.jobs import cores, threads_each
from mnx.plan import Plan
from mnx.train.engine import EngineMaker
from mnx.train.engines import engine
from mnx.train.fitting import teacher_of
from mnx.train.loop import Trained, train_together
from mnx.train.network import Job
from mnx.train.recipe import STAGES, Recipe, in_words
from mnx.train.recipe_files import from_document, with_keys
from mnx.train.recipe_files import recipe as read_recipe
from mnx.workspace import RunFolder, file_hash

FORWARD_AND_BACKWARD = 3
"""A training step costs about three forward passes: one forward, two backward (to inputs and to weights)."""


@dataclass(frozen=True)
class Session:
    """One call's settings.

    Attributes:
        run: the run folder.
        plan: its plan.
        data: None where a stage does without.
        recipe: how networks are trained.
        events: whose listeners hear what happens.
        device: 'cpu' or 'cuda'.
        threads: of the CPU for each network, by stage.
        spec: the name or path of the data; None where they have none.
        train_limit: how many of the examples were to be loaded at most.
        engine_name: what trains.
        jobs: how many networks are trained at once; None for as many as fit, see `mnx.jobs`.
        curves: whether curves are written for TensorBoard.
        fuse: how many networks of a cluster train together, on the same batches.
    """

    run: RunFolder
    plan: Plan
    data: Dataset | None
    recipe: Recipe
    events: Events
    device: str
    threads: Mapping[str, int]
    spec: str | None = None
    train_limit: int | None = None
    engine_name: str = "ort"
    jobs: int | None = 1
    curves: bool = False
    fuse: int = 1

    def make(self, stage: str) -> EngineMaker:
        """What makes the engines of a stage."""
        return partial(engine, self.engine_name, self.device, self.threads[stage])

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
    plan: Plan | None = None,
    jobs: int | None = 1,
    curves: bool = False,
    fuse: int | None = None,
) -> Session:
    """Read a run's plan and its data; data, limit and recipe not given are those that the run was trained with before.

    Args:
        run: the run folder.
        events: whose listeners hear what happens.
        data: a data set's name or path.
        train_limit: at most so many training examples.
        recipe: see `chosen_recipe`.
        device: 'cpu' or 'cuda'.
        threads: of the CPU for each network; None for those that the run was trained with before, or by `mnx.jobs`.
        engine_name: what trains.
        plan: one that is yet to be written, in place of the folder's plan and settings.
        jobs: how many networks are trained at once; None for as many as fit.
        curves: whether to write curves for TensorBoard.
        fuse: see `chosen_fuse`; None for that of the run.

    Raises:
        MnxError: there is no plan, the data do not fit it, or are others than the run was trained with.
    """
    known = settings(run) if plan is None else {}
    plan = plan or run.plan()
    spec = data or known.get("data")
    limit = train_limit if train_limit is not None else known.get("train_limit")
    loaded = _told(spec, plan, limit, events) if spec else None
    if loaded is not None and known and loaded.fingerprint != known["fingerprint"]:
        raise MnxError(
            f"{run.path} was trained on {_data_text(known['data'], known['train_limit'])} ({known['fingerprint']}); "
            f"{_data_text(spec, limit)} is other data ({loaded.fingerprint}): choose a new folder with -o"
        )
    recipe = recipe or chosen_recipe(known, {})
    fuse = fuse or chosen_fuse(known, None)
    events, each = events.to(run.events_file), threads_of(plan, known, threads, fuse)
    return Session(run, plan, loaded, recipe, events, device, each, spec, limit, engine_name, jobs, curves, fuse)


def threads_of(plan: Plan, known: Mapping[str, Any], given: int | None = None, fuse: int = 1) -> dict[str, int]:
    """Threads of each group, by stage: those given, or those of the run's `settings`, or as many as keep cores busy.

    Raises:
        MnxError: more are given than make sense on this machine.
    """
    if given is not None and not 1 <= given <= 8 * cores():
        raise MnxError(f"threads = {given}: give 1 to {8 * cores()} on this machine, or none for all cores")
    kept = known.get("threads", {})
    return {stage: given or kept.get(stage) or threads_each(len(groups(plan, stage, fuse))) for stage in STAGES}


def _told(spec: str, plan: Plan, limit: int | None, events: Events) -> Dataset:
    """A plan's data; `events` hear of what takes long."""

    def tell(done: int, total: int) -> None:
        events.tick("read", network=Path(spec).name, done=done, total=total)

    return dataset.load(spec, plan.interface, plan.seed, train_limit=limit, tell=tell)


def chosen_recipe(
    known: Mapping[str, Any],
    given: Mapping[str, str],
    source: str | None = None,
    free: Collection[str] = (),
) -> Recipe:
    """A run's recipe: what is given on top of the default; once it has trained, on top of the one it was trained with.

    Args:
        known: the run's `settings`.
        given: recipe keys as text.
        source: the recipe's name or file; None for the default, or that of the run.
        free: the stages that may still be trained otherwise, because none of their networks has begun.

    Raises:
        MnxError: a key or value is not legal, or not the one that the run was trained with.
    """
    if not known:
        return read_recipe(given, source)
    kept = from_document(known["recipe"])
    wanted = with_keys(kept, given) if source is None else read_recipe(given, source)
    for stage in [stage for stage in STAGES if stage not in free]:
        ours, theirs = kept.of(stage), wanted.of(stage)
        for name in vars(ours):
            if getattr(ours, name) == getattr(theirs, name) or (name == "carry" and stage != "members"):
                continue
            at = f"{stage}." if source is not None or f"{stage}.{name}" in given else ""
            others = [f"{each}.{name}" for each in STAGES if each in free and stage == "mothers" and not at]
            instead = f"give {' or '.join(others)}, " if others else ""
            raise MnxError(
                f"this run is trained with {at}{name} = {in_words(getattr(ours, name))}, not "
                f"{in_words(getattr(theirs, name))}: {instead}choose a new "
                "folder with -o, train a stage again with 'mnx train --force', or begin all again with 'mnx run' or "
                "'mnx mother' and --force"
            )
    return wanted


def chosen_fuse(known: Mapping[str, Any], given: int | None, free: bool = False) -> int:
    """How many networks of a cluster train together: what is given, or 1; once members train, as they were begun.

    Args:
        known: the run's `settings`.
        given: what is asked for now; None for what the run is trained with.
        free: whether another number may still be given, because nobody is in training whom it concerns.

    Raises:
        MnxError: the run is trained with another number.
    """
    kept = int(known.get("fuse", 1))
    if known and not free and given not in (None, kept):
        raise MnxError(
            f"this run is trained with --fuse {kept}, not {given}, and networks on other batches end with other "
            "weights: leave --fuse out, choose a new folder with -o, or train this stage again with --force"
        )
    return given or kept


def settings(run: RunFolder) -> dict[str, Any]:
    """What a run was trained with; empty before its first training."""
    return run.read_json(run.settings_file) if run.settings_file.exists() else {}


def begun_stages(run: RunFolder, plan: Plan) -> set[str]:
    """The stages of which a network's training has begun."""
    return {stage for stage in STAGES if any(run.begun(stage, name) for name in networks(plan, stage))}


def keep_settings(session: Session) -> None:
    """Write down a run's data, recipe, threads and fuse at its first training, and the scalings that users of it need.

    Once a network has begun only the recipe of stages that have not may change (see `chosen_recipe`), and threads and
    fuse (see `keep_grouping`).
    """
    known = settings(session.run)
    if known and begun_stages(session.run, session.plan):
        changed: dict[str, Any] = {}
        if from_document(known["recipe"]) != session.recipe:
            changed["recipe"] = session.recipe.to_json()
        if session.spec:
            changed["data"] = _lasting(session.spec)  # the same data may have moved
        if known != {**known, **changed}:
            session.run.write_json(session.run.settings_file, {**known, **changed})
    else:
        document = {
            "data": _lasting(session.spec),
            "train_limit": session.train_limit,
            "fingerprint": session.dataset.fingerprint,
            "task": session.dataset.kind,
            "scalings": [scaling.to_json() for scaling in session.dataset.scalings],
            "recipe": session.recipe.to_json(),
            "threads": dict(session.threads),
            "fuse": session.fuse,
        }
        if document != known:
            session.run.write_json(session.run.settings_file, document)


def keep_grouping(session: Session) -> None:
    """Write down threads and fuse that a run goes on with, where they are not those that it was trained with before."""
    known, now = settings(session.run), {"threads": dict(session.threads), "fuse": session.fuse}
    if known and known != {**known, **now}:
        session.run.write_json(session.run.settings_file, {**known, **now})


def _lasting(spec: str | None) -> str | None:
    """A path that is right from every folder; a name stays."""
    if spec is None or sources.SOURCES["digits"].recognise(spec):
        return spec
    return lasting(spec)


def _data_text(spec: str | None, limit: int | None) -> str:
    return f"{spec} with --train-limit {limit}" if limit is not None else f"{spec}"


def train_group(session: Session, stage: str, group: Group, costs: Mapping[str, int]) -> None:
    """Train those networks of a group of the run that are not trained yet, on the same batches.

    Args:
        session: the call.
        stage: of the networks.
        group: all that belong to it, trained or not; see `groups`.
        costs: network -> multiply-adds of a forward pass.
    """
    recipe, names = session.recipe.of(stage), networks(session.plan, stage)
    waiting = [name for name in group if session.run.training(stage, name) is None]
    teacher = teacher_of(recipe, session.dataset) if waiting else None
    taught = describe(teacher).cost if teacher else 0
    jobs = [_job(session, stage, name, FORWARD_AND_BACKWARD * costs[name] + taught) for name in waiting]
    for job in jobs:
        number = names.index(job.network) + 1
        place = {"limit": recipe.epochs, "number": number, "total": len(names)}
        session.events.record("start", stage=stage, network=job.network, **place)
    if jobs:
        seed = job_seed(session.plan.seed, stage, "+".join(group))
        ended = train_together(jobs, seed, session.dataset, recipe, session.make(stage), session.events)
        for job, trained in ended:
            _keep(session, job, trained)


def _job(session: Session, stage: str, name: str, step_cost: int) -> Job:
    """What is asked of one network; a step costs so many multiply-adds for each example."""
    run, recipe, start = session.run, session.recipe.of(stage), session.run.start_file(stage, name)
    model, seed = onnx_file.read(start).replace(name=name), job_seed(session.plan.seed, stage, name)
    model = identity_like(model) if recipe.identity else model
    carried = stage == "members" and recipe.carry and recipe.optimiser == session.recipe.of("mothers").optimiser
    kept = run.optimiser_state(stage, name, file_hash(start)) if carried else {}
    return Job(stage, name, model, run.folder(stage, name), seed, step_cost, kept)


def _keep(session: Session, job: Job, trained: Trained) -> None:
    """Write a trained network, in its user's architecture, and say so."""
    stage, name, cost = job.stage, job.network, job.step_cost * trained.samples
    if not session.recipe.of(stage).snapshots:
        trained = replace(trained, snapshots=())
    if stage != "mothers" and put_in(trained.model):
        trained = _folded(session, stage, name, trained)
    problem = session.run.save_training(stage, name, trained, cost)
    session.events.record(
        "trained",
        stage=stage,
        network=name,
        epochs=len(trained.epochs),
        seconds=trained.seconds,
        multiply_adds=cost,
        validation_score=trained.epochs[-1].validation_score,
    )
    if problem:
        session.events.record("left in float32", stage=stage, network=name, reason=problem)


def _folded(session: Session, stage: str, name: str, trained: Trained) -> Trained:
    """A trained network in its user's architecture, certified: the BatchNormalization that was put back goes again.

    So do its snapshots. The certificate is that of the network whose outputs change most.

    Raises:
        NotPreserved: one would compute another function.
    """
    run, ends = session.run, [trained.model, *map(trained.model.with_weights, trained.snapshots)]
    found, _ = calibration_inputs(session, trained.model)
    bare = [folded(each) for each in ends]
    try:
        proofs = [alike(one, other, batches_of(found)) for one, other in zip(ends, bare, strict=True)]
    except NotPreserved as error:
        raise NotPreserved(f"{error}; plan again with --norm keep to train it as it came") from error
    worst = max(proofs, key=lambda proof: proof.largest)
    proof = replace(worst, made=made_of(found), seed=session.plan.seed)
    run.write_json(run.folding_file(stage, name), proof.to_json())
    layers, largest = len(put_in(trained.model)), proof.largest
    session.events.record("folded", stage=stage, network=name, layers=layers, largest=largest)
    return replace(trained, model=bare[0], snapshots=tuple(each.weights for each in bare[1:]))


def networks(plan: Plan, stage: str) -> list[str]:
    """Names of the networks of a stage, in the order in which they are trained."""
    return [planned.name for planned in (plan.clusters if stage == "mothers" else plan.members)]


def job_seed(seed: int, stage: str, name: str) -> int:
    """The seed of one network's training: never a matter of the order in which networks are trained."""
    return crc32(f"{seed}/{stage}/{name}".encode())


def calibration_inputs(session: Session, model: Model, count: int = 512) -> tuple[dict[str, Probe], str]:
    """Named batches for certificates, and which of them inserted normalisation is calibrated on.

    Random and extreme inputs always; a random part of the training data, and of the validation data, where there are
    any.
    """
    found = named_batches(model, session.data, session.plan.seed, count)
    return found, TRAINING if TRAINING in found else RANDOM


def loaded(session: Session, stage: str, name: str) -> list[Model]:
    """The trained networks that a member has in the ensemble, by their names; see `RunFolder.network_files`."""
    files = session.run.network_files(stage, name)
    return [onnx_file.read(path).replace(name=network) for network, path in files.items()]
