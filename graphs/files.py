"""The one writer of files: everything lands under a temporary name in the same folder and is renamed when complete.

And paths that last.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; renamed over it on success, removed on any failure.

    Readers see the old file or the whole new one, never a part: the data reach the disk before the rename.
    The temporary keeps the suffix of `path`, for writers that look at it. Missing folders are made.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _flush(target.parent, os.O_RDONLY)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8 with plain newlines, whole or not at all."""
    write_bytes(path, text.encode())


def lasting(path: str) -> str:
    """A path that is right from every folder; links in it stay as the user knows them."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
