"""Checkpoints: one .npz an epoch with all that the next one needs, written whole or not at all, without pickles."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnx.errors import MnxError
from mnx.graphs.files import replacing
from mnx.graphs.model import Array

_RECORD = "record"


def save(path: Path, state: Mapping[str, Array], record: Mapping[str, Any]) -> None:
    """Write an engine's state and a JSON record."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        arrays = {**state, _RECORD: np.frombuffer(json.dumps(record).encode(), dtype=np.uint8)}
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read what `save` wrote.

    Raises:
        MnxError: the file is not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path):  # np.load takes other files too, and fails on them in many ways
            pass
        with np.load(path, allow_pickle=False) as arrays:
            state = {name: arrays[name] for name in arrays.files}
        record = dict(json.loads(bytes(state.pop(_RECORD)).decode()))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise MnxError(f"{path} is not a checkpoint of mnx ({error}); delete it to train this network afresh") from None
    return state, record
