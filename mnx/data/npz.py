"""Data in a NumPy archive: x_train, y_train, x_test, y_test, or x and y. Pickled objects are never loaded."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from mnx.data.raw import RawData, split_by_seed
from mnx.errors import MnxError
from mnx.graphs.model import Array, Shape

PARTS = ("x_train", "y_train", "x_test", "y_test")
WHOLE = ("x", "y")


def recognise(spec: str) -> bool:
    """Whether `spec` is an existing .npz file."""
    path = Path(spec)
    return path.suffix == ".npz" and path.is_file()


def read(spec: str, shape: Shape, seed: int) -> RawData:
    """The arrays of the archive; x and y alone are split by `seed`, a stratified fifth becoming the test part.

    Raises:
        MnxError: the file is no archive, holds other names or pickled objects, or x and y do not belong together.
    """
    path = Path(spec)
    arrays = _arrays(path)
    if set(PARTS) <= set(arrays):
        return RawData(path.stem, arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"])
    return split_by_seed(path.stem, arrays["x"], arrays["y"], seed, str(path))


def _arrays(path: Path) -> dict[str, Array]:
    with path.open("rb") as file:  # opened here, because np.load leaves a broken archive open
        try:
            archive = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise MnxError(f"{path} is not a NumPy archive; write it with np.savez") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise MnxError(f"{path} is a single array, not a NumPy archive; write it with np.savez(path, x=..., y=...)")
        wanted = next((names for names in (PARTS, WHOLE) if set(names) <= set(archive.files)), None)
        if wanted is None:
            found = ", ".join(archive.files) or "nothing"
            raise MnxError(f"{path} holds {found}; name the arrays {', '.join(PARTS)} or {', '.join(WHOLE)}")
        return {name: _array(archive, name, path) for name in wanted}


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
