"""Small runs: the sample perceptrons on the digits, trained for a few epochs in a run folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.zoo.ensembles import ensemble
from mnx.planning import plan_members
from mnx.session import Session, keep_settings, open_session
from mnx.train.recipe_files import recipe
from mnx.workspace import RunFolder

NAMES = ("P64", "P96", "P64-64")
SETTINGS = {"lr": "0.1", "epochs": "3", "grace": "0", "patience": "3", "members.anneal": "1"}
RECIPE = recipe(SETTINGS)
EXAMPLES = 600


def write_members(folder: Path, names: Sequence[str] = NAMES) -> list[Path]:
    """Write sample perceptrons; returns their files, by name."""
    for model in ensemble("mlp"):
        if model.name in names:
            onnx_file.write(model, folder / f"{model.name}.onnx")
    return sorted(folder.glob("*.onnx"), key=lambda path: path.stem)


def opened(run: RunFolder, events: Events | None = None, **settings: Any) -> Session:
    """A call on a planned run, with the digits and `RECIPE`; its settings are kept, as `run_all` keeps them."""
    given: dict[str, Any] = {"data": "digits", "train_limit": EXAMPLES, "recipe": RECIPE, "threads": 1} | settings
    session = open_session(run, events or Events(), **given)
    keep_settings(session)
    return session


def planned(folder: Path, names: Sequence[str] = NAMES, **settings: Any) -> RunFolder:
    """A run folder with the plan of sample perceptrons, whose files stand beside it."""
    run = RunFolder(folder / "run")
    plan_members(write_members(folder / "members", names), run, Events(), **settings)
    return run


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder: its bytes and when it was written, in nanoseconds."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
