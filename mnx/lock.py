"""One process at a time in a run folder: two would undo each other's work."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from mnx.errors import MnxError

LOOK_SECONDS: Final = 0.5
"""How long a lock is waited for: whoever looks whether it is taken has it for a moment."""


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine out of a run folder. The lock goes with the process, however it ends.

    It stands among the system's temporary files, since a run that is refused must not write into its folder.

    Raises:
        MnxError: another process is working there.
    """
    lock = FileLock(_file(folder), timeout=LOOK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise MnxError(f"another mnx is working in {folder}: wait until it is done, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def is_worked_in(folder: Path) -> bool:
    """Whether a process of this machine works in a run folder."""
    if not _file(folder).exists():
        return False
    try:
        with FileLock(_file(folder), timeout=0):
            return False
    except Timeout:
        return True


def _file(folder: Path) -> Path:
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"mnx-{place}.lock"
