"""Every op with a rule is trained through with right gradients: those of differences of the network as it came."""

from collections.abc import Mapping

import numpy as np
import pytest
from differences import Forward, along, by_runtime, counts_of, reference, runtime
from forms import BATCH, FORMS, Form, examples_of, model_of

from mnx.graphs.model import Array, Model
from mnx.graphs.ops.table import RULES
from mnx.graphs.statistics import with_batch_statistics
from mnx.graphs.verify import difference
from mnx.train.lint import REFUSED, VERIFIED, why_not
from mnx.train.lowering import LOWERINGS, lowered

IN_SINGLE = frozenset({"Erf", "Gelu", "GlobalLpPool", "GroupNormalization", "LRN"})
"""Ops that ONNX's reference implementation has not, or computes in float32."""
BY_REFERENCE = frozenset({("AveragePool", "ceil, pads counted")})
"""Here ONNX Runtime 1.19 counts places beyond the pads; the reference and torch do not."""
ROWS = [(op, form) for op in FORMS for form in FORMS[op]]
TOLERANCE = {False: 1e-5, True: 1e-3}
"""Of derivatives by float64 and by float32."""


def test_every_op_with_a_rule_has_a_row() -> None:
    assert set(RULES) == set(VERIFIED) == set(FORMS)
    assert set(LOWERINGS) <= set(VERIFIED)
    assert set(REFUSED) <= set(VERIFIED)


def floats_of(op: str, form: Form, model: Model) -> list[str]:
    """What gradients are taken by: inputs of floats, and weights; running statistics are not trained."""
    constant = {f"in{index}" for index, each in enumerate(form.inputs) if each and each.constant is not None}
    values = {**{port.name: port.dtype for port in model.inputs}, **{n: a.dtype for n, a in model.weights.items()}}
    names = [name for name, dtype in values.items() if dtype == np.float32 and name not in constant]
    return names[:3] if op == "BatchNormalization" else names


def ones_for_masks(model: Model) -> dict[str, Array]:
    return {mask.name: np.ones((BATCH, *mask.shape), np.float32) for mask in lowered(model).masks}


def oracle(op: str, form: str, model: Model, values: Mapping[str, Array]) -> tuple[Forward, bool]:
    """The network as it came: in float64 where ONNX's reference does what ONNX Runtime does, else in float32."""
    if (op, form) in BY_REFERENCE:
        return reference(model), False
    single = runtime(model)
    if op in IN_SINGLE:
        return single, True
    try:
        exact = reference(model)
        outputs = exact(values)
    except (ValueError, RuntimeError):
        return single, True
    agree = all(difference(array, outputs[name]).passed for name, array in single(values).items())
    return (exact, False) if agree else (single, True)


@pytest.mark.parametrize(("op", "form"), ROWS)
def test_gradients_are_those_of_differences(op: str, form: str) -> None:
    """Along two directions for every input and weight, and with the same outputs."""
    given = FORMS[op][form]
    model = model_of(op, given)
    assert not any(why_not(node, model) for node in model.nodes)
    before = with_batch_statistics(model) if op == "BatchNormalization" else model
    wanted = floats_of(op, given, model)
    examples = examples_of(given)
    values = {**examples, **{name: model.weights[name] for name in wanted if name in model.weights}}
    forward, single = oracle(op, form, before, values)
    body, masks = lowered(model).model, ones_for_masks(model)
    expected, outputs = forward(values), runtime(body)({**values, **masks})
    for name, array in expected.items():
        assert difference(array, outputs[name]).passed, name
    counts = counts_of(outputs)
    gradients = by_runtime(body, {**values, **masks}, counts, wanted) if wanted else {}
    for name in wanted:
        for seed in range(2):
            way = np.random.default_rng([3, seed]).standard_normal(values[name].shape)
            slope = np.array(along(forward, values, counts, {name: way}, single))
            found = difference(slope, np.array(np.sum(gradients[name] * way)), TOLERANCE[single])
            assert found.passed, (name, found)
