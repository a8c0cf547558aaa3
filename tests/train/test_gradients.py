"""Every op with a rule has torch's gradients, in every form that a model may use."""

from collections.abc import Mapping

import numpy as np
import pytest
from differences import by_runtime, counts_of
from forms import BATCH, CORNERS, FORMS, Form, examples_of, floats_of, model_of

from mnx.graphs.model import Array, Model
from mnx.graphs.verify import difference
from mnx.train.lowering import draw_masks, lowered

pytest.importorskip("torch")

import torch
from torch_ops import OPS, apply

ELSEWHERE = frozenset({("Resize", "nearest, floor"), ("Resize", "nearest, smaller"), ("LRN", "three")})
"""Forms that torch has not: it places numbers otherwise."""
ROWS = [(op, form) for op in FORMS for form in FORMS[op] if (op, form) not in ELSEWHERE]


def drawn(model: Model) -> dict[str, Array]:
    return draw_masks(lowered(model).masks, BATCH, seed=0, step=0)


def by_torch(
    model: Model, values: Mapping[str, Array], masks: Mapping[str, Array], wanted: list[str]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Outputs, and gradients of their sum times `counts_of`, by the wanted values."""
    known = {name: torch.tensor(array) for name, array in {**model.weights, **values}.items()}
    for name in wanted:
        known[name].requires_grad_()
    for node in model.nodes:
        inputs = [known.get(name) for name in node.inputs]
        made = apply(node, inputs, {node.name: next(iter(masks.values()))} if masks else {})
        known |= {
            name: value
            for name, value in zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=False)
            if name
        }
    outputs = {port.name: known[port.name].detach().numpy() for port in model.outputs}
    total = sum((known[name] * torch.tensor(count)).sum() for name, count in counts_of(outputs).items())
    total = total + sum(0 * known[name].sum() for name in wanted)
    gradients = torch.autograd.grad(total, [known[name] for name in wanted])
    return outputs, {name: array.numpy() for name, array in zip(wanted, gradients, strict=True)}


def gradients(op: str, form: Form, other: Form | None = None) -> list[tuple[str, Array, Array]]:
    """(name, torch's, ours) for every input and weight; `other` is what we differentiate, where it is another form."""
    model, ours = model_of(op, form), model_of(op, other or form)
    wanted, masks = floats_of(op, form, model), drawn(model)
    values = {**examples_of(form), **{name: model.weights[name] for name in wanted if name in model.weights}}
    outputs, expected = by_torch(model, values, masks, wanted)
    found = by_runtime(lowered(ours).model, {**values, **masks}, counts_of(outputs), wanted)
    return [(name, expected[name], found[name]) for name in wanted]


def test_every_op_has_its_function_in_torch() -> None:
    assert set(OPS) - {"Shape"} | {"Dropout"} == set(FORMS)


@pytest.mark.parametrize(("op", "form"), ROWS)
def test_gradients_are_those_of_torch(op: str, form: str) -> None:
    if not floats_of(op, FORMS[op][form], model_of(op, FORMS[op][form])):
        return
    for name, expected, found in gradients(op, FORMS[op][form]):
        assert difference(expected, found).passed, (name, difference(expected, found))


@pytest.mark.parametrize("op", CORNERS)
def test_the_derivative_at_a_corner_is_that_of_torch(op: str) -> None:
    for form in CORNERS[op].values():
        for name, expected, found in gradients(op, form):
            assert difference(expected, found).passed, (name, expected, found)


@pytest.mark.parametrize(
    ("op", "form", "other"),
    [
        ("AveragePool", "padded", "pads counted"),
        ("ConvTranspose", "same, upper", "same, lower"),
        ("Gelu", "by tanh", "by erf"),
        ("GRU", "forward", "forward, reset last"),
        ("LSTM", "forward", "reverse"),
        ("Resize", "linear, twice", "linear, corners"),
    ],
)
def test_a_wrong_gradient_is_caught(op: str, form: str, other: str) -> None:
    """Broken twins: another form in place of the right one."""
    given = FORMS[op][form]
    assert not all(difference(expected, found).passed for _, expected, found in gradients(op, given, FORMS[op][other]))
    assert np.all([difference(expected, found).passed for _, expected, found in gradients(op, given)])
