"""The round trip of widths: for random legal widths the resized graph is valid, its shapes agree, and it runs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hand_made import gated, inception, residual
from hypothesis import given
from hypothesis import strategies as st
from reading import network
from real_exports import FILES, corpus, name_of
from strategies import examples

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array, Model
from mnx.graphs.mothers.carve import drawn, resized
from mnx.graphs.onnx_file import read
from mnx.graphs.ops.axes import width_of
from mnx.graphs.proto import to_proto
from mnx.graphs.run import ALL, run
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import BATCH
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


MIDDLES = {
    "ConvTranspose": "b = ConvTranspose <strides = [2, 2]> (a, t, u)",
    "SpaceToDepth": "c = SpaceToDepth <blocksize = 2> (a) b = Conv (c, s)",
    "DepthToSpace": "b = DepthToSpace <blocksize = 2> (a)",
    "DepthToSpace CRD": 'b = DepthToSpace <blocksize = 2, mode = "CRD"> (a)',
    "Resize": "scales = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> () b = Resize (a, , scales)",
    "Sin": "b = Sin (a)",
    "Floor": "b = Floor (a)",
    "LpPool": "b = LpPool <kernel_shape = [2, 2]> (a)",
    "GlobalLpPool": "b = GlobalLpPool (a)",
    "LRN": "b = LRN <size = 3> (a)",
    "InstanceNormalization": "b = InstanceNormalization (a, p, q)",
    "GroupNormalization": "b = GroupNormalization <num_groups = 4> (a, p, q)",
    "PRelu": "b = PRelu (a, r)",
    "ReduceMax": "axes = Constant <value = int64[1] {1}> () b = ReduceMax <keepdims = 1> (a, axes)",
    "Pad of channels": "pads = Constant <value = int64[8] {0, 1, 0, 0, 0, 2, 0, 0}> () b = Pad (a, pads)",
}
WIDTHS = {
    "ConvTranspose": 5,
    "SpaceToDepth": 6,
    "DepthToSpace": 2,
    "DepthToSpace CRD": 2,
    "ReduceMax": 1,
    "Pad of channels": 11,
}


@pytest.mark.parametrize("name", MIDDLES)
@given(seed=st.integers(0, 2**31))
@examples(5)
def test_an_op_between_two_layers_takes_other_widths(name: str, seed: int) -> None:
    text = f"""
    middle (float[batch, 3, 4, 4] x, float[8, 3, 1, 1] w, float[8, 5, 2, 2] t, float[5] u, float[6, 32, 1, 1] s,
            float[8] p, float[8] q, float[8, 1, 1] r, float[3, {WIDTHS.get(name, 8)}] h) => (float[batch, 3] y) {{
        a = Conv (x, w)
        {MIDDLES[name]}
        d = GlobalAveragePool (b)
        e = Flatten (d)
        y = Gemm <transB = 1> (e, h)
    }}"""
    check_round_trip(canonicalise(network(text), name), seed)


@pytest.mark.slow
@corpus
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_real_export_takes_other_widths(path: Path) -> None:
    try:
        model = read(path)
    except GraphError as error:
        pytest.skip(f"refused: {error}")
    check_round_trip(model, 0)
