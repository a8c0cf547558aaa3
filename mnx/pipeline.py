"""The order of stages: plan, train mothers, hatch, train members, combine, score. The one place that knows it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnx import __version__
from mnx.curves import require_tensorboard
from mnx.ensemble import combine, hashes, is_combined, require_trained, score_mothers, score_stage
from mnx.errors import MnxError
from mnx.events import Events
from mnx.forecast import forecast, limited, planned_passes
from mnx.graphs.certificate import Certificate
from mnx.hatching import Hatching
from mnx.methods.independent import train_independent
from mnx.methods.mothernets import hatch_members, train_members, train_mothers
from mnx.metrics import HEADLINES
from mnx.plan import Plan
from mnx.planning import keep, propose
from mnx.session import (
    Session,
    begun_stages,
    chosen_fuse,
    chosen_recipe,
    keep_settings,
    networks,
    open_session,
    settings,
)
from mnx.train.fitting import require_fitting
from mnx.train.lint import require_differentiable
from mnx.train.onnxruntime_sessions import require_device
from mnx.train.recipe import STAGES
from mnx.workspace import RunFolder, file_hash

COMPARISONS = {"independent": train_independent}
"""Baselines that a run can train beside: name -> function."""

DEFAULT_RUN = Path("mnx-run")
"""The run folder of commands that name none."""


def next_step(run: RunFolder, data: str | None = None) -> str:
    """The command that goes on from where a run stands; `data` is what to train with where the run does not say."""
    place = "" if run.path == DEFAULT_RUN else f" -o {shlex.quote(str(run.path))}"
    if not run.plan_file.exists():
        return f"mnx mother members/*.onnx{place}"
    plan = run.plan()
    if _untrained(run, plan, "mothers"):
        return f"mnx train{place}" + ("" if run.settings_file.exists() else f" --data {shlex.quote(data or 'D')}")
    if not _hatched(run, plan):
        return f"mnx hatch{place}"
    if _untrained(run, plan, "members"):
        return f"mnx train{place}"
    if not is_combined(run, plan):
        return f"mnx combine{place}"
    return f"mnx score{place}"


def begin(
    paths: Sequence[Path],
    run: RunFolder,
    events: Events,
    tau: float | None = None,
    clusters: int | None = None,
    seed: int | None = None,
    force: bool = False,
    data: str | None = None,
    train_limit: int | None = None,
    recipe: Mapping[str, str] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    compare: str | None = None,
    counted: str | None = None,
    jobs: int | None = 1,
    curves: bool = False,
    source: str | None = None,
    norm: str | None = None,
    fuse: int | None = None,
    mothers: int | None = None,
) -> Session:
    """Open a whole run, new or standing. Everything that can be refused is refused before anything is written.

    Args:
        paths: the members' files.
        run: the run folder.
        events: whose listeners hear what happens.
        tau: see `propose`, for `clusters`, `seed`, `force` and `counted` too.
        clusters: ask for so many clusters.
        seed: of all that is drawn.
        force: replace the run that stands there.
        data: a data set's name or path.
        train_limit: at most so many training examples.
        recipe: recipe keys as text.
        device: 'cpu' or 'cuda'.
        threads: of the CPU for each network; None for those that the run was trained with before, or by `mnx.jobs`.
        compare: a baseline to train beside, one of `COMPARISONS`.
        counted: what shares are shares of.
        jobs: how many networks are trained at once; None for as many as fit.
        curves: whether to write curves for TensorBoard.
        source: a recipe's name or file, whose keys `recipe` is set on top of.
        norm: whether folded normalisation is put back, see `propose`.
        mothers: of each cluster, likewise.
        fuse: how many networks of a cluster train together; None for as many as before, or 1.

    Raises:
        GraphError: a member cannot be read.
        MnxError: members, data, recipe, device or what stands in the folder do not fit.
    """
    _check_baseline(compare)
    proposal = propose(paths, run, events, tau, clusters, seed, force, counted, norm=norm, mothers=mothers)
    known = settings(run) if proposal.standing else {}
    begun = begun_stages(run, proposal.plan) if proposal.standing else set()
    chosen = chosen_recipe(known, recipe or {}, source, set(STAGES) - begun)
    planned = proposal.plan if not begun else None
    if not begun:
        data, train_limit = _data(known, data, train_limit)
    fused = chosen_fuse(known, fuse, _may_regroup(run, proposal.plan))
    session = open_session(
        run, events, data, train_limit, chosen, device, threads, plan=planned, jobs=jobs, curves=curves, fuse=fused
    )
    if not (proposal.standing and _finished(run, proposal.plan, compare)):
        _ready(session, compare)
    for model in proposal.members:
        require_differentiable(model)
    if not proposal.standing:
        expected = forecast(planned_passes(proposal.plan), limited(session.recipe))
        events.tick("forecast", share=expected.total.share, pays=expected.pays)
    keep(proposal, run, session.events, force)
    return session


def open_training(
    run: RunFolder,
    events: Events,
    data: str | None = None,
    train_limit: int | None = None,
    recipe: Mapping[str, str] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    force: bool = False,
    jobs: int | None = 1,
    curves: bool = False,
    source: str | None = None,
    fuse: int | None = None,
) -> Session:
    """Open a planned run for training; see `begin`.

    `force` forgets what the next stage to train has trained: its recipe may then be another, and where that is the
    mothers', the data too.

    Raises:
        MnxError: there is no plan, or data, recipe or device do not fit.
    """
    plan, known = run.plan(), settings(run)
    stage, begun = _stage(run, plan), begun_stages(run, plan)
    left = begun - {stage} if force else begun
    afresh = not left or (force and stage == "mothers")
    chosen = chosen_recipe(known, recipe or {}, source, set(STAGES) if afresh else set(STAGES) - left)
    if afresh:
        data, train_limit = _data(known, data, train_limit)
    fused = chosen_fuse(known, fuse, force or _may_regroup(run, plan))
    session = open_session(
        run,
        events,
        data,
        train_limit,
        chosen,
        device,
        threads,
        plan=plan if afresh else None,
        jobs=jobs,
        curves=curves,
        fuse=fused,
    )
    _ready(session)
    if force:
        for name in networks(plan, stage):
            run.forget_training(stage, name)
        if afresh:
            run.settings_file.unlink(missing_ok=True)
    return session


def train_next(session: Session) -> tuple[str, list[str]]:
    """Train the mothers, or the members once all are hatched. Returns the stage and the names of who was trained."""
    keep_settings(session)
    stage = _stage(session.run, session.plan)
    return stage, (train_members if stage == "members" else train_mothers)(session)


def hatch_next(
    session: Session, untrained: bool = False, force: bool = False, hatching: Hatching | None = None
) -> dict[str, Certificate]:
    """Hatch the members that are not hatched yet; returns the new certificates.

    Args:
        session: the call.
        untrained: hatch from the carved mothers, for a look at the result before any training.
        force: hatch again, in place of what stands there.
        hatching: how.

    Raises:
        MnxError: a mother is not trained, or untrained members would replace trained mothers' ones.
        NotPreserved: a certificate failed; nothing was written for that member.
    """
    run, plan = session.run, session.plan
    others = [
        name
        for name in (networks(plan, "members") if untrained and not force else ())
        if run.hatched_from(name) in _mothers(run, plan)
    ]
    if others:
        raise MnxError(
            f"{', '.join(others)} of {run.path} are hatched from trained mothers: replace them with --force, or look "
            "at untrained members in another run with -o"
        )
    return hatch_members(session, untrained, hatching, force)


def run_all(session: Session, compare: str | None = None, hatching: Hatching | None = None) -> dict[str, Any]:
    """Every stage that is not done yet, then the scores; with the same for a baseline beside it; see `hatch_next`.

    Raises:
        MnxError: `compare` is unknown; see the stages for the rest.
    """
    _check_baseline(compare)
    keep_settings(session)
    train_mothers(session)
    hatch_members(session, hatching=hatching)
    train_members(session)
    combine(session)
    if compare is not None:
        COMPARISONS[compare](session)
        combine(session, compare)
    return score_run(session, compare)


def score_run(session: Session, compare: str | None = None) -> dict[str, Any]:
    """Test scores and costs of mothers, members and ensemble, and of a baseline; kept as scores.json.

    Args:
        session: the call.
        compare: a baseline; None for the one that is trained in this run, if any.

    Raises:
        MnxError: a network is not trained, or there are no data.
    """
    run, plan = session.run, session.plan
    compare = compare or next((name for name in COMPARISONS if not _untrained(run, plan, name)), None)
    for stage in ("mothers", "members", *([compare] if compare else [])):
        require_trained(session, stage)
    made_of = _ingredients(session, compare)
    standing = run.read_json(run.scores_file) if run.scores_file.exists() else {}
    if standing.get("made_of") == made_of:
        return standing
    mothers, members = score_mothers(session), score_stage(session, "members")
    for cluster in plan.clusters:
        mothers["networks"][cluster.name]["parameters"] = cluster.parameters
    for member in plan.members:
        members["networks"][member.name] |= {
            "cluster": member.cluster,
            "parameters": member.parameters,
            "share": member.share,
        }
    document: dict[str, Any] = {
        "made_of": made_of,
        "data": session.dataset.name,
        "task": session.dataset.kind,
        "test_examples": len(session.dataset.test),
        "mothers": mothers,
        "members": members,
        "cost": {key: mothers[key] + members[key] for key in ("seconds", "multiply_adds")},
        "compare": compare,
    }
    if compare is not None:
        other = score_stage(session, compare)
        document[compare] = other
        document["cost_against"] = {
            key: document["cost"][key] / max(other[key], 1e-9) for key in ("seconds", "multiply_adds")
        }
    run.write_json(run.scores_file, document)
    deciding = HEADLINES[session.dataset.kind]
    session.events.record("scored", **{deciding: members["ensemble"]["averaged"][deciding]})
    return document


def _ingredients(session: Session, compare: str | None) -> dict[str, str]:
    """All that scores depend on, by hash."""
    files = {
        f"{stage}/{name}": digest
        for stage in ("mothers", "members", *([compare] if compare else []))
        for name, digest in hashes(session.run, session.plan, stage).items()
    }
    return {"mnx": __version__, "data": session.dataset.fingerprint, **files}


def _check_baseline(compare: str | None) -> None:
    if compare is not None and compare not in COMPARISONS:
        raise MnxError(f"no baseline '{compare}'; there are {', '.join(COMPARISONS)}")


def _data(known: Mapping[str, Any], data: str | None, train_limit: int | None) -> tuple[str | None, int | None]:
    """The data and the limit that a run begins again with: those given, or where none are, those of its `settings`."""
    if data or not known:
        return data, train_limit
    return known["data"], known["train_limit"] if train_limit is None else train_limit


def _ready(session: Session, compare: str | None = None) -> None:
    """Refuse to train without data, by a recipe that they do not fit, on a device that is not there, or with curves
    that cannot be written.
    """
    for stage in ("mothers", "members", *([compare] if compare else [])):
        try:
            require_fitting(session.recipe.of(stage), session.dataset)
        except MnxError as error:
            own = session.recipe.of(stage) != session.recipe.of("mothers")
            raise MnxError(f"{error}  (in stage {stage})" if own else str(error)) from None
    require_device(session.device)
    if session.curves:
        require_tensorboard()


def _finished(run: RunFolder, plan: Plan, compare: str | None) -> bool:
    """Whether nothing is left to train."""
    return not any(_untrained(run, plan, stage) for stage in ("mothers", "members", *([compare] if compare else [])))


def _stage(run: RunFolder, plan: Plan) -> str:
    """The stage that is trained next, or was last."""
    return "members" if not _untrained(run, plan, "mothers") and _hatched(run, plan) else "mothers"


def _untrained(run: RunFolder, plan: Plan, stage: str) -> list[str]:
    return [name for name in networks(plan, stage) if run.training(stage, name) is None]


def _may_regroup(run: RunFolder, plan: Plan) -> bool:
    """Whether other networks may still train together: none is in training but mothers, who train alone."""
    return not any(run.begun(stage, name) for stage in ("members", *COMPARISONS) for name in networks(plan, stage))


def _mothers(run: RunFolder, plan: Plan) -> set[str]:
    """Hashes of the trained mothers."""
    return {
        file_hash(run.trained_file("mothers", cluster.name))
        for cluster in plan.clusters
        if run.training("mothers", cluster.name) is not None
    }


def _hatched(run: RunFolder, plan: Plan) -> bool:
    """Whether every member is hatched from its trained mother."""
    return all(
        run.hatched_from(member.name) == file_hash(run.trained_file("mothers", member.cluster))
        for member in plan.members
    )
