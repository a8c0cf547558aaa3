"""Whether two models compute one function: which may be compared, what is compared, what is said where they differ."""

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import helper
from reading import network
from strategies import Array, trained

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.certificate import EVAL, STATISTICS, Certificate
from mnx.graphs.equivalence import equivalence, first_difference
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.onnx_file import to_proto
from mnx.graphs.probes import EXTREME, RANDOM, Probe, probes
from mnx.graphs.verify import TOLERANCE, TOLERANCE_FLOAT64
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.vgg import vgg

SOFTMAX = """net (float[N,4] x, float[5,4] w, float[5] b, float[3,5] v) => (float[N,3] {y}) {{
    h = Gemm <transB = 1> (x, w, b)
    r = Relu (h)
    s = Gemm <transB = 1> (r, v)
    {y} = {op}Softmax (s)
}}"""

TWO_INPUTS = """net ({inputs}, float[3,4] w, float[3,2] v) => (float[N,3] y) {{
    a = Gemm <transB = 1> ({first}, w)
    b = Gemm <transB = 1> ({second}, v)
    y = Add (a, b)
}}"""


def read(text: str, name: str = "net") -> Model:
    return canonicalise(network(text), name)


def small(name: str = "small", *, batch_norm: bool = True) -> Model:
    return trained(vgg(name, [[(3, 4), (3, 4)]], 3, (2, 6, 6), [5], batch_norm=batch_norm))


def compared(left: Model, right: Model, **options: float | str | bool) -> Certificate:
    return equivalence(left, right, probes(left, 0), **options)  # type: ignore[arg-type]


def outcome(certificate: Certificate) -> dict[tuple[str, str, str], bool]:
    return {(c.inputs, c.mode, c.outputs): c.difference.passed for c in certificate.checks}


def renamed(model: Model) -> Model:
    """The model with other names of values and nodes, written by another hand."""
    proto = to_proto(model, include_ends=True)
    values = {name for node in proto.graph.node for name in (*node.input, *node.output) if name}
    new = {name: f"value/{place}" for place, name in enumerate(sorted(values))}
    for node in proto.graph.node:
        node.name = f"other/{node.name}"
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new[name] for name in node.output]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.name = new[value.name]
    return canonicalise(proto, "renamed")


def channels_last(model: Model) -> Model:
    """The model as it takes images with channels last."""
    proto = to_proto(model, include_ends=True)
    (image,) = proto.graph.input
    name, (batch, *shape) = image.name, [axis.dim_value for axis in image.type.tensor_type.shape.dim]
    del batch
    last = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", *shape[1:], shape[0]])
    nodes = [helper.make_node("Transpose", ["image"], [name], perm=[0, 3, 1, 2]), *proto.graph.node]
    del proto.graph.node[:], proto.graph.input[:]
    proto.graph.node.extend(nodes)
    proto.graph.input.append(last)
    return canonicalise(proto, "last")


def moved(model: Model, part: str, by: float, among: tuple[str, ...] = ("BatchNormalization",)) -> Model:
    """The model with a number added to one parameter of its first node of such an op."""
    place = {"scale": 1, "shift": 2, "mean": 3, "variance": 4, "bias": 2}[part]
    name = next(node.inputs[place] for node in model.nodes if node.op in among)
    return model.with_weights({name: model.weights[name] + np.float32(by)})


def test_a_model_is_itself_under_other_names_and_layouts() -> None:
    model = small()
    for other in (model, renamed(model), channels_last(model)):
        found = compared(model, other)
        assert found.passed
        assert set(outcome(found)) == {(n, mode, "logits") for n in (RANDOM, EXTREME) for mode in (EVAL, STATISTICS)}
        assert all(check.binding and check.same_class == 1 for check in found.checks)
    assert compared(channels_last(model), model).passed


