"""How the networks in training look in a terminal: a row for each, as many as the screen takes, and the whole stage."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnx.board import AT_WORK, FAILED, PREPARING, STOPPED, TRAINED, TRAINING, WAITING, Board, Row
from mnx.cli.output import LEAST, WRAPPED, percent, seconds, shortened

ORDER: Final = (TRAINING, PREPARING, FAILED, STOPPED, WAITING, TRAINED)
"""Whose rows come first where the screen has not enough lines for all."""

STYLES: Final = {FAILED: "red", STOPPED: "yellow", TRAINED: "green", WAITING: "dim", PREPARING: "dim"}

BAR: Final = 10
"""Columns of a bar."""

NARROW: Final = 96
"""Columns below which the loss, and the score on training examples, are left out."""

BESIDE: Final = 46
"""Columns that a narrow row takes beside the name."""


def board_table(board: Board, now: float, width: int, height: int, finished: bool = True) -> RenderableType:
    """The networks of a stage, and the stage.

    Args:
        board: where they stand.
        now: the time, of the clock of the board's events.
        width: columns of the screen.
        height: lines of the screen, which are never exceeded.
        finished: whether networks that are trained have rows too.
    """
    rows = [row for row in board.rows.values() if finished or row.state != TRAINED]
    room = max(2, height - 2)
    ordered = sorted(rows, key=lambda row: ORDER.index(row.state))
    chosen = ordered[: room if len(ordered) <= room else room - 1]
    kept = [row for row in rows if row in chosen]
    narrow = width < NARROW
    made = Table.grid(padding=(0, 1))
    made.add_column(no_wrap=True)
    made.add_column(width=BAR)
    for name in ("epoch", "validation", *([] if narrow else ["loss", "accuracy"])):
        made.add_column(justify="right", no_wrap=True, min_width=5 if name == "epoch" else None)
    made.add_column(no_wrap=True, overflow="ellipsis")
    for row in kept:
        made.add_row(*_cells(row, now, width), style=STYLES.get(row.state, ""))
    parts: list[RenderableType] = [made] if kept else []
    if len(kept) < len(ordered):
        parts.append(Text(f"… and {_counts(ordered[len(kept) :])}", style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts, _stage_line(board, now))


def other_bar(what: str, done: int, total: int, width: int) -> RenderableType:
    """One line for what is done beside training."""
    made = Table.grid(padding=(0, 1))
    made.add_row(shortened(what, max(LEAST, width - 24)), ProgressBar(total, done, BAR), f"{done}/{total}")
    return made


def _cells(row: Row, now: float, width: int) -> list[RenderableType]:
    epochs = f"{_epoch(row)}/{row.limit}"
    left = row.seconds_left(now)
    word = row.state if left is None else f"< {seconds(left)} left"
    numbers = ["" if row.validation is None else f"val {percent(row.validation)}"]
    if width >= NARROW:
        numbers += ["" if row.loss is None else f"loss {row.loss:.3f}"]
        numbers += ["" if row.score is None else f"train {percent(row.score)}"]
    done = row.limit if row.state == TRAINED else row.position
    bar = ProgressBar(row.limit, done, BAR)
    return [shortened(row.network, min(WRAPPED, max(LEAST, width - BESIDE))), bar, epochs, *numbers, word]


def _epoch(row: Row) -> int:
    """The epoch that a network is in, or the last that it finished."""
    return min(row.limit, int(row.position) + (row.state == TRAINING and row.position % 1 > 0))


def _counts(rows: list[Row]) -> str:
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in ORDER if state in states)


def _stage_line(board: Board, now: float) -> Text:
    trained, total = board.count(TRAINED), len(board.rows)
    busy = board.count(*AT_WORK)
    parts = [f"{board.stage} {trained}/{total} trained"]
    parts += [f"{busy} at once"] if busy > 1 else []
    parts += [f"{board.count(FAILED)} failed"] if board.count(FAILED) else []
    left = board.seconds_left(now)
    parts += [f"< {seconds(left)} left"] if left is not None else []
    return Text(", ".join(parts), style="bold", no_wrap=True, overflow="ellipsis")
