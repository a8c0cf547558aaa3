"""Growth by request of real exports: twice as wide exactly; deeper and with a larger kernel exactly, or refused."""

from pathlib import Path

import pytest
from real_exports import FILES, corpus, name_of

from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth.grown import grown
from mnx.graphs.growth.request import request
from mnx.graphs.model import Model
from mnx.graphs.onnx_file import read
from mnx.graphs.ops.rule import Kind
from mnx.graphs.probes import probes
from mnx.graphs.trees.describe import describe

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive, corpus]

RECURRENT = "rnn"
"""The family whose widths never change: a recurrent state is mixed with itself."""


def given(path: Path) -> Model:
    try:
        return read(path)
    except GraphError as error:
        pytest.skip(f"refused: {error}")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_real_export_grows_to_twice_the_width(path: Path) -> None:
    model = given(path)
    if RECURRENT in path.parts:
        with pytest.raises(GraphError, match=r"no width of .* can change"):
            grown(model, request(["all=x2"]))
    else:
        assert grown(model, request(["all=x2"]), {"random": probes(model, 0, 16)["random"].batch}).certificate.passed


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_real_export_grows_in_its_middle_or_says_why_not(path: Path) -> None:
    model = given(path)
    layers = [op for op in describe(model).ops() if any(p.kind is Kind.WEIGHT for p in op.parameters)]
    kernels = [op for op in layers if op.op == "Conv"]
    asked = [request(depths=[f"{layers[len(layers) // 2].name}+1"])]
    asked += [request(kernels=[f"{kernels[len(kernels) // 2].name}=7"])] if kernels else []
    for wanted in asked:
        try:
            found = grown(model, wanted, {"random": probes(model, 0, 16)["random"].batch})
        except NotPreserved:
            raise
        except GraphError as error:
            assert model.name in str(error)
        else:
            assert found.certificate.passed
