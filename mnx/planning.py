"""From member files to a plan: read, check that they fit together, cluster, carve the mothers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from mnx.cluster import Cluster, Clustering, by_count, by_tau, sweep
from mnx.errors import MnxError
from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.interface import interface
from mnx.graphs.model import Model
from mnx.graphs.mothers.carve import drawn
from mnx.graphs.mothers.mother import Member, embed, stand_in
from mnx.graphs.trees.counting import DEFAULT
from mnx.graphs.trees.structure import Structure
from mnx.norms import AUTO, restored_layers, with_norms
from mnx.plan import Plan, PlannedCluster, PlannedMember, save
from mnx.workspace import STAGES, RunFolder, file_hash

DEFAULT_TAU = 0.5
DEFAULT_MOTHERS = 2
"""Of each cluster, see `by_tau`; benchmarks/results/ablation.md says why."""


@dataclass(frozen=True)
class Proposal:
    """A plan before it is written.

    Attributes:
        plan: the plan.
        mothers: by cluster, as stand-ins; empty where the plan stands in the run folder already.
        members: as stand-ins; empty likewise.
    """

    plan: Plan
    mothers: Mapping[str, tuple[Model, Structure]]
    members: tuple[Model, ...]

    @property
    def standing(self) -> bool:
        """Whether the run folder holds this plan already."""
        return not self.mothers


def propose(
    paths: Sequence[Path],
    run: RunFolder,
    events: Events,
    tau: float | None = None,
    clusters: int | None = None,
    seed: int | None = None,
    force: bool = False,
    counted: str | None = None,
    anew: bool = False,
    norm: str | None = None,
    mothers: int | None = None,
) -> Proposal:
    """Plan a run without writing anything; the plan that stands in the run folder where it is for the same members.

    Args:
        paths: the members' files.
        run: the run folder.
        events: told of every member read.
        tau: least share of a member that must come from its mother; None for the standing plan's, or 0.5.
        clusters: ask for so many clusters instead.
        seed: of all that is drawn in this run; None for the standing plan's, or 0.
        force: do not look at the plan that stands there.
        counted: what shares are shares of; None for the standing plan's, or all trained parameters.
        anew: where the folder holds another run, plan as if it were empty, for a proposal that is not kept.
        norm: whether folded normalisation is put back, one of `mnx.norms.NORMS`; None for the standing plan's, or auto.
        mothers: with tau, see `by_tau`; None for the standing plan's, or 2.

    Raises:
        GraphError: a file cannot be read, or has no mother with itself.
        MnxError: members do not fit together, or the folder holds a run of other members or settings.
    """
    files = _checked(paths, run)
    names = [path.stem for path in files]
    if run.plan_file.exists() and not force:
        hashes = dict(zip(names, map(file_hash, files), strict=True))
        asked = {"tau": tau, "clusters": clusters, "seed": seed, "count": counted, "norm": norm, "mothers": mothers}
        try:
            standing = _standing(run, hashes, asked)
        except MnxError:
            if anew:
                return propose(paths, run, events, tau, clusters, seed, True, counted, norm=norm, mothers=mothers)
            raise
        if all(run.start_file("mothers", cluster.name).exists() for cluster in standing.clusters):
            return Proposal(standing, {}, ())
        tau, clusters, seed, counted = standing.tau, standing.clusters_asked, standing.seed, standing.counted
        norm, mothers = standing.norm, standing.mothers_asked
    norm = norm or AUTO
    with _meanwhile(file_hash, files) as digests:
        members = with_norms(_read(files, events), norm)
        hashes = dict(zip(names, digests, strict=True))
    tau, counted = DEFAULT_TAU if tau is None else tau, counted or DEFAULT
    mothers = DEFAULT_MOTHERS if mothers is None else mothers
    found = by_tau(members, tau, counted, mothers) if clusters is None else by_count(members, clusters, counted)
    rule: dict[str, float | str] = {"tau": tau, "mothers": mothers} if clusters is None else {"clusters": clusters}
    rule |= {"count": counted, "norm": norm}
    plan = _plan(found, members, {path.stem: path for path in files}, hashes, rule, seed or 0)
    carved = {cluster.name: (cluster.mother, cluster.structure) for cluster in found}
    return Proposal(plan, carved, tuple(model for model, _ in members))


def every_tau(
    paths: Sequence[Path], run: RunFolder, events: Events, counted: str = DEFAULT, norm: str = AUTO
) -> list[Clustering]:
    """What every tau would give for these members, from 1 down; nothing is written, and no plan is looked at.

    Raises:
        GraphError: a file cannot be read.
        MnxError: members do not fit together, or one has nothing of what is counted.
    """
    return sweep(with_norms(_read(_checked(paths, run), events), norm), counted)


def keep(proposal: Proposal, run: RunFolder, events: Events, force: bool = False) -> Plan:
    """Write a proposal's mothers and its plan, unless they stand there; `force` removes the run that stands there."""
    if proposal.standing:
        return proposal.plan
    if force:
        run.clear()
    plan = proposal.plan
    for number, (name, (mother, structure)) in enumerate(proposal.mothers.items()):
        # mothers of one structure begin with weights of their own
        seed = crc32(f"{plan.seed}/{name}".encode()) if number else plan.seed
        onnx_file.write(drawn(mother, structure, seed), run.start_file("mothers", name))
    save(plan, run.plan_file)
    for planned in plan.clusters:
        events.record(
            "cluster", network=planned.name, members=list(planned.members), parameters=planned.parameters, **plan.rule
        )
    if layers := {member.name: member.restored for member in plan.members if member.restored}:
        events.record("restored", layers=layers, norm=plan.norm)
    return plan


