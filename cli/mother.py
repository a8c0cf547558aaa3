"""`mnx mother`: find the mothers of an ensemble's members."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from mnx.cli.errors import Command
from mnx.cli.forecast import epochs_given, forecast_options, forecast_parts, sweep_json, sweep_parts
from mnx.cli.options import (
    data_options,
    force_option,
    json_option,
    members_argument,
    one_rule,
    planning_options,
    quiet_option,
    run_option,
)
from mnx.cli.output import Grid, Part, branch, counted, grid, large, number, percent, restored_line, show
from mnx.cli.progress import progress
from mnx.forecast import examples_of, forecast, measured, planned_passes
from mnx.graphs.trees.counting import COUNTS, DEFAULT
from mnx.norms import AUTO
from mnx.pipeline import next_step
from mnx.plan import Plan
from mnx.planning import Proposal, every_tau, keep, propose
from mnx.train.lint import untrainable
from mnx.workspace import RunFolder


@click.command(cls=Command)
@members_argument
@planning_options
@click.option("--sweep", is_flag=True, help="Show what every tau would give, with one mother each, and write nothing.")
@data_options
@forecast_options
@run_option
@click.option("--dry-run", is_flag=True, help="Show the clusters and write nothing.")
@force_option("Replace the run that stands in the folder.")
@json_option
@quiet_option
def command(
    members: tuple[Path, ...],
    tau: float | None,
    mothers: int | None,
    clusters: int | None,
    counted: str | None,
    norm: str | None,
    seed: int | None,
    sweep: bool,
    data: str | None,
    train_limit: int | None,
    epochs_scratch: float | None,
    epochs_mother: float | None,
    epochs_member: float | None,
    rate: float | None,
    run: Path,
    dry_run: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Find the mothers: cluster the members, carve a mother for each cluster.

    A mother is the largest network that all members of her cluster contain. Written are plan.json and
    mothers/CLUSTER/mother.onnx; nothing is trained. The forecast says what training will cost against every member
    from scratch: for one example, or in all with --data; in time with --rate, or in a run that has trained before.

    \b
    Example:
      mnx mother members/*.onnx --tau 0.5
    """
    one_rule(tau, mothers, clusters)
    if sweep and not tau is clusters is mothers is None:
        raise click.UsageError("--sweep shows every tau: leave --tau, --mothers and --clusters out")
    folder, epochs = RunFolder(run), epochs_given(epochs_scratch, epochs_mother, epochs_member)
    if sweep:
        with progress(quiet) as events:
            found = every_tau(members, folder, events, counted or DEFAULT, norm or AUTO)
        show(sweep_json(found, epochs), as_json, *sweep_parts(found, epochs))
        return
    with progress(quiet) as events:
        proposal = propose(members, folder, events, tau, clusters, seed, force, counted, dry_run, norm, mothers)
        examples, known_rate = measured(folder)
        if data is not None or not proposal.standing:
            examples = examples_of(data, proposal.plan, train_limit) if data is not None else None
        plan = proposal.plan if dry_run else keep(proposal, folder, events.to(folder.events_file), force)
    following = _real(proposal, folder, force) if dry_run else next_step(folder, data)
    expected = forecast(planned_passes(plan), epochs, examples, rate or known_rate)
    document = {
        "run": str(run),
        "written": not dry_run,
        "next": following,
        **plan.to_json(),
        "forecast": expected.to_json(),
    }
    untrained = _untrained(proposal)
    document["untrainable"] = untrained
    parts = [*plan_parts(plan), *forecast_parts(expected, advise=_shared(plan)), *_trouble(untrained)]
    show(document, as_json, *parts, f"next: {following}")


def _untrained(proposal: Proposal) -> dict[str, str]:
    """Member -> the ops that it cannot be trained through, as far as they were read."""
    found = {model.name: untrainable(model) for model in proposal.members}
    return {name: ops for name, ops in found.items() if ops}


def _trouble(untrained: Mapping[str, str]) -> Iterator[Part]:
    """What will stop training after the plan is made."""
    if untrained:
        name, ops = next(iter(untrained.items()))
        others = f", and {counted(len(untrained) - 1, 'other member')}" if len(untrained) > 1 else ""
        yield f"mnx cannot train {name}{others} yet: {ops}"


def _real(proposal: Proposal, folder: RunFolder, force: bool) -> str:
    """What to call after a dry run."""
    taken = folder.plan_file.exists() and not (proposal.standing or force)
    place = f"; {folder.path} holds another run: choose another folder with -o, or replace it with --force"
    return "the same without --dry-run" + (place if taken else "")


def plan_parts(plan: Plan) -> list[Part]:
    """The clusters as a table, and what they come to."""
    rule = f"tau = {plan.tau}" if plan.clusters_asked is None else f"clusters = {plan.clusters_asked}"
    if _shared(plan) and len(plan.clusters) > 1 and plan.mothers_asked not in (None, 1):
        rule += f", mothers = {plan.mothers_asked}"
    mothers, members = sum(c.parameters for c in plan.clusters), sum(m.parameters for m in plan.members)
    return [
        f"{counted(len(plan.members), 'member')} in {counted(len(plan.clusters), 'cluster')} ({rule})",
        _clusters(plan),
        *_warning(plan, rule),
        f"mothers have {number(mothers)} parameters, members {number(members)};",
        f"{COUNTS[plan.counted].words} are counted",
        *_restored(plan),
    ]


def _restored(plan: Plan) -> list[Part]:
    """What is trained in another form than it came."""
    layers = {member.name: member.restored for member in plan.members if member.restored}
    return [restored_line(layers, plan.norm)] if layers else []


def _warning(plan: Plan, rule: str) -> list[Part]:
    """What to do where no mother is shared."""
    if _shared(plan):
        return []
    return [
        f"no two members share a mother ({rule}): this costs more than training them from scratch. A lower --tau, or "
        "--clusters with a smaller number, lets members share smaller mothers; --sweep shows what each tau gives"
    ]


def _shared(plan: Plan) -> bool:
    """Whether any mother has two members."""
    return any(len(cluster.members) > 1 for cluster in plan.clusters)


def _clusters(plan: Plan) -> Grid:
    made = grid("~network", ">parameters", ">multiply-adds", ">from\nmother", "inserted ops")
    for cluster in plan.clusters:
        made.add(cluster.name, number(cluster.parameters), large(cluster.multiply_adds), "mother", style="bold")
        for name in cluster.members:
            member = next(each for each in plan.members if each.name == name)
            made.add(
                branch(name == cluster.members[-1]) + name,
                number(member.parameters),
                large(member.multiply_adds),
                percent(member.share, 0),
                _counted(op for _, op, _ in member.inserted),
            )
    return made


def _counted(ops: Iterable[str]) -> str:
    """`3×Conv, 3×Relu`."""
    return ", ".join(f"{count}×{op}" for op, count in Counter(ops).items())
