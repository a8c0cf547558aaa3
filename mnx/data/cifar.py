"""CIFAR-10 and CIFAR-100 in their binary version: rows of label bytes and 3 x 32 x 32 pixels, channels first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnx.data.raw import RawData, Tell
from mnx.errors import MnxError
from mnx.graphs.model import Array, Port

IMAGE = (3, 32, 32)


@dataclass(frozen=True)
class Edition:
    """One of the two data sets: its unpacked folder, its files, the label bytes of a row (the last one counts).

    `pickled` is a file by which the version made of pickled Python objects is known.
    """

    name: str
    folder: str
    train: str
    test: str
    labels: int
    pickled: str


EDITIONS = (
    Edition("cifar10", "cifar-10-batches-bin", "data_batch_*.bin", "test_batch.bin", 1, "data_batch_1"),
    Edition("cifar100", "cifar-100-binary", "train.bin", "test.bin", 2, "train"),
)


def recognise(spec: str) -> bool:
    """Whether `spec` is a folder with CIFAR's files, or one in which its archive was unpacked."""
    return _find(Path(spec)) is not None


def read(spec: str, ports: Sequence[Port], seed: int, tell: Tell) -> RawData:
    """The images as x of shape (n, 3, 32, 32), with the 10 classes of CIFAR-10 or the 100 fine ones of CIFAR-100.

    Raises:
        MnxError: a file is missing or cut short, or the folder holds the pickled version.
    """
    found = _find(Path(spec))
    if found is None:
        raise MnxError(f"{spec} holds no CIFAR files")
    folder, edition = found
    train = sorted(folder.glob(edition.train))
    if not train:
        raise MnxError(
            f"{folder} holds {edition.name} as pickled Python objects, which are never loaded; download its binary "
            f"version, the archive that unpacks to {edition.folder}"
        )
    x_train, y_train = _read_rows(train, edition)
    x_test, y_test = _read_rows([folder / edition.test], edition)
    return RawData(edition.name, x_train, y_train, x_test, y_test, "NCHW")


def _find(root: Path) -> tuple[Path, Edition] | None:
    for edition in EDITIONS:
        for folder in (root, root / edition.folder):
            if any(folder.glob(edition.train)) or (folder / edition.pickled).is_file():
                return folder, edition
    return None


def _read_rows(paths: list[Path], edition: Edition) -> tuple[Array, Array]:
    width = edition.labels + math.prod(IMAGE)
    rows = []
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise MnxError(f"{path} cannot be read ({error.strerror})") from error
        if not content or len(content) % width:
            raise MnxError(
                f"{path} has {len(content)} bytes, not a multiple of the {width} of an example of {edition.name}; "
                "download it again"
            )
        rows.append(np.frombuffer(content, np.uint8).reshape(-1, width))
    table = np.concatenate(rows)
    return table[:, edition.labels :].reshape(-1, *IMAGE), table[:, edition.labels - 1]
