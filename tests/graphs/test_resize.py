"""The round trip of widths: for random legal widths the resized graph is valid, its shapes agree, and it runs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hand_made import gated, inception, residual
from hypothesis import given
from hypothesis import strategies as st
from real_exports import FILES, corpus, name_of
from strategies import examples

from mnx.graphs.axes import width_of
from mnx.graphs.carve import drawn, resized
from mnx.graphs.describe import BATCH, describe
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array, Model
from mnx.graphs.onnx_file import read
from mnx.graphs.proto import to_proto
from mnx.graphs.run import ALL, run
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg

SOME = [
    vgg("vgg", [[(3, 4), (1, 4)], [(3, 4)]], 3, (1, 4, 4), (5,)),
    resnet("resnet", (1, 2), 4, 3, (1, 8, 8)),
    inception("inception", 3, 2, 4),
    residual("residual", 4, [(4, False)]),
    gated("gated", 3, 3),
]


def random_inputs(model: Model, batch: int, seed: int) -> dict[str, Array]:
    """Numbers, ids or masks for every input."""
    random = np.random.default_rng(seed)
    kinds = {port.name: np.dtype(port.dtype) for port in model.inputs}
    return {
        port.name: random.standard_normal((batch, *port.shape)).astype(port.dtype)
        if kinds[port.name].kind == "f"
        else random.integers(0, 2, (batch, *port.shape)).astype(port.dtype)
        for port in model.inputs
    }


def check_round_trip(model: Model, seed: int) -> None:
    """Resize, check, infer shapes strictly, run, and describe: all agree."""
    structure = describe(model)
    random = np.random.default_rng(seed)
    widths = {group: int(random.integers(2, 2 * width + 2)) for group, width in structure.groups.items()}
    hollow = resized(model, structure, widths)
    after = describe(hollow)
    assert {op.name: op.matching for op in after.ops()} == {op.name: op.matching for op in structure.ops()}
    expected = {op.name: tuple(width_of(axis, widths) for axis in op.output) for op in structure.ops()}
    assert {op.name: op.site.outputs[0] for op in after.ops()} == expected
    full = drawn(hollow, after, seed)
    onnx.checker.check_model(to_proto(full), full_check=True)
    values = run(full, random_inputs(full, 3, seed), ALL)
    for op in structure.ops():
        sizes = (size // BATCH * 3 if size % BATCH == 0 else size for size in expected[op.name])
        assert values[op.value].shape == tuple(sizes)


@pytest.mark.parametrize("model", SOME, ids=lambda model: model.name)
@given(seed=st.integers(0, 2**31))
@examples(15)
def test_a_resized_network_is_valid_and_runs(model: Model, seed: int) -> None:
    check_round_trip(model, seed)


@pytest.mark.slow
@corpus
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_real_export_takes_other_widths(path: Path) -> None:
    try:
        model = read(path)
    except GraphError as error:
        pytest.skip(f"refused: {error}")
    check_round_trip(model, 0)