def test_statistics_that_only_eval_mode_reads_are_seen_there() -> None:
    model = small()
    for part in ("mean", "variance"):
        found = compared(model, moved(model, part, 0.1))
        assert not found.passed
        assert outcome(found) == {
            (name, mode, "logits"): mode == STATISTICS for name in (RANDOM, EXTREME) for mode in (EVAL, STATISTICS)
        }


def rescaled(model: Model) -> Model:
    """The model with every first variance four times as large, and its scale twice: equal in eval mode alone."""
    node = next(node for node in model.nodes if node.op == "BatchNormalization")
    variance, scale = model.weights[node.inputs[4]], model.weights[node.inputs[1]]
    epsilon = np.float32(node.real("epsilon", 1e-5))
    return model.with_weights({node.inputs[4]: 4 * (variance + epsilon) - epsilon, node.inputs[1]: 2 * scale})


def test_what_only_batch_statistics_show_is_seen_there() -> None:
    model = small()
    found = compared(model, rescaled(model))
    assert not found.passed
    assert {key[:2]: passed for key, passed in outcome(found).items()} == {
        (name, mode): mode == EVAL for name in (RANDOM, EXTREME) for mode in (EVAL, STATISTICS)
    }


def folded(model: Model) -> Model:
    """The model with every BatchNormalization behind a Conv folded into it."""
    weights, nodes, gone = dict(model.weights), [], {}
    makers = model.producers()
    for node in model.nodes:
        inputs = tuple(gone.get(name, name) for name in node.inputs)
        before = makers.get(node.inputs[0])
        if node.op != "BatchNormalization" or before is None or before.op != "Conv":
            nodes.append(type(node)(node.name, node.op, inputs, node.outputs, node.attributes))
            continue
        scale, shift, mean, variance = (weights[name].astype(np.float64) for name in node.inputs[1:])
        factor = scale / np.sqrt(variance + node.real("epsilon", 1e-5))
        kernel = weights[before.inputs[1]].astype(np.float64)
        weights[before.inputs[1]] = (kernel * factor[:, None, None, None]).astype(np.float32)
        bias = f"{before.name}.folded"
        weights[bias] = (shift - mean * factor).astype(np.float32)
        nodes[-1] = type(before)(before.name, "Conv", (*nodes[-1].inputs[:2], bias), before.outputs, before.attributes)
        gone[node.outputs[0]] = before.outputs[0]
    used = {name for node in nodes for name in node.inputs}
    kept = {name: array for name, array in weights.items() if name in used}
    return model.replace(nodes=tuple(nodes), weights=kept)


def test_where_normalisation_was_folded_batch_statistics_are_reported_only() -> None:
    model = small()
    found = compared(model, folded(model))
    assert found.passed
    assert [check.binding for check in found.checks] == [True, False] * 2
    assert not any(check.difference.passed for check in found.checks if not check.binding)


def test_float64_shows_the_rounding_of_folded_weights() -> None:
    model = small(batch_norm=True)
    found = compared(model, folded(model), precision="float64")
    assert not found.passed
    assert TOLERANCE_FLOAT64 == 1e-12
    assert all(1e-12 < c.difference.relative < TOLERANCE for c in found.checks if c.binding)
    itself = compared(model, renamed(model), precision="float64")
    assert itself.passed and itself.precision == "float64"
    assert compared(model, folded(model), precision="float64", tolerance=1e-6).passed


def test_the_tolerance_is_the_users() -> None:
    model = small(batch_norm=False)
    other = moved(model, "bias", 1e-3, ("Conv",))
    assert not compared(model, other).passed
    assert compared(model, other, tolerance=0.1).passed


def test_what_stands_behind_the_logits_is_compared_too() -> None:
    left, right = read(SOFTMAX.format(y="p", op="")), read(SOFTMAX.format(y="q", op=""))
    found = compared(left, right)
    assert found.passed
    assert {check.outputs for check in found.checks} == {"logits", "p"}
    assert {check.outputs for check in compared(left, right, ends=False).checks} == {"logits"}


