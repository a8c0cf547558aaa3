"""From member files to a plan: read, check that they fit together, cluster, carve the mothers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mnx.cluster import Cluster, by_count, by_tau
from mnx.errors import MnxError
from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.carve import drawn
from mnx.graphs.model import Model
from mnx.graphs.mother import embed, stand_in
from mnx.graphs.structure import Structure
from mnx.plan import Plan, PlannedCluster, PlannedMember, save
from mnx.workspace import RunFolder, file_hash


def plan_members(
    paths: Sequence[Path],
    run: RunFolder,
    events: Events,
    tau: float = 0.5,
    clusters: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> Plan:
    """Plan a run and write its plan and mothers, or return the plan that stands there for the same members.

    Args:
        paths: the members' files.
        run: where to write.
        events: told of every member read and of the plan.
        tau: least share of a member's parameters that must come from its mother.
        clusters: ask for so many clusters instead.
        seed: of all that is drawn in this run.
        force: replace the run that stands there.

    Raises:
        GraphError: a file cannot be read, or has no mother with itself.
        MnxError: members do not fit together, or the folder holds a run of other members or settings.
    """
    files = _unique(paths)
    rule: dict[str, float] = {"tau": tau} if clusters is None else {"clusters": clusters}
    hashes = {path.stem: file_hash(path) if path.is_file() else "" for path in files}
    if run.plan_file.exists() and not force:
        return _standing(run, hashes, rule, seed)
    members = []
    for number, path in enumerate(files, start=1):
        events.tick("read", network=path.stem, done=number, total=len(files))
        members.append(stand_in(onnx_file.read(path)))
    _check_alike([model for model, _ in members])
    found = by_tau(members, tau) if clusters is None else by_count(members, clusters)
    plan = _plan(found, members, {path.stem: path for path in files}, hashes, rule, seed)
    if force:
        run.clear()
    for cluster in found:
        mother = drawn(cluster.mother, cluster.structure, seed)
        onnx_file.write(mother, run.start_file("mothers", cluster.name))
    save(plan, run.plan_file)
    for planned in plan.clusters:
        events.record(
            "cluster", network=planned.name, members=list(planned.members), parameters=planned.parameters, **rule
        )
    return plan


def _unique(paths: Sequence[Path]) -> list[Path]:
    if not paths:
        raise MnxError("no members: give at least one .onnx file")
    repeated = [stem for stem, count in Counter(path.stem for path in paths).items() if count > 1]
    if repeated:
        raise MnxError(f"two members are called '{repeated[0]}': file names without .onnx must differ, rename one")
    return sorted(paths, key=lambda path: path.stem)


def _standing(run: RunFolder, hashes: dict[str, str], rule: dict[str, float], seed: int) -> Plan:
    plan = run.plan()
    if {member.name: member.sha256 for member in plan.members} != hashes:
        raise MnxError(
            f"{run.path} holds a run of other members: choose another folder with -o, or --force to replace it"
        )
    if dict(plan.rule) != rule or plan.seed != seed:
        raise MnxError(
            f"{run.path} was planned with {dict(plan.rule)} and seed {plan.seed}, not {rule} and seed {seed}: "
            "choose another folder with -o, or --force to replace it"
        )
    return plan


def _check_alike(models: Sequence[Model]) -> None:
    shapes = Counter((model.inputs[0].dtype, model.inputs[0].shape) for model in models)
    classes = Counter(model.outputs[0].shape for model in models)
    for counts, read, what in (
        (shapes, lambda model: (model.inputs[0].dtype, model.inputs[0].shape), "inputs"),
        (classes, lambda model: model.outputs[0].shape, "classes"),
    ):
        if len(counts) > 1:
            usual = counts.most_common(1)[0][0]
            odd = next(model for model in models if read(model) != usual)
            raise MnxError(
                f"members have different {what}: {odd.name} has {read(odd)}, others {usual}; an ensemble needs one kind"
            )
    if len(models[0].outputs[0].shape) != 1:
        raise MnxError(
            f"{models[0].name} gives {models[0].outputs[0].shape} a example; mnx trains classifiers (batch, classes)"
        )


def _plan(
    clusters: Sequence[Cluster],
    members: Sequence[tuple[Model, Structure]],
    paths: dict[str, Path],
    hashes: dict[str, str],
    rule: dict[str, float],
    seed: int,
) -> Plan:
    first = members[0][0]
    planned = [
        _member(member, cluster, paths[member.name], hashes[member.name])
        for cluster in clusters
        for member in cluster.members
    ]
    return Plan(
        rule=rule,
        seed=seed,
        input=first.inputs[0],
        classes=first.outputs[0].shape[0],
        clusters=tuple(
            PlannedCluster(c.name, tuple(m.name for m in c.members), c.structure.parameter_count, c.structure.cost)
            for c in clusters
        ),
        members=tuple(sorted(planned, key=lambda member: member.name)),
    )


def _member(member: Structure, cluster: Cluster, path: Path, sha256: str) -> PlannedMember:
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
        inserted=tuple((op.name, op.op, how.value) for i in alignment.only_right for op, how in i.ops),
    )
