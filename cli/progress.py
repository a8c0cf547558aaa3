"""Progress on stderr: a bar in a terminal, plain lines elsewhere; both only listen to a run's events."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mnx.cli.output import counted, number, percent, score_name, seconds, small
from mnx.events import Event, Events

EVERY: Final = 0.1
"""Seconds between two looks at the steps of training, which come by the thousand."""


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
        case "trained":
            return (
                f"{event['stage']} {event['network']}: trained, {counted(event['epochs'], 'epoch')}, "
                f"validation {percent(event['validation_score'])}, {seconds(event['seconds'])}"
            )
        case "left in float32":
            return f"{event['stage']} {event['network']}: not written in its own float type, {event['reason']}"
        case "hatched":
            return f"members {event['network']}: hatched, largest relative difference {small(event['relative'])}"
        case "combined":
            return f"{event['members']} {event['stage']} combined: {event['file']}"
        case _:
            return ""


class Bar:
    """A bar for the network that is being trained, above it a line for everything that is finished."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[state]}", markup=False),
            console=console or Console(stderr=True, highlight=False),
            transient=True,
        )
        self._task: TaskID | None = None
        self._limit = 1
        self._begun: tuple[float, float] | None = None
        self._shown = 0.0

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event["event"]:
            case "start":
                self._limit, self._begun = event["limit"], None
                place = f"{event['stage']} {event['network']} ({event['number']}/{event['total']})"
                self._open(place, event["limit"], "preparing")
            case "step":
                self._step(event)
            case "read" | "hatch" | "score" | "verify" as kind:
                self._open(f"{kind} {event['network']}", event["total"], "", event["done"] - 1)
        line = finished_line(event)
        if line:
            self._progress.console.print(f"[green]✓[/green] {escape(line)}", highlight=False)

    def _open(self, description: str, total: int, state: str, done: int = 0) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(description, total=total, completed=done, state=state)

    def _step(self, event: Event) -> None:
        now = time.monotonic()
        position = event["epoch"] - 1 + event["step"] / event["steps"]
        self._begun = self._begun or (now, position)
        if self._task is None or now - self._shown < EVERY:
            return
        self._shown = now
        self._progress.update(self._task, completed=position, state=self._state(event, now, position))

    def _state(self, event: Event, now: float, position: float) -> str:
        start, first = self._begun or (now, position)
        left = (now - start) / (position - first) * (self._limit - position) if position > first else None
        parts: dict[str, Any] = {
            "epoch": f"{event['epoch']}/{self._limit}",
            "loss": f"{event['loss']:.3f}",
            score_name(event["task"]): percent(event["accuracy"]),
        }
        text = "  ".join(f"{name} {value}" for name, value in parts.items())
        return text if left is None else f"{text}  < {seconds(left)} left"
