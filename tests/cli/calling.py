"""What a call of the command line leaves, and what lies in a folder."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Called:
    """What a call left: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str


Call = Callable[..., Called]


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder with its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
