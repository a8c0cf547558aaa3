"""`mnx score`: test scores of a run, or of any files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mnx.cli.errors import Command
from mnx.cli.options import data_options, json_option, quiet_option, run_option, seed_option
from mnx.cli.output import Grid, Part, grid, number, show
from mnx.cli.progress import progress
from mnx.cli.report import report_parts, score_cells
from mnx.ensemble import score_models
from mnx.pipeline import score_run
from mnx.session import open_session
from mnx.workspace import RunFolder


@click.command(cls=Command)
@click.argument("files", nargs=-1, metavar="[MODEL.onnx]...", type=click.Path(path_type=Path))
@data_options
@seed_option("Splits data without a test part; for files outside a run.  [default: the run's, or 0]")
@run_option
@json_option
@quiet_option
def command(
    files: tuple[Path, ...],
    data: str | None,
    train_limit: int | None,
    seed: int | None,
    run: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Score a run's networks, or any ONNX files, on test data.

    Without files: mothers, members and ensemble of the run. With files: each of them and the average of their
    predictions, with or without a run. Classes are scored by accuracy, likelihood (NLL) and calibration (ECE), labels
    by accuracy, NLL and mean average precision, numbers by R2, RMSE and MAE.

    \b
    Example:
      mnx score
      mnx score --data digits mnx-run/ensemble.onnx
    """
    if seed is not None and not files:
        raise click.UsageError("--seed is for files; a run is split by its own seed")
    folder = RunFolder(run)
    with progress(quiet) as events:
        if files:
            document = score_models(files, events, data, train_limit, seed, folder)
            parts = _file_parts(document)
        else:
            document = score_run(open_session(folder, events, data, train_limit))
            parts = report_parts(document, folder)
    show({"run": str(run), **document}, as_json, *parts)


def _file_parts(document: Mapping[str, Any]) -> list[Part]:
    return [f"{document['data']}: {number(document['test_examples'])} test examples", _table(document)]


def _table(document: Mapping[str, Any]) -> Grid:
    rows = dict(document["files"])
    if document["ensemble"]:
        rows["all, averaged"] = document["ensemble"]["averaged"]
    made = grid("~model", *(f">{name}" for name in score_cells(next(iter(rows.values())))))
    for name, found in rows.items():
        made.add(name, *score_cells(found).values(), style="bold" if name == "all, averaged" else "")
    return made
