"""`mnx grow`: grow one model, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from mnx.cli.certificates import certificate_parts
from mnx.cli.errors import Command
from mnx.cli.options import force_option, json_option, quiet_option, seed_option, style_options
from mnx.cli.output import Grid, Part, counted, grid, large, number, show
from mnx.cli.progress import progress
from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.growth.growing import SPLITS, Style
from mnx.graphs.growth.request import request
from mnx.growing import Growth, grow, planned
from mnx.verification import keep, require_free
from mnx.workspace import file_hash


@click.command(cls=Command)
@click.argument("model", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE.onnx", type=click.Path(path_type=Path), help="Where to write.")
@click.option(
    "--width",
    "widths",
    multiple=True,
    metavar="LAYER=N",
    help="Channels of a layer or channel group, or xF for F times as many; all=xF for every layer. May be repeated.",
)
@click.option(
    "--depth", "depths", multiple=True, metavar="UNIT+N", help="Insert N copies behind a layer, block or module."
)
@click.option("--kernel", "kernels", multiple=True, metavar="LAYER=K", help="Kernel size of a convolution: 5, or 5x3.")
@click.option("--like", metavar="OTHER.onnx", type=click.Path(path_type=Path), help="Grow to this architecture.")
@click.option("--plan", "only_plan", is_flag=True, help="Show the steps and write nothing.")
@click.option(
    "--data",
    metavar="DATA",
    help="What inserted normalisation is calibrated on: digits, a .npz file or a folder.  [default: random inputs]",
)
@style_options
@click.option(
    "--certificate",
    metavar="FILE.json",
    type=click.Path(path_type=Path),
    help="Where to write the certificate; never without the grown model.",
)
@seed_option("Of all that is drawn.  [default: 0]")
@force_option("Overwrite the file that stands there.")
@json_option
@quiet_option
def command(
    model: Path,
    output: Path | None,
    widths: tuple[str, ...],
    depths: tuple[str, ...],
    kernels: tuple[str, ...],
    like: Path | None,
    only_plan: bool,
    data: str | None,
    split: str | None,
    fresh: float | None,
    certificate: Path | None,
    seed: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Grow a model to more width, depth or larger kernels without changing what it computes.

    Layers go by their node's name, their module's path (layer1.0.conv1) or what alone begins with it; channel groups
    as 'mnx show' prints them (g3). Channels that are tied grow together. Kernels grow first, then depth, then widths.
    The certificate is the measured proof; where it fails, nothing is written and the exit code is 3.

    \b
    Example:
      mnx grow members/P64.onnx --width all=x1.5 --depth fc1+2 --plan
      mnx grow members/P64.onnx -o big.onnx --width fc1=100
    """
    if output is None and not only_plan:
        raise click.UsageError("say where to write with -o FILE.onnx, or look at the steps with --plan")
    if not (widths or depths or kernels or like):
        raise click.UsageError("say what is to grow: --width, --depth, --kernel or --like")
    if output is not None and output.exists() and not (force or only_plan):
        raise MnxError(f"{output} exists: choose another name, or overwrite it with --force")
    if certificate is not None:
        require_free(certificate, force)
    wanted = request(widths, depths, kernels, None if like is None else onnx_file.read(like))
    growth = planned(model, wanted)
    document = {"model": str(model), "output": str(output) if output else None, **growth.to_json()}
    sizes = _sizes(growth)
    if only_plan or output is None:
        headline = f"{growth.before.name} grows in {counted(len(growth.steps), 'step')}"
        show({**document, "certificate": None}, as_json, headline, _table(growth), *sizes)
        return
    with progress(quiet) as events:
        events.tick("hatch", network=output.stem, done=1, total=1)
        hatched = grow(growth, output.stem, data, Style(seed or 0, split or SPLITS[0], fresh or 0.0))
    onnx_file.write(hatched.model, output, force)
    proof = replace(hatched.certificate, sha256={"mother": file_hash(model), "hatched": file_hash(output)})
    if certificate is not None:
        keep(proof, certificate, force)
    warnings = _warnings(growth, data)
    show(
        {**document, "certificate": proof.to_json(), "warnings": warnings},
        as_json,
        f"{growth.before.name} has grown in {counted(len(growth.steps), 'step')}: {output}",
        *sizes,
        *certificate_parts({output.stem: proof}),
        *warnings,
    )


def _table(growth: Growth) -> Grid:
    made = grid(">", "step")
    for place, step in enumerate(growth.steps, start=1):
        made.add(str(place), step.text)
    return made


def _sizes(growth: Growth) -> Iterator[Part]:
    before, after = growth.before, growth.after
    factors = [
        f"{new / old:.2f}x" if old else "new"
        for old, new in ((before.parameter_count, after.parameter_count), (before.cost, after.cost))
    ]
    yield (
        f"{number(before.parameter_count)} parameters become {number(after.parameter_count)} ({factors[0]}), "
        f"{large(before.cost)} multiply-adds {large(after.cost)} ({factors[1]})"
    )


def _warnings(growth: Growth, data: str | None) -> list[str]:
    count = len(growth.calibrated)
    if data is not None or not count:
        return []
    norms = counted(count, "inserted BatchNormalization")
    return [
        f"warning: {norms} calibrated on random inputs: in eval mode the function is kept on any input, but with batch "
        "statistics, as in training, real data will change it: give --data"
    ]
