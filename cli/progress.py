"""Progress on stderr: a bar in a terminal, plain lines elsewhere; both only listen to a run's events."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from mnx.board import AT_WORK, WAITING, Board
from mnx.cli.board import board_table, other_bar
from mnx.cli.output import counted, number, percent, restored_line, score_name, seconds, small
from mnx.events import Event, Events


@contextmanager
def progress(quiet: bool) -> Iterator[Events]:
    """Events whose listener shows them on stderr until the block ends; nobody listens with `quiet`."""
    if quiet:
        yield Events()
    elif sys.stderr.isatty():
        with Bar() as bar:
            yield Events(listeners=[bar])
    else:
        yield Events(listeners=[print_line])


def print_line(event: Event) -> None:
    """One line for every epoch and every finished network."""
    text = epoch_line(event) if event["event"] == "epoch" else finished_line(event)
    if text:
        click.echo(text, err=True)


def epoch_line(event: Event) -> str:
    """What one epoch gave."""
    score = f"{score_name(event['task'])} {percent(event['train_score'])}"
    return (
        f"{event['stage']} {event['network']}: epoch {event['epoch']}, loss {event['loss']:.4f}, {score}, "
        f"validation {percent(event['validation_score'])}, {seconds(event['seconds'])}"
    )


def finished_line(event: Event) -> str:
    """A line for what is finished with this event; '' where nothing is."""
    match event["event"]:
        case "forecast":
            expected = f"expected cost: {percent(event['share'], 0)} of the multiply-adds of training from scratch"
            return expected if event["pays"] else f"{expected}; mothering cannot pay here, 'mnx mother' says more"
        case "cluster":
            return f"{event['network']}: {number(event['parameters'])} parameters for {', '.join(event['members'])}"
        case "restored":
            return restored_line(event["layers"], event["norm"])
        case "trained":
            return (
                f"{event['stage']} {event['network']}: trained, {counted(event['epochs'], 'epoch')}, "
                f"validation {percent(event['validation_score'])}, {seconds(event['seconds'])}"
            )
        case "failed" if event["finishing"]:
            finishing = ", ".join(event["finishing"])
            return (
                f"{event['stage']} {event['network']}: failed, {event['reason']}; {finishing}: to the end of an epoch"
            )
        case "diverged":
            return f"{event['stage']} {event['network']}: {event['reason']}; tried again with lr {event['lr']:.3g}"
        case "left in float32":
            return f"{event['stage']} {event['network']}: not written in its own float type, {event['reason']}"
        case "hatched":
            return f"members {event['network']}: hatched, largest relative difference {small(event['relative'])}"
        case "combined":
            snapshots = event["networks"] - event["members"]
            more = f" and {counted(snapshots, 'snapshot')}" if snapshots else ""
            return f"{event['members']} {event['stage']}{more} combined: {event['file']}"
        case _:
            return ""


class Bar:
    """The networks in training, or a bar for what else is going on; above it a line for everything that is finished."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._board, self._other = Board(), ("", 0, 1)
        self._live = Live(console=self._console, get_renderable=self.shown, refresh_per_second=4, transient=True)

    def __enter__(self) -> Bar:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event["event"]:
            case "start" | "stage" | "stopped":
                self._other = ("", 0, 1)
            case "read" | "hatch" | "score" | "verify" as kind:
                self._other = (f"{kind} {event['network']}", event["done"] - 1, event["total"])
        self._board.hear(event, time.time())
        line = finished_line(event)
        if line:
            mark = "[red]✗[/red]" if event["event"] in ("failed", "diverged") else "[green]✓[/green]"
            self._console.print(f"{mark} {escape(line)}", highlight=False)

    def shown(self) -> RenderableType:
        """What stands below the finished lines now."""
        what, done, total = self._other
        if what:
            return other_bar(what, done, total, self._console.width)
        if not self._board.count(*AT_WORK, WAITING):
            return Text("")
        return board_table(self._board, time.time(), self._console.width, self._console.height, finished=False)
