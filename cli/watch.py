"""`mnx watch`: follow a run from another terminal."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from mnx.cli.board import board_table
from mnx.cli.errors import Command
from mnx.cli.options import json_option
from mnx.cli.output import console
from mnx.cli.progress import print_line
from mnx.pipeline import DEFAULT_RUN
from mnx.watching import FAILED, INTERRUPTED, KILLED, NOT_BEGUN, RUNNING, Watched, follow
from mnx.workspace import RunFolder

ENDS = {
    FAILED: "a network failed, and nobody works in {run}",
    INTERRUPTED: "{run} was interrupted",
    KILLED: "{run} was killed: whole epochs are kept",
    NOT_BEGUN: "{run} has not begun",
    RUNNING: "{run} is running",
}


@click.command(cls=Command)
@click.argument("folder", metavar="[RUN]", default=DEFAULT_RUN, type=click.Path(file_okay=False, path_type=Path))
@click.option("--once", is_flag=True, help="Show the present state and leave.")
@json_option
def command(folder: Path, once: bool, as_json: bool) -> None:
    """Follow a run from another terminal, until nobody works in it any more.

    Shows every network in training, and how to go on where the run was killed. Waits for a run that has not begun;
    changes nothing. With --json, the state at the end, or with --once the present one, is one document.

    \b
    Example:
      mnx watch mnx-run --once
    """
    watched = Watched(RunFolder(folder))
    if once:
        watched.look()
    else:
        _follow(watched, as_json)
    if as_json:
        click.echo(json.dumps(watched.to_json(), indent=1))
        return
    out = console()
    if watched.board.rows:
        out.print(board_table(watched.board, time.time(), out.width, out.height if out.is_terminal else 1000))
    out.print(ENDS.get(watched.state, f"{{run}} is {watched.state}").format(run=folder))
    following = watched.next()
    if following:
        out.print(f"next: {following}")


def _follow(watched: Watched, as_json: bool) -> None:
    """Show a run while it is followed: a display in a terminal, a line for every record elsewhere."""
    shown = Console(stderr=True, highlight=False)
    live = sys.stderr.isatty()

    def look() -> RenderableType:
        if not watched.board.rows:
            return Text(
                f"waiting for {watched.run.path} to begin" if watched.state == NOT_BEGUN else "nobody trains yet"
            )
        return board_table(watched.board, time.time(), shown.width, shown.height)

    with Live(console=shown, get_renderable=look, refresh_per_second=4, transient=True) if live else nullcontext():
        for records in follow(watched):
            for record in records if not (live or as_json) else ():
                print_line(record)
