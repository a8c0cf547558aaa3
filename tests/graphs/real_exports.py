"""The corpus of real exports, where it is: its files, and the mark that skips a test where it is not."""

import os
from pathlib import Path

import pytest

ZOO = Path(os.environ.get("MNX_ZOO", Path(__file__).parents[2].parent / "shared" / "zoo"))
FILES = sorted(ZOO.rglob("*.onnx"))
corpus = pytest.mark.skipif(not FILES, reason="the corpus is not here: set MNX_ZOO to its folder")


def name_of(path: Path) -> str:
    """A file of the corpus in words."""
    return "-".join(path.with_suffix("").parts[-3:])
