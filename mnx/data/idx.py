"""Data in IDX files, the format of MNIST, Fashion-MNIST and their kin, plain or gzipped.

A file is two zero bytes, a type code, the number of axes, each axis as a big-endian 32-bit integer, then the numbers.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnx.data.raw import RawData, Tell
from mnx.errors import MnxError
from mnx.graphs.model import Array, Port

UINT8 = 8


def recognise(spec: str) -> bool:
    """Whether `spec` is a folder with the training images of an IDX data set."""
    return _find(Path(spec), "train-images", 3) is not None


def read(spec: str, ports: Sequence[Port], seed: int, tell: Tell) -> RawData:
    """The four files of the folder: x of shape (n, H, W).

    Raises:
        MnxError: a file is missing, cut short or of another kind.
    """
    folder = Path(spec)
    return RawData(
        folder.resolve().name,
        _read_part(folder, "train-images", 3),
        _read_part(folder, "train-labels", 1),
        _read_part(folder, "t10k-images", 3),
        _read_part(folder, "t10k-labels", 1),
    )


def _find(folder: Path, stem: str, axes: int) -> Path | None:
    names = (f"{stem}{dot}idx{axes}-ubyte{gz}" for dot in "-." for gz in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_part(folder: Path, stem: str, axes: int) -> Array:
    path = _find(folder, stem, axes)
    if path is None:
        raise MnxError(f"{folder} has no file {stem}-idx{axes}-ubyte or {stem}-idx{axes}-ubyte.gz")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise MnxError(f"{path} cannot be read ({error}); download it again") from error
    start = 4 + 4 * axes
    if len(content) < start or content[:4] != bytes((0, 0, UINT8, axes)):
        raise MnxError(f"{path} is not an IDX file of bytes with {axes} axes: it starts with {content[:4].hex(' ')}")
    sizes = struct.unpack(f">{axes}I", content[4:start])
    if len(content) - start != math.prod(sizes):
        raise MnxError(
            f"{path} holds {len(content) - start} bytes after its header, not the {math.prod(sizes)} of shape {sizes}; "
            "download it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)
