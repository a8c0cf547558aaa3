"""What tests of the method share: a run whose members are hatched, not trained."""

import shutil
from pathlib import Path

import pytest
from small_runs import opened, planned

from mnx.methods.mothernets import hatch_members, train_mothers
from mnx.session import Session
from mnx.workspace import RunFolder


@pytest.fixture(scope="module")
def hatched_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose mother is trained and whose members are hatched, not trained."""
    folder = tmp_path_factory.mktemp("hatched")
    session = opened(planned(folder))
    train_mothers(session)
    hatch_members(session)
    return folder


@pytest.fixture
def hatched(hatched_once: Path, tmp_path: Path) -> Session:
    """The same run, for a test of its own."""
    shutil.copytree(hatched_once / "run", tmp_path / "run")
    return opened(RunFolder(tmp_path / "run"))
