"""What cannot be differentiated is named before training starts: op, node, and why."""

import numpy as np
import pytest
from forms import FORMS, model_of

from mnx.errors import MnxError
from mnx.graphs.builder import Builder
from mnx.graphs.model import Array, Attribute, Model, Node, Port
from mnx.train.lint import undifferentiable, untrainable
from mnx.train.lowering import lowered
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings


def around(op: str, domain: str = "", more: tuple[Array, ...] = (), **attributes: Attribute) -> Model:
    """A linear layer, the op, a linear layer."""
    builder = Builder()
    random = np.random.default_rng(0)
    before = builder.weight("before", random.standard_normal((4, 6), np.float32))
    x = builder.add("Gemm", "x", before, transB=1)
    constants = [builder.weight(f"more{index}", array) for index, array in enumerate(more)]
    x = builder.add(op, x, *constants, name="odd", domain=domain, **attributes)
    builder.add(
        "Gemm", x, builder.weight("behind", random.standard_normal((3, 4), np.float32)), transB=1, outputs=["y"]
    )
    return builder.model("around", [Port("x", "float32", (6,))], [Port("y", "float32", (3,))])


def test_what_has_a_right_gradient_is_not_named() -> None:
    assert undifferentiable(around("Relu")) == []


def test_the_lint_names_what_it_cannot_differentiate() -> None:
    assert undifferentiable(around("Tan")) == [("odd", "Tan", "its gradient has not been verified")]
    assert [op for _, op, _ in undifferentiable(around("Relu", "com.example"))] == ["com.example.Relu"]
    assert "training mode" in undifferentiable(around("BatchNormalization", training_mode=1))[0][2]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (around("ReduceProd", keepdims=1), "over the batch"),
        (around("ReduceProd", more=(np.array([0, 1]),)), "over the batch"),
        (around("Resize", keep_aspect_ratio_policy="not_larger"), "aspect ratio"),
        (around("LSTM", layout=1), "layout 1"),
        (around("GRU", clip=1.0), "clips"),
        (around("RNN", activations=("Affine",)), "Affine"),
        (around("LSTM", more=(np.zeros(1, np.float32),) * 4), "lengths"),
    ],
)
def test_forms_without_a_right_gradient_are_named(model: Model, words: str) -> None:
    assert words in undifferentiable(model)[0][2]


def test_what_must_be_constant_is_named() -> None:
    model = around("Dropout")
    nodes = tuple(
        Node("odd", "Dropout", (*node.inputs, "x"), node.outputs) if node.name == "odd" else node
        for node in model.nodes
    )
    assert "computed" in undifferentiable(model.replace(nodes=nodes))[0][2]


def test_a_model_with_such_nodes_is_refused_with_all_their_names() -> None:
    model = around("Tan")
    twice = model.replace(nodes=(*model.nodes, Node("other", "Sinh", ("x",), ("unused",))))
    with pytest.raises(MnxError, match=r"around cannot be trained .*Tan \(node 'odd'\).*Sinh \(node 'other'\)"):
        Engine(twice, StepSettings(), threads=1)


def test_the_refusal_names_an_op_once_with_its_first_node() -> None:
    model = around("Tan")
    again = Node("again", "Tan", model.nodes[-1].outputs, ("more",))
    assert untrainable(model.replace(nodes=(*model.nodes, again))) == (
        "Tan (node 'odd', the first of 2): its gradient has not been verified"
    )


def test_what_only_prepares_context_needs_no_gradient() -> None:
    model = around("Relu")
    measured = Node("measured", "NonZero", (model.inputs[0].name,), ("sizes",))
    shape = Node("shape", "Shape", (model.inputs[0].name,), ("shape",))
    assert untrainable(model.replace(nodes=(shape, *model.nodes))) == ""
    assert untrainable(model.replace(nodes=(measured, *model.nodes))) != ""


def test_lowering_leaves_its_argument_alone() -> None:
    model = model_of("BatchNormalization", FORMS["BatchNormalization"]["images"])
    nodes, weights = model.nodes, dict(model.weights)
    changed = lowered(model)
    assert model.nodes == nodes and model.weights.keys() == weights.keys()
    assert all(model.weights[name] is array for name, array in weights.items())
    assert "BatchNormalization" not in {node.op for node in changed.model.nodes}


FLOAT, INT64 = 1, 7
STOPPING: dict[str, tuple[str, dict[str, Attribute]]] = {
    **{op: (op, {}) for op in ("Round", "Ceil", "Floor", "Sign")},
    "Cast": ("Cast", {"to": INT64}),
}


def stopped(op: str, beside: bool, **attributes: Attribute) -> Model:
    """A linear layer, an op that no gradient passes, with a way round it or none, a linear layer."""
    model = around(op, **attributes)
    inner, odd, last = model.nodes
    value = odd.outputs[0]
    nodes = [inner, odd]
    if op == "Cast":
        nodes.append(Node("back", "Cast", (value,), ("floats",), {"to": FLOAT}))
        value = "floats"
    if beside:
        nodes.append(Node("sum", "Add", (inner.outputs[0], value), ("added",)))
        value = "added"
    return model.replace(nodes=(*nodes, Node("last", "Gemm", (value, *last.inputs[1:]), last.outputs, {"transB": 1})))


@pytest.mark.parametrize("name", STOPPING)
def test_what_keeps_parameters_from_the_loss_is_named(name: str) -> None:
    op, attributes = STOPPING[name]
    model = stopped(op, beside=False, **attributes)
    (before,) = (weight for weight in model.nodes[0].inputs if weight in model.weights)
    words = f"no gradient passes it, so that {before} would never be trained"
    assert undifferentiable(model) == [("odd", op, words)]
    with pytest.raises(MnxError, match=rf"around cannot be trained yet: {op} \(node 'odd'\): no gradient passes it"):
        Engine(model, StepSettings(), threads=1)


@pytest.mark.parametrize("name", STOPPING)
def test_it_may_stand_beside_a_way_to_the_loss(name: str) -> None:
    op, attributes = STOPPING[name]
    model = stopped(op, beside=True, **attributes)
    assert undifferentiable(model) == []
    engine = Engine(model, StepSettings(), threads=1)
    x = np.random.default_rng(1).standard_normal((8, 6)).astype(np.float32)
    engine.step(x, np.arange(8) % 3, 0.1)
    state = engine.state()
    assert all(not np.array_equal(state[f"weight/{key}"], model.weights[key]) for key in model.weights)


def test_a_cast_between_floats_passes_gradients() -> None:
    assert undifferentiable(around("Cast", to=FLOAT)) == []
