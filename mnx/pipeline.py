"""The order of stages: plan, train mothers, hatch, train members, combine, score. The one place that knows it."""

from __future__ import annotations

from typing import Any

from mnx.ensemble import combine, score_mothers, score_stage
from mnx.errors import MnxError
from mnx.methods.independent import train_independent
from mnx.methods.mothernets import hatch_members, train_members, train_mothers
from mnx.session import Session
from mnx.workspace import RunFolder, file_hash

COMPARISONS = {"independent": train_independent}
"""Baselines that a run can train beside: name -> function."""


def next_step(run: RunFolder) -> str:
    """The command that goes on from where a run stands."""
    place = f"-o {run.path}"
    if not run.plan_file.exists():
        return f"mnx mother members/*.onnx {place}"
    plan = run.plan()
    if any(run.training("mothers", cluster.name) is None for cluster in plan.clusters):
        return f"mnx train {place} --data D"
    if any(
        run.hatched_from(member.name) != file_hash(run.trained_file("mothers", member.cluster))
        for member in plan.members
    ):
        return f"mnx hatch {place}"
    if any(run.training("members", member.name) is None for member in plan.members):
        return f"mnx train {place}"
    if not run.ensemble_file.exists():
        return f"mnx combine {place}"
    return f"mnx score {place}"


def train_next(session: Session) -> tuple[str, list[str]]:
    """Train the mothers if any is untrained, else the hatched members. Returns the stage and who was trained."""
    run, plan = session.run, session.plan
    if any(run.training("mothers", cluster.name) is None for cluster in plan.clusters):
        return "mothers", train_mothers(session)
    return "members", train_members(session)


def run_all(session: Session, compare: str | None = None) -> dict[str, Any]:
    """Every stage that is not done yet, then the scores; with the same for a baseline beside it.

    Raises:
        MnxError: `compare` is unknown; see the stages for the rest.
    """
    if compare is not None and compare not in COMPARISONS:
        raise MnxError(f"no baseline '{compare}'; there are {', '.join(COMPARISONS)}")
    train_mothers(session)
    hatch_members(session)
    train_members(session)
    combine(session)
    if compare is not None:
        COMPARISONS[compare](session)
        combine(session, compare)
    return score_run(session, compare)


def score_run(session: Session, compare: str | None = None) -> dict[str, Any]:
    """Test scores and costs of mothers, members and ensemble, and of a baseline; kept as scores.json."""
    mothers, members = score_mothers(session), score_stage(session, "members")
    document: dict[str, Any] = {
        "data": session.dataset.name,
        "test_examples": len(session.dataset.y_test),
        "mothers": mothers,
        "members": members,
        "cost": {key: mothers[key] + members[key] for key in ("seconds", "multiply_adds")},
    }
    if compare is not None:
        other = score_stage(session, compare)
        document[compare] = other
        document["cost_against"] = {
            key: document["cost"][key] / max(other[key], 1e-9) for key in ("seconds", "multiply_adds")
        }
    session.run.write_json(session.run.scores_file, document)
    session.events.record("scored", accuracy=members["ensemble"]["averaged"]["accuracy"])
    return document
