"""`mnx verify`: equal models, broken twins that must be caught, what is written, what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from calling import Call, contents
from onnx import numpy_helper

from mnx.graphs import onnx_file
from mnx.graphs.certificate import Certificate
from mnx.graphs.model import Array, Model, Node
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg
from mnx.workspace import file_hash


def network() -> Model:
    """A small normalised network with biases and statistics as training leaves them."""
    model = vgg("net", [[(3, 4), (3, 4)], [(3, 6)]], 10, (1, 8, 8), [8], batch_norm=True)
    random = np.random.default_rng(0)
    moved: dict[str, Array] = {}
    for node in model.nodes:
        if node.op == "BatchNormalization":
            for place, (low, high) in enumerate(((0.5, 2), (-0.3, 0.3), (-0.3, 0.3), (0.5, 2)), start=1):
                name = node.inputs[place]
                moved[name] = random.uniform(low, high, model.weights[name].shape).astype(np.float32)
    return model.with_weights(moved)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    onnx_file.write(network(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def first(model: Model, op: str) -> Node:
    return next(node for node in model.nodes if node.op == op)


def head_moved(model: Model) -> Model:
    """One weight of the last layer is 1e-3 larger."""
    name = model.nodes[-1].inputs[1]
    weight = model.weights[name].copy()
    weight[2, 3] += np.float32(1e-3)
    return model.with_weights({name: weight})


def classes_swapped(model: Model) -> Model:
    order = [1, 0, *range(2, 10)]
    return model.with_weights({name: model.weights[name][order] for name in model.nodes[-1].inputs[1:]})


def pad_moved(model: Model) -> Model:
    """The first convolution looks one pixel further to the lower right."""
    broken = first(model, "Conv")
    fixed = replace(broken, attributes={**broken.attributes, "pads": (0, 0, 2, 2)})
    return model.replace(nodes=tuple(fixed if node is broken else node for node in model.nodes))


def mean_moved(model: Model) -> Model:
    """Batch statistics do not read it."""
    name = first(model, "BatchNormalization").inputs[3]
    return model.with_weights({name: model.weights[name] + np.float32(0.01)})


def variance_moved(model: Model) -> Model:
    """Batch statistics do not read it either."""
    name = first(model, "BatchNormalization").inputs[4]
    return model.with_weights({name: model.weights[name] * np.float32(1.01)})


def variance_rescaled(model: Model) -> Model:
    """Four times the variance and twice the scale: the same in eval mode, not with batch statistics."""
    node = first(model, "BatchNormalization")
    epsilon = np.float32(node.real("epsilon", 1e-5))
    variance = 4 * (model.weights[node.inputs[4]] + epsilon) - epsilon
    return model.with_weights({node.inputs[4]: variance, node.inputs[1]: 2 * model.weights[node.inputs[1]]})


TWINS: dict[Callable[[Model], Model], tuple[set[str], str]] = {
    head_moved: ({"eval", "batch statistics"}, "(Gemm)"),
    classes_swapped: ({"eval", "batch statistics"}, "(Gemm)"),
    pad_moved: ({"eval", "batch statistics"}, "no single op can be named"),
    mean_moved: ({"eval"}, "(BatchNormalization)"),
    variance_moved: ({"eval"}, "(BatchNormalization)"),
    variance_rescaled: ({"batch statistics"}, "(BatchNormalization)"),
}
"""What breaks a twin -> the modes in which it shows, and what is said of the place."""


@pytest.mark.parametrize("broken", TWINS, ids=lambda broken: broken.__name__)
def test_broken_twins_are_code_3(broken: Callable[[Model], Model], call: Call, original: Path, tmp_path: Path) -> None:
    onnx_file.write(broken(network()), tmp_path / "twin.onnx")
    before = contents(tmp_path)
    found = call("verify", original, "twin.onnx", "-o", "certificate.json")
    assert found.code == 3
    assert "twin does not compute the function of net" in found.err
    assert "differs" in found.out
    assert TWINS[broken][1] in found.err
    assert contents(tmp_path) == before
    spoken = call("verify", original, "twin.onnx", "--json")
    document = json.loads(spoken.out)
    assert spoken.code == document["exit_code"] == 3
    assert document["passed"] is False
    assert document["error"] in spoken.err
    assert {check["mode"] for check in document["checks"] if not check["passed"]} == TWINS[broken][0]


def test_swapped_classes_are_seen_in_the_share_of_the_same_class(call: Call, original: Path, tmp_path: Path) -> None:
    model = network()
    last = {name: np.roll(model.weights[name], 1, axis=0) for name in model.nodes[-1].inputs[1:]}
    onnx_file.write(model.with_weights(last), tmp_path / "twin.onnx")
    document = json.loads(call("verify", original, "twin.onnx", "--json").out)
    assert max(check["same_class"] for check in document["checks"]) < 1


def older(path: Path) -> Path:
    """The same network as another exporter writes it: an older opset, other names, weights as Constant nodes."""
    proto = onnx.version_converter.convert_version(onnx.load(path), 15)
    proto.ir_version = 8
    graph = proto.graph
    constants = [
        onnx.helper.make_node(
            "Constant", [], [f"w/{each.name}"], value=numpy_helper.from_array(numpy_helper.to_array(each))
        )
        for each in graph.initializer
    ]
    for node in graph.node:
        node.name = f"layer/{node.name}"
        given = {each.name for each in graph.initializer}
        node.input[:] = [f"w/{name}" if name in given else name for name in node.input]
    nodes = [*constants, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.node.extend(nodes)
    onnx.save(proto, path.with_name("older.onnx"))
    return path.with_name("older.onnx")


def test_equal_models_are_code_0_and_get_a_certificate(call: Call, original: Path, tmp_path: Path) -> None:
    other = older(original)
    found = call("verify", original, other, "--examples", "5", "--seed", "3", "-o", "certificate.json")
    assert found.code == 0, found.err
    assert not found.err
    assert "older computes the function of net: 4 checks" in found.out
    assert all(len(line.rstrip()) <= 100 for line in found.out.splitlines())
    document = json.loads((tmp_path / "certificate.json").read_text())
    certificate = Certificate.from_json(document)
    assert certificate.passed
    assert certificate.seed == 3
    assert certificate.sha256 == {"mother": file_hash(original), "member": file_hash(other)}
    assert {check.inputs: check.examples for check in certificate.checks} == {"random": 5, "extreme": 8}
    spoken = call("verify", original, other, "--examples", "5", "--seed", "3", "--json", "-q")
    assert json.loads(spoken.out) == document


def test_certificates_are_overwritten_with_force_only(call: Call, original: Path, tmp_path: Path) -> None:
    (tmp_path / "certificate.json").write_text("mine")
    refused = call("verify", original, original, "-o", "certificate.json")
    assert refused.code == 1
    assert "overwrite it with --force" in refused.err
    assert (tmp_path / "certificate.json").read_text() == "mine"
    assert call("verify", original, original, "-o", "certificate.json", "--force").code == 0
    assert json.loads((tmp_path / "certificate.json").read_text())["passed"] is True
    assert "the name of a model" in call("verify", original, original, "-o", original, "--force").err
    assert "is a folder" in call("verify", original, original, "-o", tmp_path, "--force").err


def test_real_examples_are_compared_with_data(call: Call, original: Path) -> None:
    document = json.loads(call("verify", original, original, "--data", "digits", "--examples", "7", "--json").out)
    sizes = {each["name"]: each["examples"] for each in document["inputs"]}
    assert sizes == {"random": 7, "extreme": 8, "training": 7, "validation": 7}
    assert all("digits" in each["made"] for each in document["inputs"] if each["name"] == "training")


def test_the_tolerance_and_the_precision_are_the_users(call: Call, original: Path, tmp_path: Path) -> None:
    onnx_file.write(head_moved(network()), tmp_path / "twin.onnx")
    assert call("verify", original, "twin.onnx", "--tolerance", "0.1").code == 0
    small = ("--precision", "float64", "--examples", "2", "--json")
    document = json.loads(call("verify", original, original, *small).out)
    assert (document["passed"], document["precision"]) == (True, "float64")
    for check in document["checks"]:
        assert check["tolerance"] == pytest.approx(1e-12 * max(1.0, check["scale"]))
    assert call("verify", original, "twin.onnx", *small).code == 3


@pytest.mark.parametrize(("size", "told"), [(1e-7, True), (1.0, False)])
def test_where_outputs_are_small_the_tolerance_is_said_to_say_little(
    size: float, told: bool, call: Call, original: Path, tmp_path: Path
) -> None:
    model = network()
    head = {name: model.weights[name] * np.float32(size) for name in model.nodes[-1].inputs[1:]}
    onnx_file.write(model.with_weights(head), tmp_path / "sized.onnx")
    found = call("verify", "sized.onnx", "sized.onnx", "--examples", "2")
    assert found.code == 0
    assert ("the tolerance says little" in found.out) == told


def test_what_cannot_be_compared_is_code_1(call: Call, original: Path, tmp_path: Path) -> None:
    onnx_file.write(resnet("other", [1], 4, 10, (3, 8, 8)), tmp_path / "other.onnx")
    found = call("verify", original, "other.onnx")
    assert found.code == 1
    assert "(batch, 1, 8, 8) float32 of net is 'input' (batch, 3, 8, 8) float32 in other" in found.err
    assert not found.out
    assert call("verify", original, "nowhere.onnx").code == 1
    assert json.loads(call("verify", original, "other.onnx", "--json").out)["exit_code"] == 1


def test_logits_alone_are_compared_on_request(call: Call, original: Path, tmp_path: Path) -> None:
    proto = onnx.load(original)
    (output,) = proto.graph.output
    proto.graph.node.append(onnx.helper.make_node("Softmax", [output.name], ["probabilities"], axis=1))
    output.name = "probabilities"
    onnx.save(proto, tmp_path / "head.onnx")
    refused = call("verify", original, "head.onnx")
    assert refused.code == 1
    assert "net ends in logits, head in Softmax" in refused.err
    assert call("verify", original, "head.onnx", "--logits").code == 0
    whole = json.loads(call("verify", "head.onnx", "head.onnx", "--json").out)
    assert {check["outputs"] for check in whole["checks"]} == {"logits", "probabilities"}