def plan_members(
    paths: Sequence[Path],
    run: RunFolder,
    events: Events,
    tau: float | None = None,
    clusters: int | None = None,
    seed: int | None = None,
    force: bool = False,
    counted: str | None = None,
    norm: str | None = None,
    mothers: int | None = None,
) -> Plan:
    """Plan a run and write its plan and mothers, or return the plan that stands there; see `propose` and `keep`."""
    proposal = propose(paths, run, events, tau, clusters, seed, force, counted, norm=norm, mothers=mothers)
    return keep(proposal, run, events.to(run.events_file), force)


def _checked(paths: Sequence[Path], run: RunFolder) -> list[Path]:
    if not paths:
        raise MnxError("no members: give at least one .onnx file")
    repeated = [stem for stem, count in Counter(path.stem for path in paths).items() if count > 1]
    if repeated:
        same = [path for path in paths if path.stem == repeated[0]]
        if len({path.resolve() for path in same}) == 1:
            raise MnxError(f"{same[0]} is given {len(same)} times: give every member once")
        alike = " and ".join(map(str, same))
        raise MnxError(
            f"two members are called '{repeated[0]}': {alike}; file names without .onnx must differ, rename one"
        )
    for path in paths:
        if not path.is_file():
            onnx_file.read(path)  # says what is wrong
        if any(path.resolve().is_relative_to((run.path / stage).resolve()) for stage in STAGES):
            raise MnxError(f"{path} lies where the run {run.path} keeps its own files: choose another folder with -o")
    return sorted(paths, key=lambda path: path.stem)


@contextmanager
def _meanwhile(function: Callable[[Path], str], files: Sequence[Path]) -> Iterator[Iterator[str]]:
    """What a function gives for every file, found by another thread; what is left at the end is not begun."""
    pool = ThreadPoolExecutor(1)
    try:
        yield pool.map(function, files)
    finally:
        pool.shutdown(cancel_futures=True)


def _read(files: Sequence[Path], events: Events) -> list[Member]:
    """The members as stand-ins; the weights of at most one are in memory."""
    members = []
    for number, path in enumerate(files, start=1):
        events.tick("read", network=path.stem, done=number, total=len(files))
        members.append(stand_in(onnx_file.read(path)))
    _check_alike([model for model, _ in members])
    return members


