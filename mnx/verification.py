"""Two model files compared: read, probed with random, extreme and real inputs, and certified."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from mnx.data import dataset
from mnx.data.examples import named_batches
from mnx.errors import MnxError
from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.certificate import Certificate
from mnx.graphs.equivalence import equivalence, first_difference
from mnx.graphs.errors import GraphError
from mnx.graphs.files import write_text
from mnx.graphs.interface import taking
from mnx.graphs.model import Model
from mnx.graphs.probes import EXAMPLES, Probe
from mnx.workspace import file_hash


@dataclass(frozen=True)
class Verified:
    """Two models compared: the certificate, and in words what differs first, '' where nothing does."""

    certificate: Certificate
    reason: str = ""


def verify(
    left: Path,
    right: Path,
    events: Events,
    data: str | None = None,
    examples: int = EXAMPLES,
    seed: int = 0,
    tolerance: float | None = None,
    precision: str = "float32",
    ends: bool = True,
) -> Verified:
    """Compare two files; see `graphs.equivalence` for what is compared.

    Args:
        left: the reference.
        right: the other.
        events: whose listeners hear what happens.
        data: a data set's name or path, for real examples.
        examples: random ones, and real ones of the training and of the validation part.
        seed: of all that is drawn.
        tolerance: in place of the one that belongs to the precision.
        precision: 'float32' or 'float64'.
        ends: whether to compare what stands behind the logits too.

    Raises:
        GraphError: a file cannot be read or run, or the two have other inputs or outputs.
        MnxError: the data cannot be read or do not fit.
    """
    names = (left.stem, right.stem) if left.stem != right.stem else (str(left), str(right))
    models = []
    for done, (name, path) in enumerate(zip(names, (left, right), strict=True), start=1):
        events.tick("read", network=name, done=done, total=2)
        models.append(onnx_file.read(path).replace(name=name))
    loaded = dataset.load(data, taking(models[:1]), seed) if data is not None else None
    found = named_batches(models[0], loaded, seed, examples, examples)
    events.tick("verify", network=names[1], done=1, total=1)
    certificate = equivalence(models[0], models[1], found, tolerance, precision, ends)
    certificate = dataclasses.replace(
        certificate, seed=seed, sha256={"mother": file_hash(left), "member": file_hash(right)}
    )
    if certificate.passed:
        return Verified(certificate)
    return Verified(certificate, _reason(models[0], models[1], certificate, found, tolerance))


def keep(certificate: Certificate, path: Path, force: bool) -> None:
    """Write a certificate, whole or not at all; see `require_free`."""
    require_free(path, force)
    write_text(path, certificate.text())


def require_free(path: Path, force: bool) -> None:
    """Refuse a place that cannot be written.

    Raises:
        MnxError: the file exists and `force` is False, or the path is a folder or the name of a model.
    """
    if path.is_dir():
        raise MnxError(f"{path} is a folder: give the name of the file to write")
    if path.suffix == onnx_file.SUFFIX:
        raise MnxError(f"{path} is the name of a model: give the certificate another, such as certificate.json")
    if path.exists() and not force:
        raise MnxError(f"{path} exists: choose another name, or overwrite it with --force")


def _reason(
    left: Model, right: Model, certificate: Certificate, found: dict[str, Probe], tolerance: float | None
) -> str:
    check = next(check for check in certificate.checks if check.binding and not check.difference.passed)
    far = check.difference
    try:
        where = first_difference(left, right, certificate, found, tolerance)
    except GraphError:
        where = ""
    text = (
        f"{right.name} does not compute the function of {left.name}: on {check.inputs} inputs ({check.mode}, "
        f"{check.outputs}) they differ by {far.largest:.2e}, more than {far.tolerance:.2e}"
    )
    return f"{text}; {where or 'their structures differ too, so that no single op can be named'}"
