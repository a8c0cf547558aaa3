"""Data in a NumPy archive, by the names of its arrays (see `mnx.data.named`). Pickled objects are never loaded."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnx.data.named import Names, made, names_in
from mnx.data.raw import RawData, Tell
from mnx.errors import MnxError
from mnx.graphs.model import Array, Port


def recognise(spec: str) -> bool:
    """Whether `spec` is an existing .npz file."""
    path = Path(spec)
    return path.suffix == ".npz" and path.is_file()


def read(spec: str, ports: Sequence[Port], seed: int, tell: Tell) -> RawData:
    """The arrays of the archive; where it has no test part, a fifth by `seed` becomes it, stratified by classes.

    Raises:
        MnxError: the file is no archive, holds other names or pickled objects, or x and y do not belong together.
    """
    path = Path(spec)
    names, arrays = _arrays(path, ports)
    return made(path.stem, names, arrays, seed, str(path))


def _arrays(path: Path, ports: Sequence[Port]) -> tuple[Names, dict[str, Array]]:
    with path.open("rb") as file:  # opened here, because np.load leaves a broken archive open
        try:
            archive = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise MnxError(f"{path} is not a NumPy archive; write it with np.savez") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise MnxError(f"{path} is a single array, not a NumPy archive; write it with np.savez(path, x=..., y=...)")
        names = names_in(archive.files, ports, str(path), ordered=True)
        wanted = (*names.x, names.y, *names.x_test, names.y_test)
        return names, {name: _array(archive, name, path) for name in wanted if name}


def _array(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> Array:
    try:
        array: Array = archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise MnxError(f"{path}: array {name} cannot be read ({error})") from error
        raise MnxError(
            f"{path}: {name} holds Python objects, which are pickled and never loaded; make all its rows the same "
            "shape and save numbers"
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise MnxError(f"{path}: array {name} cannot be read ({error})") from error
    return array
