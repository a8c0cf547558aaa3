"""`mnx zoo`: sample ensembles."""

from __future__ import annotations

from pathlib import Path

import click

from mnx.cli.errors import Command
from mnx.cli.options import force_option, json_option, seed_option
from mnx.cli.output import grid, large, number, shape_text, show
from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.trees.describe import describe
from mnx.graphs.zoo.ensembles import ENSEMBLES, ensemble


class InputShape(click.ParamType[tuple[int, ...]]):
    """A shape such as 1,8,8."""

    name = "shape"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The sizes."""
        if isinstance(value, tuple):
            return value
        sizes = str(value).split(",")
        if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
            self.fail(f"{value}: give sizes with commas between, for example 3,32,32", param, ctx)
        return tuple(int(size) for size in sizes)


@click.command(cls=Command)
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Where to write.")
@click.option(
    "--classes", type=click.IntRange(min=2), default=10, show_default=True, metavar="N", help="Of the logits."
)
@click.option(
    "--input", "shape", type=InputShape(), default="1,8,8", show_default=True, metavar="C,H,W", help="Of one example."
)
@seed_option("Of the weights.  [default: 0]")
@force_option("Replace files that stand there.")
@json_option
def command(
    name: str | None,
    output: Path | None,
    classes: int,
    shape: tuple[int, ...],
    seed: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the members of a sample ensemble; list them without a name.

    The defaults fit the digits data.

    \b
    Example:
      mnx zoo mlp --output members
    """
    if name is None:
        if output is not None:
            raise click.UsageError(f"name the ensemble to write: one of {', '.join(ENSEMBLES)}")
        _list(classes, shape, seed or 0, as_json)
        return
    models = ensemble(name, classes, shape, seed or 0)
    if output is None:
        raise click.UsageError("say where to write with --output DIR")
    files = {model.name: output / f"{model.name}.onnx" for model in models}
    standing = [str(file) for file in files.values() if file.exists()]
    if standing and not force:
        raise MnxError(f"{', '.join(standing)} exist: choose another folder, or overwrite with --force")
    for model in models:
        onnx_file.write(model, files[model.name], force)
    document = {"name": name, "files": [str(file) for file in files.values()]}
    following = f"next: mnx run {output}/*.onnx --data D"
    show(document, as_json, *(str(file) for file in files.values()), following)


def _list(classes: int, shape: tuple[int, ...], seed: int, as_json: bool) -> None:
    made = grid("ensemble", "member", ">parameters", ">multiply-adds")
    document: dict[str, object] = {}
    for name in ENSEMBLES:
        structures = [describe(model) for model in ensemble(name, classes, shape, seed)]
        document[name] = {s.name: {"parameters": s.parameter_count, "multiply_adds": s.cost} for s in structures}
        for row, structure in enumerate(structures):
            made.add(name if row == 0 else "", structure.name, number(structure.parameter_count), large(structure.cost))
    headline = f"for inputs of {shape_text(shape)} and {classes} classes"
    show(document, as_json, headline, made, "next: mnx zoo mlp --output members")
