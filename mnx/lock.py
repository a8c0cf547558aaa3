"""One process at a time in a run folder: two would undo each other's work."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mnx.errors import MnxError


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine out of a run folder. The lock goes with the process, however it ends.

    It stands among the system's temporary files, since a run that is refused must not write into its folder.

    Raises:
        MnxError: another process is working there.
    """
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"mnx-{place}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise MnxError(f"another mnx is working in {folder}: wait until it is done, or stop it") from None
    try:
        yield
    finally:
        lock.release()
