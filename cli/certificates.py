"""How the checks of certificates look, for the commands that show some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mnx.cli.output import Grid, Part, grid, number, percent, small
from mnx.graphs.certificate import EVAL, LOGITS, Certificate, Check
from mnx.graphs.growth.perturb import Perturbation

COLUMNS = ("inputs", "?>n", "mode", ">max|d|", ">max|y|", ">relative", ">tolerance", ">same\nclass", "")
WEAK = 0.01
"""Outputs that are all smaller prove little by an absolute tolerance."""
MODES = "max|d|: largest difference; max|y|: largest output; batch: normalised by the batch, as in training"


DRIFT = "drift: by statistics of data that inserted normalisation was not calibrated on; not binding"


def certificate_parts(certificates: Mapping[str, Certificate], first: str = "") -> Iterator[Part]:
    """The table of certificates of growth, and what its words mean."""
    yield table(certificates, first)
    if any(check.mode != EVAL for each in certificates.values() for check in each.checks):
        yield MODES
    scale = max((check.difference.scale for each in certificates.values() for check in each.checks), default=1.0)
    yield from weakness(scale, "compare trained weights")
    if drifts(certificates.values()):
        yield DRIFT
    for text in dict.fromkeys(Perturbation(**each.perturbed).text for each in certificates.values() if each.perturbed):
        yield "perturbed behind these checks, so that what is written differs from its mother:"
        yield text


def table(certificates: Mapping[str, Certificate], first: str = "") -> Grid:
    """The checks of several certificates, each with its name in a column called `first`, or of one without."""
    made = grid(*([f"~{first}"] if first else []), *COLUMNS)
    for name, certificate in certificates.items():
        for row, check in enumerate(certificate.checks):
            cells = [name if row == 0 else ""] if first else []
            made.add(*cells, *_cells(check), style="" if check.binding else "dim")
    return made


def _cells(check: Check) -> tuple[str, ...]:
    apart = check.difference
    mode = "eval" if check.mode == EVAL else "batch"
    return (
        check.inputs,
        number(check.examples),
        mode if check.outputs == LOGITS else f"{mode} {check.outputs}",
        small(apart.largest),
        small(apart.scale),
        small(apart.relative),
        small(apart.tolerance),
        "" if check.same_class is None else _share(check.same_class),
        "equal" if apart.passed else "differs" if check.binding else "drift",
    )


def _share(value: float) -> str:
    """Never 100 % where one example is not of the same class."""
    return "100 %" if value == 1 else percent(min(value, 0.999))


def weakness(scale: float, cure: str) -> Iterator[str]:
    """A warning, and what to do, where outputs are so small that the tolerance proves little."""
    if scale < WEAK:
        yield f"no output is larger than {small(scale)}: the tolerance says little; {cure}"


def drifts(certificates: Iterable[Certificate]) -> bool:
    """Whether a row says drift."""
    return any(not (check.binding or check.difference.passed) for each in certificates for check in each.checks)
