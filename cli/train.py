"""`mnx train`: train the next stage of a run."""

from __future__ import annotations

from pathlib import Path

import click

from mnx.cli.errors import Command
from mnx.cli.options import (
    data_options,
    force_option,
    json_option,
    quiet_option,
    run_option,
    training_options,
)
from mnx.cli.output import Grid, grid, large, original_lines, percent, score_name, seconds, show, worse_than_mean_lines
from mnx.cli.progress import progress
from mnx.pipeline import next_step, open_training, train_next
from mnx.session import networks
from mnx.workspace import RunFolder, Training


@click.command(cls=Command)
@data_options
@training_options
@run_option
@force_option("Train this stage again from its start, by other keys of the recipe if some are given.")
@json_option
@quiet_option
def command(
    data: str | None,
    train_limit: int | None,
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
    """Train the mothers, or the members once they are hatched.

    A checkpoint is written after every epoch: an interrupted training goes on with the same command and ends with the
    same weights. Data and recipe are kept with the run and need not be said again.

    \b
    Example:
      mnx train --data digits --epochs 20
    """
    folder = RunFolder(run)
    with progress(quiet) as events:
        session = open_training(
            folder, events, data, train_limit, recipe, device, threads, force, jobs, curves, source, fuse
        )
        stage, trained = train_next(session)
    following = next_step(folder)
    found = {name: folder.training(stage, name) for name in networks(session.plan, stage)}
    done = {name: training for name, training in found.items() if training is not None}
    originals = folder.originals(stage, list(done))
    document = {
        "run": str(run),
        "stage": stage,
        "trained": trained,
        "networks": {name: _row(training) for name, training in done.items()},
        "original_files": {name: str(file) for name, file in originals.items()},
        "next": following,
    }
    headline = (
        f"trained {len(trained)} of {len(found)} {stage}" if trained else f"nothing to do: all {stage} are trained"
    )
    show(
        document,
        as_json,
        headline,
        _table(stage, done, session.dataset.kind),
        *worse_than_mean_lines(_r2(done, session.dataset.kind)),
        *original_lines(originals),
        f"next: {following}",
    )


def _r2(done: dict[str, Training], task: str) -> dict[str, float]:
    """The networks' validation scores where they are R2."""
    return {name: training.epochs[-1].validation_score for name, training in done.items() if task == "numbers"}


def _row(training: Training) -> dict[str, float]:
    last = training.epochs[-1]
    return {
        "epochs": len(training.epochs),
        "snapshots": len(training.snapshots),
        "samples": training.samples,
        "seconds": training.seconds,
        "multiply_adds": training.multiply_adds,
        "validation_score": last.validation_score,
        "validation_loss": last.validation_loss,
    }


def _table(stage: str, done: dict[str, Training], task: str) -> Grid:
    score = f">validation\n{score_name(task)}"
    snapshots = any(training.snapshots for training in done.values())
    headers = [">epochs", *(["?>snapshots"] if snapshots else []), ">time", ">multiply-adds", score]
    made = grid(f"~{stage}", *headers, "?>validation\nloss")
    for name, training in done.items():
        last = training.epochs[-1]
        made.add(
            name,
            str(len(training.epochs)),
            *([str(len(training.snapshots))] if snapshots else []),
            seconds(training.seconds),
            large(training.multiply_adds),
            percent(last.validation_score),
            f"{last.validation_loss:.4f}",
        )
    return made
