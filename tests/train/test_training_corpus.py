"""Every network of the corpus that can be read is trained: three steps, finite losses, other weights."""

import os
from pathlib import Path

import numpy as np
import pytest

from mnx.graphs.model import Model, model_hash
from mnx.graphs.onnx_file import read
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings

ZOO = Path(os.environ.get("MNX_ZOO", Path(__file__).parents[2].parent / "shared" / "zoo"))
UNREADABLE = ("ort_dynquant", "ort_qdq", "k_gru_48_2")
"""Quantised networks, and one whose recurrence is a loop: they are refused on reading."""
FILES = [path for path in sorted(ZOO.rglob("*.onnx")) if not any(part in str(path) for part in UNREADABLE)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FILES, reason="the corpus is not here: set MNX_ZOO to its folder"),
]


def trained(model: Model, frozen: bool = False) -> list[float]:
    """The losses of three steps on random examples; ids, masks and types are 0 or 1, the first of each 1."""
    random, arrays = np.random.default_rng(0), []
    for port in model.inputs:
        if np.dtype(port.dtype).kind == "f":
            arrays.append(random.standard_normal((4, *port.shape)).astype(port.dtype))
        else:
            arrays.append(random.integers(0, 2, (4, *port.shape)).astype(port.dtype))
            arrays[-1][:, 0] = 1
    engine = Engine(model, StepSettings(frozen_norm=frozen), threads=1)
    y = np.arange(4) % model.outputs[0].shape[0]
    losses = [engine.step(tuple(arrays), y, 1e-3)[0] for _ in range(3)]
    assert model_hash(engine.model()) != model_hash(model)
    return losses


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.with_suffix("").parts[-3:]))
def test_a_network_of_the_corpus_is_trained(path: Path) -> None:
    assert np.isfinite(trained(read(path))).all()


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[-3] in ("vgg_bn", "mobilenetv2")][:4], ids=str)
def test_frozen_statistics_stay(path: Path) -> None:
    assert np.isfinite(trained(read(path), frozen=True)).all()
