"""Many files decoded by worker processes into one array in a file, which is kept for the next time.

The file lies in a private folder below the system's temporary one (TMPDIR says where that is), not in the run folder:
it belongs to the data, serves every run and command that reads them, and may be removed at any time. Its name says of
which files, sizes and times of change it is made; another one of the same data is removed when it is written. It is
written whole or not at all, in the order of the files, so that it never depends on the number of workers.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import multiprocessing
import os
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mnx.data.raw import Tell
from mnx.errors import MnxError
from mnx.graphs.files import replacing
from mnx.graphs.model import Array, Shape

CHUNK = 64
"""Files that a worker decodes in one go."""

Decode: TypeAlias = Callable[[Sequence[Path], Shape], Array]
"""(files, shape of one) -> uint8 (files, *shape); a function that other processes can import."""


def decoded(paths: Sequence[Path], form: Shape, decode: Decode, tell: Tell, jobs: int | None = None) -> Array:
    """The files as one array (n, *form), uint8, mapped from its file and read only.

    Args:
        paths: the files.
        form: the shape of each.
        decode: what decodes some of them.
        tell: hears how many are done.
        jobs: worker processes; None for as many as there are cores, 1 for none beside this one.

    Raises:
        MnxError: a file cannot be decoded, or there is no room for the result.
    """
    folder = _folder()
    data = hashlib.sha256(f"{os.path.commonpath([path.resolve() for path in paths])} {form}".encode()).hexdigest()[:12]
    target = folder / f"{data}-{_state(paths)}.npy"
    if not target.exists():
        size = len(paths) * math.prod(form)
        try:
            with replacing(target) as temporary:
                _write(temporary, paths, form, decode, tell, jobs or _cores())
        except OSError as error:
            raise MnxError(
                f"{size / 1e9:.1f} GB of decoded images cannot be kept in {folder} ({error.strerror or error}); set "
                "TMPDIR to a folder with room"
            ) from error
        for old in folder.glob(f"{data}-*.npy"):
            if old != target:
                with contextlib.suppress(OSError):  # whoever maps it keeps it, where the system allows to remove it
                    old.unlink()
    found: Array = np.load(target, mmap_mode="r", allow_pickle=False)
    return found


def _folder() -> Path:
    """A folder below the temporary one that belongs to this user alone."""
    folder = Path(tempfile.gettempdir()) / f"mnx-{os.getuid() if hasattr(os, 'getuid') else 'data'}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink()):
        raise MnxError(f"{folder} is open to others, who could change data there; remove it, or set TMPDIR elsewhere")
    return folder


def _state(paths: Sequence[Path]) -> str:
    """A hash of names, sizes and times of change."""
    digest = hashlib.sha256()
    for path in paths:
        found = path.stat()
        digest.update(f"{path.resolve()} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _cores() -> int:
    """Cores that this process may use; 1 for one that may have no processes of its own."""
    if multiprocessing.current_process().daemon:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write(target: Path, paths: Sequence[Path], form: Shape, decode: Decode, tell: Tell, jobs: int) -> None:
    """An .npy file, by plain writes: a full disk is an error then, where a mapped file would end the process."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    jobs = min(jobs, len(chunks))
    parts = _by_workers(chunks, form, decode, jobs) if jobs > 1 else (decode(chunk, form) for chunk in chunks)
    with target.open("wb") as file, contextlib.closing(parts):
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *form)}
        np.lib.format.write_array_header_1_0(file, header)
        done = 0
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
            done += len(part)
            tell(done, len(paths))


def _by_workers(
    chunks: Sequence[Sequence[Path]], form: Shape, decode: Decode, jobs: int
) -> Generator[Array, None, None]:
    """The decoded chunks in order; what a worker that was killed leaves is decoded in this process."""
    waiting: deque[tuple[Sequence[Path], Future[Array] | None]] = deque()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, initializer=_deaf) as pool:
        try:
            for chunk in chunks:
                waiting.append((chunk, _submitted(pool, decode, chunk, form)))
                if len(waiting) > 2 * jobs:
                    yield _result(*waiting.popleft(), form, decode)
            while waiting:
                yield _result(*waiting.popleft(), form, decode)
        finally:
            pool.shutdown(cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, decode: Decode, chunk: Sequence[Path], form: Shape) -> Future[Array] | None:
    try:
        return pool.submit(decode, chunk, form)
    except BrokenProcessPool:
        return None


def _result(chunk: Sequence[Path], asked: Future[Array] | None, form: Shape, decode: Decode) -> Array:
    try:
        return asked.result() if asked is not None else decode(chunk, form)
    except BrokenProcessPool:
        return decode(chunk, form)


def _deaf() -> None:
    """Leave an interrupt to the process that started the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
