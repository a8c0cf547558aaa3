"""`mnx show`: the structure of one model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from rich.text import Text

from mnx.cli.errors import Command
from mnx.cli.options import json_option
from mnx.cli.output import Grid, grid, large, number, shape_text, show
from mnx.graphs import onnx_file
from mnx.graphs.model import Port
from mnx.graphs.proto import inputs_before_entry
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op, Parallel, Series, Structure, Tangle, output_sizes
from mnx.graphs.trees.structure_json import axes_text, kernel_of, structure_json, tied_axes, trained_count


@click.command(cls=Command)
@click.argument("model", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@json_option
def command(model: Path, as_json: bool) -> None:
    """Print a model's structure: ops, widths, kernels, costs, channel groups.

    Axes that must have the same width share a channel group: g0, g1, ... A width may also be a product (g3*16, behind
    a Flatten) or a sum (g1+g2, behind a Concat). Changes are what reading the file had to change.

    \b
    Example:
      mnx show members/P64.onnx
    """
    read = onnx_file.read(model)
    structure, given = describe(read), inputs_before_entry(read)
    document = {
        **structure_json(structure),
        "given": [{"name": port.name, "dtype": port.dtype, "shape": list(port.shape)} for port in given],
        "entry": [node.op for node in read.entry],
        "head": [node.op for node in read.head],
        "metadata": dict(read.metadata),
        "changes": list(read.changes),
    }
    ports = ", ".join(map(_port_text, given, read.inputs))
    headline = (
        f"{read.name}: {number(structure.parameter_count)} trained parameters, {large(structure.cost)} multiply-adds; "
        f"{'input' if len(read.inputs) == 1 else 'inputs'} {ports}"
    )
    changes = [Text(f"changed while reading: {change}") for change in read.changes]
    head = [Text(f"behind the logits: {', '.join(node.op for node in read.head)}")] if read.head else []
    if read.entry:
        head.append(
            Text(f"in front of it: {', '.join(node.op for node in read.entry)} of {shape_text(given[0].shape)}")
        )
    show(document, as_json, Text(headline), _tree(structure), *head, _groups(structure), *changes)


def _port_text(given: Port, port: Port) -> str:
    """An input as the user gives it, and how the network reads it where that differs."""
    text = f"'{given.name}' {given.dtype} {shape_text(given.shape)}"
    return text if given.shape == port.shape else f"{text}, read as {shape_text(port.shape)}"


def _tree(structure: Structure) -> Grid:
    made = grid("=op", "~node", "=width", ">output", ">kernel", ">para-\nmeters", "?>mult-\nadds")
    for prefix, op, label in _lines(structure.series, ""):
        if op is None:
            made.add(prefix + label, style="dim")
            continue
        count, cost = trained_count(op), op.rule.cost(op.site)
        made.add(
            prefix + op.op,
            op.name,
            " ".join(axis for axis in axes_text(op) if "g" in axis),
            shape_text(output_sizes(op)),
            shape_text(kernel_of(op)),
            number(count) if count else "",
            large(cost) if cost else "",
        )
    return made


def _lines(series: Series, prefix: str) -> Iterator[tuple[str, Op | None, str]]:
    """Every line of the tree: what stands before it, its op, or the label of a branch or tangle."""
    for unit in series:
        if isinstance(unit, Parallel):
            for index, branch in enumerate(unit.branches):
                yield prefix, None, ("┌ " if index == 0 else "├ ") + ("branch" if branch else "shortcut")
                yield from _lines(branch, prefix + "│ ")
            yield prefix + "└ ", unit.join, ""
        elif isinstance(unit, Tangle):
            yield prefix, None, "┌ tangle: no tree, its widths stay"
            yield from ((prefix + "│ ", op, "") for op in unit.ops[:-1])
            yield prefix + "└ ", unit.ops[-1], ""
        else:
            yield prefix, unit, ""


def _groups(structure: Structure) -> Grid:
    made = grid("=group", ">width", "ties")
    for group, width in structure.groups.items():
        made.add(f"g{group}", number(width), ", ".join(_ties(structure, group)))
    return made


def _ties(structure: Structure, group: int) -> list[str]:
    """The axes that a group ties; a node's per-channel parameters together as 'node.*'."""
    tied = dict.fromkeys(tied_axes(structure, group))
    for op in structure.ops():
        own = [f"{p.name}[0]" for p in op.parameters if len(p.shape) == 1]
        if len(own) > 1 and all(name in tied for name in own):
            tied = dict.fromkeys(f"{op.name}.*" if name in own else name for name in tied)
    return list(tied)
