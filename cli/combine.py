"""`mnx combine`: write the ensemble graph of a run."""

from __future__ import annotations

from pathlib import Path

import click

from mnx.cli.errors import Command
from mnx.cli.options import json_option, quiet_option, run_option
from mnx.cli.output import counted, show
from mnx.cli.progress import progress
from mnx.ensemble import combine, hashes
from mnx.pipeline import next_step
from mnx.session import networks, open_session
from mnx.workspace import RunFolder


@click.command(cls=Command)
@run_option
@json_option
@quiet_option
def command(run: Path, as_json: bool, quiet: bool) -> None:
    """Write one ensemble graph of all trained members.

    It takes the members' inputs and gives the average of their probabilities, or of the numbers that they predict.
    Where the recipe has snapshots, a member is the average of all its networks. The ensemble's metadata say under
    mnx.scaling how raw data become the input (mnx.scaling.NAME for each of several), under mnx.task what is predicted.

    \b
    Example:
      mnx combine
    """
    folder = RunFolder(run)
    with progress(quiet) as events:
        session = open_session(folder, events)
        target = combine(session)
    names = networks(session.plan, "members")
    snapshots = len(hashes(folder, session.plan, "members")) - len(names)
    size, following = target.stat().st_size, next_step(folder)
    document = {
        "run": str(run),
        "file": str(target),
        "members": names,
        "networks": len(names) + snapshots,
        "bytes": size,
        "next": following,
    }
    more = f" and {counted(snapshots, 'snapshot')} of them" if snapshots else ""
    show(
        document,
        as_json,
        f"{target} averages {counted(len(names), 'member')}{more} ({size / 1e6:.1f} MB)",
        f"next: {following}",
    )
