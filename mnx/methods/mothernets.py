"""MotherNets (Wasay et al., MLSys 2020): train the mothers, hatch every member, train the members on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mnx import __version__
from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.model import Model
from mnx.graphs.run import runtime_version
from mnx.graphs.verify import Certificate
from mnx.plan import PlannedMember
from mnx.session import Session, calibration_inputs, train_network
from mnx.workspace import file_hash


def train_mothers(session: Session) -> list[str]:
    """Train every untrained mother; returns their names. A mother is not annealed: members go on from her best pace."""
    return [
        cluster.name
        for cluster in session.plan.clusters
        if train_network(session, "mothers", cluster.name, cluster.multiply_adds, fresh=True, anneal=False)
    ]


def hatch_members(session: Session, untrained: bool = False) -> dict[str, Certificate]:
    """Hatch every member that is not hatched yet from the mother as she stands; returns the new certificates.

    Args:
        session: the call.
        untrained: hatch from the carved mother, for a look at the result before any training.

    Raises:
        MnxError: a mother is not trained, or a member's file is gone or has changed since it was planned.
        NotPreserved: a certificate failed; nothing was written for that member.
    """
    if not untrained:
        for cluster in session.plan.clusters:
            if session.run.training("mothers", cluster.name) is None:
                raise MnxError(
                    f"the mother of {cluster.name} is not trained: run 'mnx train --data D -o {session.run.path}' "
                    "first, or look at untrained members with --untrained"
                )
    for member in session.plan.members:
        if session.run.hatched_from(member.name) != file_hash(_mother_file(session, member.cluster, untrained)):
            _require_unchanged(member)
    inputs, calibration = calibration_inputs(session)
    found: dict[str, Certificate] = {}
    mothers: dict[str, tuple[Model, str]] = {}
    for number, member in enumerate(session.plan.members, start=1):
        if member.cluster not in mothers:
            mothers[member.cluster] = _mother(session, member.cluster, untrained)
        mother, mother_hash = mothers[member.cluster]
        session.events.tick("hatch", network=member.name, done=number, total=len(session.plan.members))
        if session.run.hatched_from(member.name) == mother_hash:
            continue
        hatched = hatch(mother, onnx_file.read(Path(member.path)), inputs, calibration, session.plan.seed)
        session.run.certificate_file(member.name).unlink(missing_ok=True)  # never beside another network than its own
        notes = onnx_file.write(hatched.model, session.run.start_file("members", member.name), form="working")
        document = {
            **hatched.certificate.to_json(),
            "mother_sha256": mother_hash,
            "member_sha256": member.sha256,
            "hatched_sha256": file_hash(session.run.start_file("members", member.name)),
            "changes": [*hatched.model.changes, *notes],
            "versions": {"mnx": __version__, "onnxruntime": runtime_version()},
        }
        session.run.write_json(session.run.certificate_file(member.name), document)
        session.events.record("hatched", network=member.name, largest=hatched.certificate.largest)
        found[member.name] = hatched.certificate
    return found


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
    return [
        member.name
        for member in session.plan.members
        if train_network(session, "members", member.name, member.multiply_adds, fresh=False, anneal=True)
    ]


def _mother(session: Session, cluster: str, untrained: bool) -> tuple[Model, str]:
    path = _mother_file(session, cluster, untrained)
    return dataclasses.replace(onnx_file.read(path), name=cluster), file_hash(path)


def _mother_file(session: Session, cluster: str, untrained: bool) -> Path:
    run = session.run
    return run.start_file("mothers", cluster) if untrained else run.trained_file("mothers", cluster)


def _require_unchanged(member: PlannedMember) -> None:
    path = Path(member.path)
    if not path.is_file():
        raise MnxError(f"{member.name}: its file {path} is gone; put it back, or plan again without it")
    if file_hash(path) != member.sha256:
        raise MnxError(f"{path} has changed since it was planned: plan again with 'mnx mother ... --force'")
