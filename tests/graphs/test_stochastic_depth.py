"""Stochastic depth in training exports is read as a Dropout of whole examples, and trained as such."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from mnx.graphs import onnx_file
from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.canonical.stochastic_depth import DROP_PATH
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.run import run
from mnx.graphs.verify import difference
from mnx.train.lowering import draw_masks, lowered

TORCHSCRIPT = """
    s = Shape(a) n = Gather(s, zero) n1 = Unsqueeze(n, first) i1 = Unsqueeze(unit, first) i2 = Unsqueeze(unit, first)
    size = Concat<axis = 0>(n1, i1, i2, i2) ones = ConstantOfShape<value = float[1] {1.}>(size)"""
DYNAMO = """
    n = Shape<start = 0, end = 1>(x) i = Constant<value_ints = [1]>() size = Concat<axis = 0>(n, i, i, i)
    ones = ConstantOfShape(size)"""
ROWS = """
    n = Shape<start = 0, end = 1>(x) i = Constant<value_ints = [1]>() three = Constant<value_ints = [3]>()
    size = Concat<axis = 0>(n, i, i, three) ones = ConstantOfShape(size)"""


def network(mask: str, scale: str = "Div(c, keep)", drawn: str = "RandomUniformLike(ones)") -> onnx.ModelProto:
    """x + masked ReLU of x through a 1x1 convolution."""
    return onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[N,2,3,3] x) => (float[N,2,3,3] y)
        <float[2,2,1,1] w = {{1., -2., 0.5, 3.}}, float keep = {{0.75}}, int64 zero = {{0}}, int64 unit = {{1}},
         int64[1] first = {{0}}> {{
            b = Conv(x, w) a = Relu(b) {mask}
            u = {drawn} l = Less(u, keep) c = Cast<to = 1>(l) m = {scale} d = Mul(a, m) y = Add(x, d) }}""")


def dropout_of(model: Model) -> tuple[str, float]:
    (node,) = [node for node in model.nodes if node.op == "Dropout"]
    return node.name, float(model.weights[node.inputs[1]])


@pytest.mark.parametrize("mask", [TORCHSCRIPT, DYNAMO])
def test_a_mask_of_one_number_an_example_is_stochastic_depth(mask: str) -> None:
    model = canonicalise(network(mask), "depth")
    name, ratio = dropout_of(model)
    assert name.endswith(DROP_PATH)
    assert ratio == pytest.approx(0.25)
    x = np.random.default_rng(0).standard_normal((5, 2, 3, 3), np.float32)
    w = np.array([[1, -2], [0.5, 3]], np.float32)
    expected = x + np.maximum(np.einsum("oc,ncij->noij", w, x), 0)
    assert difference(expected, run(model, x)[model.outputs[0].name]).relative < 1e-6
    (drawn,) = lowered(model).masks
    assert drawn.shape == (1, 1, 1)
    (numbers,) = draw_masks([drawn], 4000, 0, 0).values()
    assert numbers.shape == (4000, 1, 1, 1)
    assert set(np.unique(numbers).tolist()) == {0.0, np.float32(1 / 0.75)}
    assert numbers.mean() == pytest.approx(1, abs=0.05)


def test_it_is_still_stochastic_depth_in_a_file_that_is_written_and_read(tmp_path: Path) -> None:
    onnx.save(network(TORCHSCRIPT), tmp_path / "given.onnx")
    model = onnx_file.read(tmp_path / "given.onnx")
    for form in ("working", "canonical"):
        onnx_file.write(model, tmp_path / f"{form}.onnx", form=form)
        again = onnx_file.read(tmp_path / f"{form}.onnx")
        assert dropout_of(again) == dropout_of(model)
        assert [mask.shape for mask in lowered(again).masks] == [(1, 1, 1)]


def test_a_mask_in_the_shape_of_what_it_masks_is_a_dropout() -> None:
    model = canonicalise(network("", drawn="RandomUniformLike(a)"), "plain")
    assert not dropout_of(model)[0].endswith(DROP_PATH)
    assert [mask.shape for mask in lowered(model).masks] == [(2, 3, 3)]


@pytest.mark.parametrize(
    ("proto", "says"),
    [
        (network(DYNAMO, scale="Mul(c, keep)"), "is no Dropout's.*eval mode"),
        (network(DYNAMO, drawn="RandomUniformLike<high = 2.0>(ones)"), "is no Dropout's"),
        (network(DYNAMO, drawn="RandomNormalLike(ones)"), "draws numbers whenever the model runs.*eval mode"),
        (network(ROWS), "neither of the shape"),
    ],
)
def test_other_draws_are_refused(proto: onnx.ModelProto, says: str) -> None:
    with pytest.raises(GraphError, match=says):
        canonicalise(proto, "drawn")
