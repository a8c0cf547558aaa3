"""`mnx diff`: two members side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from mnx.cli.errors import Command
from mnx.cli.options import json_option
from mnx.cli.output import Grid, Part, grid, number, percent, shape_text, show
from mnx.graphs import onnx_file
from mnx.graphs.mothers.difference import Difference, Row, Side, difference
from mnx.graphs.mothers.mother import stand_in

HOW = {
    "identity": "the identity",
    "coded": "coded, undone behind",
    "veiled": "a constant, undone beside",
    "handed": "takes over from the one before",
    "zero": "zero",
    "free": "its own weights",
    "join": "passes on",
    "section": "adds zero",
}
"""What becomes of an op that only one member has, when it is hatched."""


@click.command(cls=Command)
@click.argument("left", metavar="A.onnx", type=click.Path(path_type=Path))
@click.argument("right", metavar="B.onnx", type=click.Path(path_type=Path))
@json_option
def command(left: Path, right: Path, as_json: bool) -> None:
    """Compare two members: what they share, what each has alone, or why they have no mother.

    For every op the widths that can grow, and the kernel, in A, in B and in common. What only one of them has would be
    inserted when it is hatched: as the identity, or in a branch that begins as zero. Where nothing can be inserted the
    two part, and share no mother.

    \b
    Example:
      mnx diff members/P64.onnx members/P96.onnx
    """
    models = [onnx_file.read(path) for path in (left, right)]
    names = [model.name for model in models] if left.stem != right.stem else [str(left), str(right)]
    found = difference(*(stand_in(model.replace(name=name)) for model, name in zip(models, names, strict=True)))
    show(found.to_json(), as_json, *_parts(found))


def _parts(found: Difference) -> Iterator[Part]:
    yield _table(found)
    names = (found.left, found.right)
    if found.shares is None:
        yield f"they share no mother: {found.reason}"
    else:
        of_each = ", ".join(f"{percent(s, 0)} of {name}" for name, s in zip(names, found.shares, strict=True))
        yield f"their mother would have {number(found.mother or 0)} parameters: {of_each}"
    yield "; ".join(f"{name} has {number(count)}" for name, count in zip(names, found.parameters, strict=True))


def _table(found: Difference) -> Grid:
    common = "mother" if found.shares is not None else "common"
    made = grid(
        "=op", found.left, found.right, common, "alone, when hatched", f"?~node of {found.left}", f"?~of {found.right}"
    )
    for row in found.rows:
        made.add(
            _op(row),
            _text(row.left, row),
            _text(row.right, row),
            _text(row.common, row),
            _remark(row),
            row.left.node if row.left else "",
            row.right.node if row.right else "",
            style="bold red" if row.reason else "" if row.common else "dim",
        )
    return made


def _op(row: Row) -> str:
    prefix = "│ " * row.depth + ("└ " if row.join else "")
    ops = dict.fromkeys(side.op for side in (row.left, row.right) if side)
    return prefix + " | ".join(ops)


def _text(side: Side | None, row: Row) -> str:
    if side is None:
        return "-" if row.common is None else ""
    return " ".join(text for text in (shape_text(side.widths), shape_text(side.kernel)) if text)


def _remark(row: Row) -> str:
    if row.reason or row.common is not None:
        return row.reason
    side = row.left or row.right
    return "" if row.how == "free" and not (side and side.parameters) else HOW.get(row.how, "")
