"""The corpus of real exports: every torch export of the families in scope is read and computes its reference.

The reference is the source framework's output in eval mode. A training-mode export normalises with batch statistics
and drops at random as it stands, so it differs from its reference; read, it must not: what training mode adds is gone.
"""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from reading import check_dialect, original, same

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.onnx_file import read, to_proto
from mnx.graphs.ops.table import rule_of
from mnx.graphs.run import run
from mnx.graphs.shapes import shapes

ZOO = Path(os.environ.get("MNX_ZOO", Path(__file__).parents[2].parent / "shared" / "zoo"))
FAMILIES = ("vgg", "vgg_bn", "resnet_cifar", "mlp")
FILES = sorted(path for family in FAMILIES for path in (ZOO / family).glob("pt_*/*.onnx"))

pytestmark = pytest.mark.skipif(not FILES, reason="the corpus is not here: set MNX_ZOO to its folder")


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.with_suffix("").parts[-3:]))
def test_a_torch_export_computes_its_reference(path: Path) -> None:
    model = read(path)
    check_dialect(model)
    for node in model.nodes:
        rule_of(node, model)
    with np.load(path.with_suffix(".npz")) as reference:
        x, expected = reference["arr_0"], reference["y"]
    (result,) = run(model, x, include_ends=True).values()
    assert same(result, expected)
    assert shapes(model, len(x))[model.outputs[0].name] == (len(x), *model.outputs[0].shape)
    again = canonicalise(to_proto(model, include_ends=True), model.name)
    assert again.nodes == model.nodes
    assert again.changes == ()


TRAINING = [path for path in FILES if path.parent.name == "pt_ts_train" and path.parts[-3] == "vgg_bn"]


@pytest.mark.skipif(not TRAINING, reason="the corpus holds no training-mode export")
@pytest.mark.parametrize("path", TRAINING, ids=lambda path: "-".join(path.with_suffix("").parts[-3:]))
def test_a_training_export_with_dropout_off_is_its_model_on_batch_statistics(path: Path) -> None:
    proto = onnx.load(path)
    with np.load(path.with_suffix(".npz")) as reference:
        x, expected = reference["arr_0"], reference["y"]
    assert not same(original(proto, {proto.graph.input[0].name: x})[0], expected)
    for node in proto.graph.node:
        if node.op_type == "Dropout":
            del node.input[1:]
            node.op_type = "Identity"
            del node.output[1:]
    (raw,) = original(proto, {proto.graph.input[0].name: x})
    (result,) = run(read(path), x, batch_statistics=True).values()
    assert same(result, raw)
