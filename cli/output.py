"""How results look: one JSON document or tables on stdout, and numbers written alike everywhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

MARKS: Final = ">=~?"
"""What may stand before a header of a `Grid`."""

PIPED_WIDTH: Final = 160
"""Columns where stdout is no terminal and COLUMNS is not set."""

LARGE: Final = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


LEAST: Final = 12
"""Characters that a shortened cell keeps at least."""

BRANCHES: Final = "│├└┌ "
"""What `branch` and trees put before a name."""

WRAPPED: Final = 24
"""Columns that a cell which may be wrapped wants at most."""


@dataclass(frozen=True)
class Grid:
    """A table before it is laid out: headers, and rows of as many cells with a style.

    Marks before a header say how its column behaves:

        >  numbers: on the right, never wrapped
        =  never wrapped
        ~  never wrapped; where the terminal is too narrow, cells lose their beginning
        ?  left out where the terminal is still too narrow, the rightmost first
    """

    headers: tuple[str, ...]
    rows: list[tuple[tuple[str, ...], str]] = field(default_factory=list)

    def add(self, *cells: str, style: str = "") -> None:
        """Add a row; cells that are missing are empty."""
        self.rows.append((cells + ("",) * (len(self.headers) - len(cells)), style))

    def fitted(self, out: Console) -> Table:
        """The table as it fits: cells shortened, then columns left out."""
        kept = list(range(len(self.headers)))
        limits = {index: self._longest(index) for index in kept if "~" in self._marks(index)}
        while True:
            made = self._table(kept, limits)
            excess = self._wanted(out, made, kept) - out.width
            long = [index for index in kept if limits.get(index, 0) > LEAST]
            optional = [index for index in kept if "?" in self._marks(index)]
            if excess <= 0 or not (long or optional):
                return made
            if long:
                widest = max(long, key=limits.__getitem__)
                limits[widest] = max(LEAST, limits[widest] - excess)
            else:
                kept.remove(optional[-1])

    def _marks(self, index: int) -> str:
        header = self.headers[index]
        return header[: len(header) - len(header.lstrip(MARKS))]

    def _wraps(self, index: int) -> bool:
        return not set(self._marks(index)) & set(">=~")

    def _longest(self, index: int) -> int:
        return max((cell_len(line) for cells, _ in self.rows for line in cells[index].split("\n")), default=0)

    def _wanted(self, out: Console, made: Table, kept: Sequence[int]) -> int:
        """How wide the table is where cells that may be wrapped are, though never to less than `WRAPPED`."""
        whole = Measurement.get(out, out.options.update(width=10**6), made).maximum
        return whole - sum(max(0, self._longest(index) - WRAPPED) for index in kept if self._wraps(index))

    def _table(self, kept: Sequence[int], limits: Mapping[int, int]) -> Table:
        made = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1), collapse_padding=True, pad_edge=False)
        names = {index: self.headers[index].lstrip(MARKS) for index in kept}
        lines = max(name.count("\n") for name in names.values())
        for index, name in names.items():
            made.add_column(
                "\n" * (lines - name.count("\n")) + name,
                justify="right" if ">" in self._marks(index) else "left",
                no_wrap=not self._wraps(index),
                overflow="fold",
            )
        for cells, style in self.rows:
            made.add_row(*(_shortened(cells[index], limits.get(index)) for index in kept), style=style)
        return made


def _shortened(cell: str, limit: int | None) -> str:
    return cell if limit is None else shortened(cell, limit)


def shortened(text: str, limit: int = WRAPPED) -> str:
    """A text of at most `limit` characters: it loses its beginning, but not the branch that stands before it."""
    if len(text) <= limit:
        return text
    name = text.lstrip(BRANCHES)
    front = text[: len(text) - len(name)] + "…"
    return front + name[len(name) - limit + len(front) :]


Part: TypeAlias = "str | Text | Grid"
"""What a result is made of: lines and tables."""


def show(document: Mapping[str, Any], as_json: bool, *parts: Part) -> None:
    """Print the document with --json, else the parts, one below the other, tables set off by empty lines."""
    if as_json:
        click.echo(json.dumps(document, indent=1))
        return
    out = console()
    above: Part | None = None
    for part in parts:
        if above is not None and (isinstance(part, Grid) or isinstance(above, Grid)):
            out.print()
        out.print(part.fitted(out) if isinstance(part, Grid) else part)
        above = part


def console() -> Console:
    """Standard output, as wide as its terminal."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPED_WIDTH if piped else None, highlight=False, markup=False, emoji=False, soft_wrap=False)


def grid(*headers: str) -> Grid:
    """An empty table."""
    return Grid(headers)


def number(value: float) -> str:
    """12345 as '12,345'."""
    return f"{value:,.0f}"


def large(value: float) -> str:
    """2846146560 as '2.85 G'."""
    for size, letter in LARGE:
        if value >= 0.9995 * size:
            return f"{value / size:#.3g}".rstrip(".") + f" {letter}"
    return f"{value:.0f}"


def small(value: float) -> str:
    """0.0000123 as '1.2e-05', 0 as '0'."""
    return f"{value:.1e}" if value else "0"


def score_name(task: str) -> str:
    """What people call the score that decides a task."""
    return "R2" if task == "numbers" else "accuracy"


def percent(share: float, digits: int = 1) -> str:
    """0.9634 as '96.3 %'."""
    return f"{100 * share:.{digits}f} %"


def seconds(value: float) -> str:
    """Seconds with a digit or two, minutes and hours where there are some."""
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def branch(last: bool) -> str:
    """What stands before a row that belongs to the one above."""
    return "└ " if last else "├ "


def shape_text(shape: Sequence[int | str]) -> str:
    """(8, 4, 4) as '8x4x4'."""
    return "x".join(map(str, shape))


def restored_line(layers: Mapping[str, int], norm: str) -> str:
    """In which members normalisation is put back for training, and how to leave it; `layers` says behind how many."""
    where = ", ".join(f"{count} of {name}" for name, count in layers.items())
    return (
        f"BatchNormalization is put back for training behind layers that lost it ({where}), and folded at the end "
        f"(--norm {norm}; --norm keep trains members as they came)"
    )


def counted(count: int, what: str) -> str:
    """`1 member`, `2 members`."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def worse_than_mean_lines(r2: Mapping[str, float]) -> list[str]:
    """A line for the networks whose R2 is below 0, with what helps."""
    bad = ", ".join(name for name, score in r2.items() if score < 0)
    what = (
        f"R2 below 0 ({bad}): worse than the mean of all targets. Targets, and inputs of floats, are taken as they "
        "are: standardise them where they are far from the size of 1"
    )
    return [what] if bad else []


def original_lines(files: Mapping[str, Path]) -> list[str]:
    """A line for the trained networks in their users' float types, where there are any."""
    return [f"in their own float types: {', '.join(map(str, files.values()))}"] if files else []
