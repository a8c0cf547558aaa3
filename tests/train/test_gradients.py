"""Every op that may be trained through has right gradients: those of torch, in every form that a model may use."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from mnx.errors import MnxError
from mnx.graphs.builder import Builder
from mnx.graphs.model import Attribute, Model, Node, Port
from mnx.graphs.shapes import shapes
from mnx.train.lint import VERIFIED, undifferentiable, untrainable
from mnx.train.lowering import draw_masks, lowered
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings

pytest.importorskip("torch")

from torch_twin import Twin

TOLERANCE = 2e-6
PLAIN = StepSettings(momentum=0.0)
CLASSES = 5


def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(shape).standard_normal(shape, np.float32) / np.float32(np.prod(shape[1:]) ** 0.5)


def conv(builder: Builder, x: str, into: int, out: int, bias: bool = True, **changes: Attribute) -> str:
    attributes: dict[str, Attribute] = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": 1}
    attributes |= {"kernel_shape": (3, 3), **changes}
    group = attributes["group"]
    assert isinstance(group, int)
    weights = [builder.weight("conv.weight", normal(out, into // group, 3, 3))]
    if bias:
        weights.append(builder.weight("conv.bias", normal(out)))
    return builder.add("Conv", x, *weights, **attributes)


def pool(op: str, **changes: Attribute) -> Callable[[Builder, str], str]:
    attributes: dict[str, Attribute] = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "ceil_mode": 0}
    attributes |= changes
    return lambda builder, x: builder.add(op, x, **attributes)


def clip(low: float | None, high: float | None) -> Callable[[Builder, str], str]:
    def add(builder: Builder, x: str) -> str:
        bounds = [builder.weight("bound", np.array(value, np.float32)) for value in (low, high) if value is not None]
        return builder.add("Clip", x, *([] if low is not None else [""]), *bounds)

    return add


def batch_normalization(builder: Builder, x: str) -> str:
    parts = {"scale": normal(4), "shift": normal(4), "mean": normal(4), "variance": np.abs(normal(4))}
    weights = [builder.weight(name, array) for name, array in parts.items()]
    return builder.add("BatchNormalization", x, *weights, epsilon=1e-4, momentum=0.8)


def gate(builder: Builder, x: str) -> str:
    return builder.add("Mul", x, builder.add("Sigmoid", builder.add("GlobalAveragePool", x)))


def with_flat(builder: Builder, x: str, bias: bool) -> str:
    flat = builder.add("Flatten", x, axis=1)
    weights = [builder.weight("hidden.weight", normal(6, 4 * 49))]
    if bias:
        weights.append(builder.weight("hidden.bias", normal(6)))
    return builder.add("Gemm", flat, *weights, transB=1)


FORMS: Mapping[str, Mapping[str, Callable[[Builder, str], str]]] = {
    "Add": {
        "branches": lambda b, x: b.add("Add", x, b.add("Tanh", x)),
        "twice the same": lambda b, x: b.add("Add", x, x),
        "broadcast": lambda b, x: b.add("Add", x, b.add("GlobalAveragePool", x)),
    },
    "AveragePool": {
        "aligned": pool("AveragePool", kernel_shape=(2, 2), pads=(0, 0, 0, 0)),
        "padded": pool("AveragePool", count_include_pad=0),
        "pads counted": pool("AveragePool", count_include_pad=1),
        "ceil": pool("AveragePool", kernel_shape=(2, 2), pads=(0, 0, 0, 0), ceil_mode=1),
        "ceil, pads counted": pool("AveragePool", kernel_shape=(4, 4), ceil_mode=1, count_include_pad=1),
        "not square": pool("AveragePool", kernel_shape=(3, 2), strides=(1, 2), pads=(1, 0, 1, 0)),
    },
    "BatchNormalization": {
        "images": batch_normalization,
        "no bias before": lambda b, x: batch_normalization(b, conv(b, x, 4, 4, bias=False)),
    },
    "Clip": {"both": clip(-0.2, 0.3), "low": clip(0.1, None), "high": clip(None, 0.1)},
    "Concat": {
        "two": lambda b, x: b.add("Concat", x, b.add("Tanh", x), axis=1),
        "three, one twice": lambda b, x: b.add("Concat", x, b.add("Tanh", x), x, axis=1),
    },
    "Conv": {
        "plain": lambda b, x: conv(b, x, 4, 6),
        "no bias": lambda b, x: conv(b, x, 4, 6, bias=False),
        "strides": lambda b, x: conv(b, x, 4, 6, strides=(2, 2), pads=(0, 0, 1, 1)),
        "dilations": lambda b, x: conv(b, x, 4, 6, dilations=(2, 2)),
        "groups": lambda b, x: conv(b, x, 4, 6, group=2),
        "depthwise": lambda b, x: conv(b, x, 4, 4, group=4),
    },
    "Dropout": {"half": lambda b, x: b.add("Dropout", x, b.weight("ratio", np.array(0.5, np.float32)), name="drop")},
    "Flatten": {"plain": lambda b, x: b.add("Flatten", x, axis=1)},
    "Gemm": {"bias": lambda b, x: with_flat(b, x, True), "no bias": lambda b, x: with_flat(b, x, False)},
    "GlobalAveragePool": {"plain": lambda b, x: b.add("GlobalAveragePool", x)},
    "LeakyRelu": {"plain": lambda b, x: b.add("LeakyRelu", x, alpha=0.2)},
    "MaxPool": {
        "aligned": pool("MaxPool", kernel_shape=(2, 2), pads=(0, 0, 0, 0)),
        "overlapping": pool("MaxPool"),
        "ceil": pool("MaxPool", kernel_shape=(2, 2), pads=(0, 0, 0, 0), ceil_mode=1),
        "ties": lambda b, x: pool("MaxPool")(b, b.add("Relu", x)),
    },
    "Mul": {
        "branches": lambda b, x: b.add("Mul", x, b.add("Tanh", x)),
        "square": lambda b, x: b.add("Mul", x, x),
        "gate": gate,
    },
    "Relu": {"plain": lambda b, x: b.add("Relu", x)},
    "Sigmoid": {"plain": lambda b, x: b.add("Sigmoid", x)},
    "Tanh": {"plain": lambda b, x: b.add("Tanh", x)},
}


def around(form: Callable[[Builder, str], str]) -> Model:
    """A convolution, the form, and a linear layer to the logits: gradients must pass through to the first weights."""
    builder = Builder()
    x = form(builder, conv(builder, "x", 3, 4))
    if builder.nodes[-1].op not in ("Flatten", "Gemm"):
        x = builder.add("Flatten", x, axis=1)
    features = shapes(builder.model("features", [Port("x", "float32", (3, 7, 7))], []), 2)[x][1]
    builder.add(
        "Gemm", x, builder.weight("w", normal(CLASSES, features)), builder.weight("b", normal(CLASSES)), transB=1
    )
    logits = builder.nodes[-1].outputs[0]
    return builder.model("around", [Port("x", "float32", (3, 7, 7))], [Port(logits, "float32", (CLASSES,))])


def test_every_verified_op_has_a_row() -> None:
    assert set(FORMS) == set(VERIFIED)


@pytest.mark.parametrize(("op", "form"), [(op, form) for op in FORMS for form in FORMS[op]])
def test_gradients_are_those_of_torch(op: str, form: str) -> None:
    """One plain step at learning rate 1 moves every weight by its gradient."""
    model = around(FORMS[op][form])
    assert any(node.op == op for node in model.nodes)
    x = np.random.default_rng(1).standard_normal((6, 3, 7, 7), np.float32)
    y = np.arange(6) % CLASSES
    engine, twin = Engine(model, PLAIN, threads=1), Twin(model, PLAIN, 1.0)
    masks = lowered(model).masks
    drawn = draw_masks(masks, 6, seed=0, step=0)
    engine.step(x, y, 1.0)
    twin.step(x, y, 1.0, dict(zip(["drop"], drawn.values(), strict=False)))
    expected = twin.weights()
    for name, array in engine.model().weights.items():
        if name in expected:
            np.testing.assert_allclose(array, expected[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


def test_a_wrong_gradient_is_caught() -> None:
    """The broken twin: pads counted on one side only."""
    ours, other = (around(FORMS["AveragePool"][form]) for form in ("padded", "pads counted"))
    x = np.random.default_rng(1).standard_normal((6, 3, 7, 7), np.float32)
    engine, twin = Engine(ours, PLAIN, threads=1), Twin(other, PLAIN, 1.0)
    engine.step(x, np.arange(6) % CLASSES, 1.0)
    twin.step(x, np.arange(6) % CLASSES, 1.0)
    gap = np.abs(engine.model().weights["conv.weight"] - twin.weights()["conv.weight"]).max()
    assert gap > 100 * TOLERANCE


def with_node(op: str, domain: str = "", **attributes: Attribute) -> Model:
    model = around(FORMS["Relu"]["plain"])
    odd = next(node for node in model.nodes if node.op == "Relu")
    changed = Node("odd", op, odd.inputs, odd.outputs, attributes, domain)
    return model.replace(nodes=tuple(changed if node is odd else node for node in model.nodes))


def test_the_lint_names_what_it_cannot_differentiate() -> None:
    assert undifferentiable(around(FORMS["Relu"]["plain"])) == []
    assert undifferentiable(with_node("Elu")) == [("odd", "Elu", "its gradient has not been verified")]
    assert [op for _, op, _ in undifferentiable(with_node("Relu", "com.example"))] == ["com.example.Relu"]
    assert "SAME_UPPER" in undifferentiable(with_node("MaxPool", auto_pad="SAME_UPPER"))[0][2]
    assert "training mode" in undifferentiable(with_node("BatchNormalization", training_mode=1))[0][2]


def test_a_model_with_such_nodes_is_refused_with_all_their_names() -> None:
    model = with_node("Elu")
    twice = model.replace(nodes=(*model.nodes, Node("other", "Selu", ("x",), ("unused",))))
    with pytest.raises(MnxError, match=r"around cannot be trained .*Elu \(node 'odd'\).*Selu \(node 'other'\)"):
        Engine(twice, PLAIN, threads=1)


def test_lowering_leaves_its_argument_alone() -> None:
    model = around(FORMS["BatchNormalization"]["images"])
    nodes, weights = model.nodes, dict(model.weights)
    changed = lowered(model)
    assert model.nodes == nodes and model.weights.keys() == weights.keys()
    assert all(model.weights[name] is array for name, array in weights.items())
    assert "BatchNormalization" not in {node.op for node in changed.model.nodes}


def test_the_refusal_names_an_op_once_with_its_first_node() -> None:
    model = with_node("Elu")
    again = Node("again", "Elu", model.nodes[-1].outputs, ("more",))
    assert untrainable(model.replace(nodes=(*model.nodes, again))) == (
        "Elu (node 'odd', the first of 2): its gradient has not been verified"
    )


def test_what_only_prepares_context_needs_no_gradient() -> None:
    model = with_node("Relu")
    measured = Node("measured", "Shape", (model.inputs[0].name,), ("sizes",))
    assert untrainable(model.replace(nodes=(measured, *model.nodes))) == ""
