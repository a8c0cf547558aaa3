"""A member of every family is trained as torch trains it: the same losses and weights over three steps."""

from pathlib import Path

import numpy as np
import pytest

from mnx.graphs.onnx_file import read
from mnx.graphs.parameters import parameters
from mnx.graphs.verify import difference
from mnx.train.lowering import draw_masks, lowered
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings

pytest.importorskip("torch")

from exporters import batches, export
from families import FAMILIES
from torch_twin import Twin

pytestmark = [pytest.mark.slow, pytest.mark.torch]

TOLERANCE = 1e-4
"""Of losses and weights after three steps: rounding that deep networks with batch statistics magnify."""
SETTINGS = StepSettings(momentum=0.9, weight_decay=1e-4)
LR = 0.01


@pytest.mark.parametrize("name", FAMILIES)
def test_a_member_is_trained_as_in_torch(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    export(family.member(0, fresh=True), "script_preserve", family.inputs, tmp_path / "member.onnx")
    model = read(tmp_path / "member.onnx")
    engine, twin = Engine(model, SETTINGS, threads=1, seed=3), Twin(model, SETTINGS, LR)
    dropouts, masks = [node.name for node in model.nodes if node.op == "Dropout"], lowered(model).masks
    for step in range(3):
        feeds = batches(family.inputs, 8, seed=step)
        x = tuple(feeds[port.name] for port in model.inputs)
        y = np.arange(8) % model.outputs[0].shape[0]
        drawn = dict(zip(dropouts, draw_masks(masks, 8, seed=3, step=step).values(), strict=True))
        loss, expected = engine.step(x, y, LR)[0], twin.step(x, y, LR, drawn)[0]
        assert difference(np.array(expected), np.array(loss), TOLERANCE).passed, (step, expected, loss)
    after, weights = engine.model().weights, twin.weights()
    apart = {weight: difference(weights[weight], after[weight], TOLERANCE) for weight in parameters(model)}
    assert not {weight: found for weight, found in apart.items() if not found.passed}