def test_other_ends_are_refused_unless_logits_alone_are_asked_for() -> None:
    left, right = read(SOFTMAX.format(y="p", op=""), "a"), read(SOFTMAX.format(y="p", op="Log"), "b")
    with pytest.raises(GraphError, match=r"a ends in Softmax, b in LogSoftmax.*--logits compares what stands before"):
        compared(left, right)
    assert compared(left, right, ends=False).passed


LABELS = """net (float[N,4] x, float[3,4] w) => (int64[N] label, float[N,3] p) {
    s = Gemm <transB = 1> (x, w)
    label = ArgMax <axis = 1, keepdims = 0> (s)
    p = Softmax (s)
}"""


def test_labels_agree_or_do_not_and_a_tie_is_either() -> None:
    model = read(LABELS)
    name = model.nodes[-1].inputs[1]
    weights = model.weights[name]
    tied = model.with_weights({name: np.stack([weights[0], weights[0], weights[2]])})
    other = model.with_weights({name: np.stack([weights[0], weights[0] + np.float32(1e-7), weights[2]])})
    found = compared(tied, other)
    assert found.passed
    labels = [check for check in found.checks if check.outputs == "label"]
    assert len(labels) == 2
    assert min(check.same_class or 0 for check in labels) < 1
    swapped = compared(model, model.with_weights({name: weights[[1, 0, 2]]}))
    assert not any(check.difference.passed for check in swapped.checks if check.outputs == "label")


def test_inputs_are_matched_by_name_else_by_position() -> None:
    one = read(TWO_INPUTS.format(inputs="float[N,4] xa, float[N,2] xb", first="xa", second="xb"))
    turned = read(TWO_INPUTS.format(inputs="float[N,2] xb, float[N,4] xa", first="xa", second="xb"))
    other = read(TWO_INPUTS.format(inputs="float[N,4] xc, float[N,2] xd", first="xc", second="xd"))
    assert compared(one, turned).passed
    assert compared(turned, one).passed
    assert compared(one, other).passed


def test_what_cannot_be_compared_is_refused_with_the_place() -> None:
    model = small("a")
    with pytest.raises(
        GraphError, match=r"input '.*' \(batch, 2, 6, 6\) float32 of a is '.*' \(batch, 4\) float32 in b"
    ):
        compared(model, mlp("b", 4, (3,), 3))
    with pytest.raises(GraphError, match=r"a gives .*\(batch, 3\) float32 where b gives .*\(batch, 4\) float32"):
        compared(model, vgg("b", [[(3, 4)]], 4, (2, 6, 6), [5]))
    two = read(TWO_INPUTS.format(inputs="float[N,4] xa, float[N,2] xb", first="xa", second="xb"))
    with pytest.raises(GraphError, match=r"net has the inputs xa, xb, b has .*"):
        compared(two, mlp("b", 4, (3,), 3))
    with pytest.raises(GraphError, match="without examples"):
        equivalence(model, model, {})
    with pytest.raises(GraphError, match="without examples"):
        equivalence(model, model, {"real": Probe(np.zeros((0, 2, 6, 6), np.float32), "")})


def reason(left: Model, right: Model) -> str:
    found: Mapping[str, Probe] = probes(left, 0)
    return first_difference(left, right, equivalence(left, right, found), found)


def test_the_first_op_that_differs_is_named_where_the_structures_are_the_same() -> None:
    model = small()
    other = renamed(model)
    (head,) = [node.name for node in other.nodes][-1:]
    weights: dict[str, Array] = {other.nodes[-1].inputs[1]: other.weights[other.nodes[-1].inputs[1]] + np.float32(1e-2)}
    assert reason(model, other.with_weights(weights)) == f"the first that differs is node '{head}' (Gemm)"
    first = next(node for node in other.nodes if node.op == "BatchNormalization")
    broken = moved(other, "mean", 0.1)
    assert reason(model, broken) == f"the first that differs is node '{first.name}' (BatchNormalization)"
    assert reason(model, folded(broken)) == ""
    assert reason(model, other) == ""
