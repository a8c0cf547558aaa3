"""The whole method on readers of text: ids and a mask in, from files to a scored ensemble."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")
from exporters import export
from families import MASKED
from torch_convolutional import CLASSES, torch
from torch_sequences import TOKENS, WORDS, Bert

from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.run import run, run_file
from mnx.graphs.verify import difference
from mnx.metrics import softmax
from mnx.pipeline import begin, run_all
from mnx.planning import plan_members
from mnx.train.lint import untrainable
from mnx.workspace import RunFolder

pytestmark = pytest.mark.torch

SIZES = {"small": {}, "large": {"width": 24, "heads": 3, "hidden": 30}}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small BERTs, as torch writes them."""
    folder = tmp_path_factory.mktemp("bert")
    for name, sizes in SIZES.items():
        torch.manual_seed(0)
        export(Bert(types=False, **sizes).eval(), "script_eval", MASKED, folder / f"{name}.onnx")
    return sorted(folder.glob("*.onnx"))


def data(folder: Path, members: Path) -> str:
    """Rows of ids with masks; the class of a row stands in its first token."""
    random, n = np.random.default_rng(0), 300
    ids = random.integers(0, WORDS, (n, TOKENS)).astype(np.int32)
    mask = (np.arange(TOKENS) < random.integers(2, TOKENS + 1, (n, 1))).astype(np.int8)
    names = [port.name for port in onnx_file.read(members).inputs]
    np.savez(folder / "text.npz", **dict(zip(names, (ids, mask), strict=True)), y=ids[:, 0] % CLASSES)
    return str(folder / "text.npz")


def test_the_plan_knows_ids_and_masks(members: list[Path], tmp_path: Path) -> None:
    found = plan_members(members, RunFolder(tmp_path / "run"), Events()).interface
    assert [(content.kind, content.count) for content in found.contents] == [("ids", WORDS), ("mask", 0)]
    assert [port.shape for port in found.inputs] == [(TOKENS,), (TOKENS,)]


def test_readers_of_text_are_trained_combined_and_scored(members: list[Path], tmp_path: Path) -> None:
    if missing := untrainable(onnx_file.read(members[0])):
        pytest.skip(f"not trained through yet: {missing}")
    folder = RunFolder(tmp_path / "run")
    recipe = {"lr": "0.05", "epochs": "12", "batch": "16"}
    session = begin(members, folder, Events(), data=data(tmp_path, members[0]), recipe=recipe, threads=1)
    document = run_all(session)
    assert document["members"]["ensemble"]["averaged"]["accuracy"] > 2 / CLASSES
    x = session.dataset.test.x()
    assert [array.dtype for array in x] == [np.dtype(port.dtype) for port in session.plan.interface.inputs]
    models = [onnx_file.read(folder.trained_file("members", name)) for name in SIZES]
    expected = np.mean([softmax(run(model, x)[model.outputs[0].name]) for model in models], axis=0)
    assert difference(expected, run_file(folder.ensemble_file, x)).passed
    entries = {entry.key: entry.value for entry in onnx.load(folder.ensemble_file).metadata_props}
    assert [json.loads(entries[f"mnx.scaling.{port.name}"])["dtype"] for port in session.plan.interface.inputs] == [
        port.dtype for port in session.plan.interface.inputs
    ]
