"""`mnx verify`: whether two models compute one function."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from mnx.cli.certificates import MODES, drifts, table, weakness
from mnx.cli.errors import NOT_PRESERVED, Command
from mnx.cli.options import force_option, json_option, quiet_option, seed_option
from mnx.cli.output import Part, counted, show
from mnx.cli.progress import progress
from mnx.graphs.certificate import LOGITS, Certificate
from mnx.graphs.run import PRECISIONS
from mnx.verification import Verified, keep, require_free, verify


@click.command(cls=Command)
@click.argument("left", metavar="A.onnx", type=click.Path(path_type=Path))
@click.argument("right", metavar="B.onnx", type=click.Path(path_type=Path))
@click.option("--data", metavar="DATA", help="Compare on real examples too: digits, a .npz file or a folder.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    metavar="T",
    help="Allow differences of T times the largest output of A, or T where that is below 1.  "
    "[default: 1e-5, in float64 1e-12]",
)
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    metavar="N",
    default=64,
    show_default=True,
    help="Random examples, and real ones of each part of the data.",
)
@seed_option("Of the inputs that are drawn.  [default: 0]")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Compute both in this; float64 is slow, and shows rounding, also that of weights that an exporter folded.",
)
@click.option("--logits", "only_logits", is_flag=True, help="Compare class scores alone, not what is made of them.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the certificate, if they are equal.",
)
@force_option("Overwrite the certificate.")
@json_option
@quiet_option
def command(
    left: Path,
    right: Path,
    data: str | None,
    tolerance: float | None,
    examples: int,
    seed: int | None,
    precision: str,
    only_logits: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure whether two models compute the same function.

    Both run on random inputs, on extreme ones, and on real ones with --data: class scores, and what each gives its
    user. They may come from different exporters and have other layouts, opsets and names. The exit code is 0 where
    they are equal, 3 where they are not, 1 where they cannot be compared.

    Where a model has BatchNormalization, the two are compared twice: in eval mode, as a trained network is used, and
    with batch statistics, as it is trained, where every BatchNormalization uses mean and variance of the examples at
    hand. Equal there means that they train alike. Where one of them has fewer, since its exporter folded some into
    weights, that second difference is shown as drift and does not count.

    \b
    Example:
      mnx verify mnx-run/mothers/cluster1/trained.onnx mnx-run/members/P64/hatched.onnx
    """
    if output is not None:
        require_free(output, force)
    with progress(quiet) as events:
        found = verify(left, right, events, data, examples, seed or 0, tolerance, precision, not only_logits)
    if output is not None and found.certificate.passed:
        keep(found.certificate, output, force)
    document = found.certificate.to_json()
    if not found.certificate.passed:
        document |= {"error": found.reason, "exit_code": NOT_PRESERVED}
    show(document, as_json, *_parts(found, output))
    if not found.certificate.passed:
        click.echo(f"Error: {found.reason}", err=True)
        click.get_current_context().exit(NOT_PRESERVED)


def _parts(found: Verified, output: Path | None) -> Iterator[Part]:
    certificate = found.certificate
    yield table({"": certificate})
    yield MODES
    if drifts([certificate]):
        yield "drift: by batch statistics, where the two do not have as many normalisations; not binding"
    yield from weakness(_scale(certificate), "give a smaller --tolerance")
    if certificate.passed:
        binding = [check for check in certificate.checks if check.binding]
        yield f"{certificate.member} computes the function of {certificate.mother}: {counted(len(binding), 'check')}"
    if certificate.passed and output is not None:
        yield f"wrote {output}"


def _scale(certificate: Certificate) -> float:
    return max(check.difference.scale for check in certificate.checks if check.outputs == LOGITS and check.binding)
