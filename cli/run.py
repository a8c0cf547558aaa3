"""`mnx run`: all stages in one command."""

from __future__ import annotations

from pathlib import Path

import click

from mnx.cli.errors import Command
from mnx.cli.options import (
    data_options,
    force_option,
    hatching,
    hatching_options,
    json_option,
    members_argument,
    one_rule,
    planning_options,
    quiet_option,
    run_option,
    training_options,
)
from mnx.cli.output import original_lines, show, worse_than_mean_lines
from mnx.cli.progress import progress
from mnx.cli.report import report_parts
from mnx.pipeline import COMPARISONS, begin, run_all
from mnx.session import networks
from mnx.workspace import RunFolder


@click.command(cls=Command)
@members_argument
@data_options
@click.option(
    "--compare", type=click.Choice(list(COMPARISONS)), help="Train every member from scratch too, to compare."
)
@planning_options
@hatching_options
@training_options
@run_option
@force_option("Replace the run that stands in the folder.")
@json_option
@quiet_option
def command(
    members: tuple[Path, ...],
    data: str | None,
    train_limit: int | None,
    compare: str | None,
    tau: float | None,
    mothers: int | None,
    clusters: int | None,
    counted: str | None,
    norm: str | None,
    seed: int | None,
    split: str | None,
    fresh: float | None,
    noise: float | None,
    perturb: str | None,
    perturb_layers: str | None,
    recipe: dict[str, str],
    source: str | None,
    device: str,
    threads: int | None,
    jobs: int | None,
    fuse: int | None,
    curves: bool,
    run: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Do all of it: from member files to a trained, certified, scored ensemble.

    Plans, trains the mothers, hatches and trains the members, combines and scores them. What is done already is not
    done again: an interrupted run goes on with the same command and ends with the same weights.

    \b
    Example:
      mnx run members/*.onnx --data digits --compare independent
    """
    one_rule(tau, mothers, clusters)
    folder = RunFolder(run)
    how = hatching(split, fresh, noise, perturb, perturb_layers)
    with progress(quiet) as events:
        session = begin(
            members,
            folder,
            events,
            tau,
            clusters,
            seed,
            force,
            data,
            train_limit,
            recipe,
            device,
            threads,
            compare,
            counted,
            jobs,
            curves,
            source,
            norm,
            fuse,
            mothers,
        )
        document = run_all(session, compare, how)
    originals = folder.originals("members", networks(session.plan, "members"))
    files = {
        "ensemble_file": str(folder.ensemble_file),
        "original_files": {name: str(file) for name, file in originals.items()},
    }
    scores = document["members"]["networks"] if document["task"] == "numbers" else {}
    hints = worse_than_mean_lines({name: each["r2"] for name, each in scores.items()})
    parts = (*report_parts(document, folder), *hints, *original_lines(originals))
    show({"run": str(run), **files, **document}, as_json, *parts)