def _standing(run: RunFolder, hashes: Mapping[str, str], asked: Mapping[str, float | str | None]) -> Plan:
    plan = run.plan()
    known = {member.name: member.sha256 for member in plan.members}
    if known != hashes:
        raise MnxError(
            f"{run.path} holds a run of other members ({_differences(known, hashes)}): choose another folder with -o, "
            "or replace it with --force"
        )
    planned: dict[str, float | str | None] = {"tau": plan.tau, "mothers": plan.mothers_asked}
    planned |= {"clusters": plan.clusters_asked, "seed": plan.seed, "count": plan.counted, "norm": plan.norm}
    for key, value in asked.items():
        if value is not None and value != planned[key]:
            usual = (("norm", AUTO), ("count", DEFAULT), ("mothers", DEFAULT_MOTHERS))
            said = {
                name: planned[name] for name in planned if name in (key, "seed") or (name, planned[name]) not in usual
            }
            was = " ".join(f"--{name} {number}" for name, number in said.items() if number is not None)
            raise MnxError(
                f"{run.path} was planned with {was}, not --{key} {value}: choose another folder with -o, or replace it "
                "with --force"
            )
    return plan


def _differences(known: Mapping[str, str], given: Mapping[str, str]) -> str:
    parts = {
        "not given": sorted(known.keys() - given.keys()),
        "new": sorted(given.keys() - known.keys()),
        "changed": sorted(name for name in known.keys() & given.keys() if known[name] != given[name]),
    }
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)


def _check_alike(models: Sequence[Model]) -> None:
    for what, read in (("inputs", _input_text), ("classes", _output_text)):
        texts = [read(model) for model in models]
        usual = Counter(texts).most_common(1)[0][0]
        odd = next((number for number, text in enumerate(texts) if text != usual), None)
        if odd is not None:
            raise MnxError(
                f"members have different {what}: {models[odd].name} has {texts[odd]}, "
                f"{models[texts.index(usual)].name} {usual}; leave one out, or export all with the same"
            )
    if len(models[0].outputs[0].shape) != 1:
        raise MnxError(
            f"{models[0].name} has {_output_text(models[0])} an example; mnx trains networks whose output is "
            "(batch, width): classes, labels or numbers"
        )
    interface(models)


def _input_text(model: Model) -> str:
    ports = [f"{port.dtype} {port.shape}" for port in model.inputs]
    return f"an input of {ports[0]}" if len(ports) == 1 else f"{len(ports)} inputs of {', '.join(ports)}"


def _output_text(model: Model) -> str:
    shape = model.outputs[0].shape
    return f"{shape[0]} {'class' if shape[0] == 1 else 'classes'}" if len(shape) == 1 else f"an output of {shape}"


def _plan(
    clusters: Sequence[Cluster],
    members: Sequence[tuple[Model, Structure]],
    paths: dict[str, Path],
    hashes: dict[str, str],
    rule: dict[str, float | str],
    seed: int,
) -> Plan:
    layers = {model.name: restored_layers(model) for model, _ in members}
    planned = [
        _member(member, cluster, paths[member.name], hashes[member.name], layers[member.name])
        for cluster in clusters
        for member in cluster.members
    ]
    return Plan(
        rule=rule,
        seed=seed,
        interface=interface([model for model, _ in members]),
        clusters=tuple(
            PlannedCluster(c.name, tuple(m.name for m in c.members), c.structure.parameter_count, c.structure.cost)
            for c in clusters
        ),
        members=tuple(sorted(planned, key=lambda member: member.name)),
    )


def _member(member: Structure, cluster: Cluster, path: Path, sha256: str, restored: int) -> PlannedMember:
    alignment, _ = embed(cluster.structure, member)
    return PlannedMember(
        name=member.name,
        path=os.path.abspath(path),  # noqa: PTH100 - without resolving links, so that the user knows it again
        sha256=sha256,
        cluster=cluster.name,
        parameters=member.parameter_count,
        multiply_adds=member.cost,
        share=cluster.share(member),
        matched=tuple((right.name, left.name) for left, right in alignment.matches),
        inserted=tuple((op.name, op.op, how.value) for op, how in alignment.inserted),
        restored=restored,
    )
