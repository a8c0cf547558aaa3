"""MotherNets (Wasay et al., MLSys 2020): train the mothers, hatch every member, train the members on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.certificate import Certificate
from mnx.graphs.growth.grown import hatched as hatch_or_name_step
from mnx.graphs.growth.perturb import perturbed
from mnx.graphs.model import Array, Model
from mnx.graphs.probes import Probe, batches_of, made_of
from mnx.graphs.verify import Answers
from mnx.hatching import Hatching
from mnx.norms import read_member
from mnx.plan import PlannedMember
from mnx.session import Session, calibration_inputs
from mnx.stages import train_stage
from mnx.train.optimiser_state import grown
from mnx.workspace import file_hash


def train_mothers(session: Session) -> list[str]:
    """Train every untrained mother; returns their names. A mother is not annealed: members go on from her best pace."""
    return train_stage(session, "mothers", {cluster.name: cluster.multiply_adds for cluster in session.plan.clusters})


def hatch_members(
    session: Session, untrained: bool = False, hatching: Hatching | None = None, force: bool = False
) -> dict[str, Certificate]:
    """Hatch every member that is not hatched yet from the mother as she stands; returns the new certificates.

    One cluster after the other, so that each mother is read, and asked what she computes, once.

    Args:
        session: the call.
        untrained: hatch from the carved mother, for a look at the result before any training.
        hatching: how; None for as those that are hatched, or by default where none is.
        force: hatch all of them again, each in place of what stands there.

    Raises:
        MnxError: a mother is not trained, a member's file is gone or has changed since it was planned, or members are
            hatched in another way.
        NotPreserved: a certificate failed; nothing was written for that member.
    """
    if not untrained:
        for cluster in session.plan.clusters:
            if session.run.training("mothers", cluster.name) is None:
                raise MnxError(
                    f"the mother of {cluster.name} is not trained: run 'mnx train --data D -o {session.run.path}' "
                    "first, or look at untrained members with --untrained"
                )
    hashes = {
        cluster.name: file_hash(_mother_file(session, cluster.name, untrained)) for cluster in session.plan.clusters
    }
    waiting = [m for m in session.plan.members if force or session.run.hatched_from(m.name) != hashes[m.cluster]]
    how = _way(session, [member.name for member in session.plan.members if member not in waiting], hatching)
    for member in waiting:
        _require_unchanged(member)
    found: dict[str, Certificate] = {}
    for cluster in session.plan.clusters:
        children = [member for member in waiting if member.cluster == cluster.name]
        if not children:
            continue
        mother = _mother(session, cluster.name, untrained)
        for member in children:
            session.events.tick("hatch", network=member.name, done=len(found) + 1, total=len(waiting))
            found[member.name] = _hatch(session, mother, member, how)
    return {member.name: found[member.name] for member in waiting}


def _hatch(session: Session, mother: _Mother, member: PlannedMember, how: Hatching) -> Certificate:
    """Hatch one member and write it; its certificate goes first and comes last."""
    run, seed = session.run, session.plan.seed
    batches = batches_of(mother.probes)
    style, model = how.style(seed), read_member(member)
    hatched = hatch_or_name_step(mother.model, model, batches, mother.calibration, style, mother.answers)
    run.certificate_file(member.name).unlink(missing_ok=True)
    result = perturbed(hatched.model, how.perturbation, seed)
    notes = onnx_file.write(result, run.start_file("members", member.name), form="working")
    digest = file_hash(run.start_file("members", member.name))
    run.write_optimiser_state("members", member.name, grown(hatched.growing, mother.kept), digest)
    certificate = dataclasses.replace(
        hatched.certificate,
        made=made_of(mother.probes),
        sha256={"mother": mother.sha256, "member": member.sha256, "hatched": digest},
        seed=seed,
        split=style.split,
        fresh=style.fresh,
        perturbed=how.perturbed,
        changes=(*hatched.model.changes, *notes),
    )
    run.write_json(run.certificate_file(member.name), certificate.to_json())
    worst = max(check.difference.relative for check in certificate.checks if check.binding)
    session.events.record("hatched", network=member.name, largest=certificate.largest, relative=worst)
    return certificate


def _way(session: Session, names: Sequence[str], asked: Hatching | None) -> Hatching:
    """How to hatch, beside the members that are hatched already: all in one way."""
    for name in names:
        stands = Hatching.of(session.run.certificate(name))
        asked = asked or stands
        if not asked.alike(stands):
            raise MnxError(
                f"{name} is hatched already, in another way ({stands.text}; now {asked.text}): hatch all again with "
                f"'mnx hatch --force -o {session.run.path}' and the options that you want, or leave them out"
            )
    return asked or Hatching()


def train_members(session: Session) -> list[str]:
    """Train every hatched member that is not trained yet; returns their names.

    Raises:
        MnxError: a member is not hatched, or was hatched from another mother than the one that stands there.
    """
    for member in session.plan.members:
        mother = session.run.trained_file("mothers", member.cluster)
        if session.run.hatched_from(member.name) != file_hash(mother):
            raise MnxError(
                f"{member.name} is not hatched from the trained mother: run 'mnx hatch -o {session.run.path}'"
            )
    return train_stage(session, "members", {member.name: member.multiply_adds for member in session.plan.members})


@dataclasses.dataclass(frozen=True)
class _Mother:
    """A mother, her file's hash, what her members are compared with her on, what her optimiser kept, and what she
    answers, which is the same for all of them.
    """

    model: Model
    sha256: str
    probes: Mapping[str, Probe]
    calibration: str
    kept: Mapping[str, Array]
    answers: Answers


def _mother(session: Session, cluster: str, untrained: bool) -> _Mother:
    path = _mother_file(session, cluster, untrained)
    model, digest = dataclasses.replace(onnx_file.read(path), name=cluster), file_hash(path)
    probes, calibration = calibration_inputs(session, model)
    kept = {} if untrained else session.run.optimiser_state("mothers", cluster, digest)
    answers = Answers(model, batches_of(probes))
    return _Mother(model, digest, probes, calibration, kept, answers)


def _mother_file(session: Session, cluster: str, untrained: bool) -> Path:
    run = session.run
    return run.start_file("mothers", cluster) if untrained else run.trained_file("mothers", cluster)


def _require_unchanged(member: PlannedMember) -> None:
    path = Path(member.path)
    if not path.is_file():
        raise MnxError(f"{member.name}: its file {path} is gone; put it back, or plan again without it")
    if file_hash(path) != member.sha256:
        raise MnxError(f"{path} has changed since it was planned: plan again with 'mnx mother ... --force'")
