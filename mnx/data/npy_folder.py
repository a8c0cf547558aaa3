"""Data larger than memory: a folder of .npy files, named as the arrays of an archive are (see `mnx.data.named`).

    flowers/x_train.npy  flowers/y_train.npy  flowers/x_test.npy  flowers/y_test.npy

Inputs stay in their files and are mapped from there; only targets are read. Pickled objects are never loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnx.data.named import made, names_in
from mnx.data.raw import RawData, Tell
from mnx.errors import MnxError
from mnx.graphs.model import Array, Port

TARGETS = ("y_train.npy", "y.npy")


def recognise(spec: str) -> bool:
    """Whether `spec` is a folder with targets in an .npy file."""
    return any((Path(spec) / name).is_file() for name in TARGETS)


def read(spec: str, ports: Sequence[Port], seed: int, tell: Tell) -> RawData:
    """The arrays of the folder; where it has no test part, a fifth by `seed` becomes it, stratified by classes.

    Raises:
        MnxError: files are missing, are no arrays or hold pickled objects, or x and y do not belong together.
    """
    folder = Path(spec)
    found = sorted(path.stem for path in folder.glob("*.npy"))
    names = names_in(found, ports, str(folder), ordered=False)
    inputs = {name: _mapped(folder / f"{name}.npy") for name in (*names.x, *names.x_test)}
    targets = {name: np.array(_mapped(folder / f"{name}.npy")) for name in (names.y, names.y_test) if name}
    return made(folder.resolve().name, names, {**inputs, **targets}, seed, str(folder))


def _mapped(path: Path) -> Array:
    try:
        array: Array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        if "Python objects" in str(error):
            raise MnxError(
                f"{path} holds Python objects, which are pickled and never loaded; make all its rows the same shape "
                "and save numbers"
            ) from error
        raise MnxError(f"{path} is not a whole .npy file ({error}); write it with np.save") from error
    return array
