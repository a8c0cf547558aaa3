"""The corpus of real exports: one architecture has the same ops after canonicalisation, whoever exported it.

True differences, which stay: a training export keeps its Dropout, and BatchNormalization, as PRESERVE does. BERT's
fused attention scales queries and keys, not their product, and guards rows that are masked as a whole (IsNaN, Where).
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from reading import same

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.onnx_file import read, to_proto
from mnx.graphs.run import run

ZOO = Path(os.environ.get("MNX_ZOO", Path(__file__).parents[2].parent / "shared" / "zoo"))
FAMILIES = ("bert", "vit", "convnext", "efficientnet", "mobilenetv2")
FILES = sorted(path for family in FAMILIES for path in (ZOO / family).glob("*/*.onnx"))

pytestmark = pytest.mark.skipif(not FILES, reason="the corpus is not here: set MNX_ZOO to its folder")

# exports of one architecture; the ops that the second has and the first has not
PAIRS: dict[tuple[str, str], dict[str, int]] = {
    ("bert/pt_ts_eval/bert_64_2_2_eager", "bert/pt_dynamo_eval/bert_64_2_2_eager"): {},
    ("bert/pt_ts_preserve/bert_64_2_2", "bert/pt_ts_train/bert_64_2_2"): {"Dropout": 8},
    ("bert/onnxsim/pt_ts_eval__bert_64_2_2", "bert/pt_ts_preserve/bert_64_2_2"): {"Where": 1},
    ("vit/jax2onnx/j_vit_64_3", "vit/keras_tf/k_vit_64_3_2_tanhgelu"): {},
    ("vit/jax2onnx/j_vit_64_3", "vit/onnxsim/jax2onnx__j_vit_64_3"): {},
    ("vit/pt_dynamo_eval/vit_64_4_4_ls", "vit/external_data/pt_dynamo_eval__vit_64_4_4_ls"): {},
    ("convnext/pt_dynamo_eval/cnx_a", "convnext/pt_ts_preserve/cnx_a"): {},
    ("efficientnet/pt_dynamo_eval/eff_w0.5_d1", "efficientnet/pt_ts_eval/eff_w0.5_d1"): {},
    ("efficientnet/pt_dynamo_eval/eff_w0.5_d1", "efficientnet/onnxsim/pt_dynamo_eval__eff_w0.5_d1"): {},
    ("efficientnet/pt_dynamo_eval/eff_w0.5_d1", "efficientnet/ort_extended/pt_dynamo_eval__eff_w0.5_d1"): {},
    ("efficientnet/pt_ts_eval/eff_w0.5_d1", "efficientnet/pt_ts_preserve/eff_w0.5_d1"): {"BatchNormalization": 25},
    ("efficientnet/pt_ts_preserve/eff_w0.5_d1", "efficientnet/pt_ts_train/eff_w0.5_d1"): {},
    ("mobilenetv2/pt_dynamo_eval/mb2_w0.5", "mobilenetv2/pt_ts_eval/mb2_w0.5"): {},
    ("mobilenetv2/pt_ts_eval/mb2_w0.5", "mobilenetv2/pt_ts_preserve/mb2_w0.5"): {"BatchNormalization": 22},
    ("mobilenetv2/pt_ts_preserve/mb2_w0.5", "mobilenetv2/pt_ts_train/mb2_w0.5"): {"Dropout": 1},
}
SPELT_OUT = {"Erf", "Einsum", "Split", "Squeeze", "Unsqueeze", "Sum", "Mean", "Identity"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.with_suffix("").parts[-3:]))
def test_an_export_computes_its_reference_in_the_dialect(path: Path) -> None:
    model = read(path)
    with np.load(path.with_suffix(".npz")) as reference:
        arrays = [reference[name] for name in reference.files if name.startswith("arr_")]
        expected = reference["y"]
    names = [value.name for value in onnx.load(path, load_external_data=False).graph.input]
    feeds = arrays[0] if len(arrays) == 1 else dict(zip(names, arrays, strict=False))
    result, *_ = run(model, feeds, include_ends=True).values()
    assert same(result, expected)
    assert not SPELT_OUT & {node.op for node in model.nodes}
    again = canonicalise(to_proto(model, include_ends=True), model.name)
    assert again.nodes == model.nodes
    assert again.changes == ()


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: " = ".join(pair))
def test_exporters_agree_on_the_ops(pair: tuple[str, str]) -> None:
    first, second = (Counter(node.op for node in read(ZOO / f"{name}.onnx").nodes) for name in pair)
    assert second - first == PAIRS[pair]
    assert not first - second
