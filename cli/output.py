"""How results look: one JSON document or tables on stdout, and numbers written alike everywhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import click
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

PIPED_WIDTH: Final = 160
"""Columns where stdout is no terminal and COLUMNS is not set."""

LARGE: Final = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Grid:
    """A table before it is laid out: headers, and rows of as many cells with a style.

    A header that begins with '>' is of numbers: on the right, never wrapped. One that begins with '?' is left out where
    the terminal is too narrow for all, the rightmost first.
    """

    headers: tuple[str, ...]
    rows: list[tuple[tuple[str, ...], str]] = field(default_factory=list)

    def add(self, *cells: str, style: str = "") -> None:
        """Add a row; cells that are missing are empty."""
        self.rows.append((cells + ("",) * (len(self.headers) - len(cells)), style))

    def fitted(self, out: Console) -> Table:
        """The table with as many columns as fit."""
        kept = list(range(len(self.headers)))
        while True:
            made = self._table(kept)
            optional = [index for index in kept if self.headers[index].startswith("?")]
            if not optional or Measurement.get(out, out.options.update(width=10**6), made).maximum <= out.width:
                return made
            kept.remove(optional[-1])

    def _table(self, kept: Sequence[int]) -> Table:
        made = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1), collapse_padding=True, pad_edge=False)
        lines = max(header.count("\n") for header in self.headers)
        for index in kept:
            header = self.headers[index].removeprefix("?")
            right = header.startswith(">")
            made.add_column(
                "\n" * (lines - header.count("\n")) + header.removeprefix(">"),
                justify="right" if right else "left",
                no_wrap=right,
                overflow="fold",
            )
        for cells, style in self.rows:
            made.add_row(*(cells[index] for index in kept), style=style)
        return made


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


def shape_text(shape: tuple[int, ...] | list[int]) -> str:
    """(8, 4, 4) as '8x4x4'."""
    return "x".join(map(str, shape))


def counted(count: int, what: str) -> str:
    """`1 member`, `2 members`."""
    return f"{count} {what}" + ("" if count == 1 else "s")
