"""What the rules of ops claim of functions is true of numbers, and a growth that believes a false claim is caught."""

import numpy as np
import pytest
from op_networks import BODIES, ELEMENTWISE, NETWORKS, batch_of, network_of

from mnx.graphs.model import Model
from mnx.graphs.ops.rule import ANY
from mnx.graphs.run import ALL, run
from mnx.graphs.trees.describe import describe

LOW, HIGH = "b = Exp (a) b2 = Neg (b) b3 = Sub (b2, half)", "b = Exp (a) b3 = Add (b, half)"
"""What makes all that arrives negative, or positive."""

EDGES = {
    "LeakyRelu": "c = LeakyRelu <alpha = -0.5> (a)",
    "Elu": "c = Elu <alpha = -1.0> (a)",
    "Celu": "c = Celu <alpha = 0.3> (a)",
    "Selu": "c = Selu <alpha = -1.0> (a)",
    "ThresholdedRelu": "c = ThresholdedRelu <alpha = -1.0> (a)",
    "HardSigmoid": "c = HardSigmoid <alpha = -2.0, beta = 3.0> (a)",
    "Clip": "b = Softplus (a) b2 = Add (b, two) c = Clip (b2, zero, tenth)",
    "AveragePool": f"{HIGH} c = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (b3)",
    "MaxPool": f"{LOW} c = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (b3)",
    "Pad": "b = Exp (a) c = Pad (b, around, less)",
    "GlobalMaxPool": f"{LOW} c = GlobalMaxPool (b3)",
    "Mul": "b = Conv (x, s, sb) b2 = Neg (b) c = Mul (b, b2)",
}
"""Attributes and values at which a range is easily told wrong."""


def checked_ranges(model: Model) -> int:
    """Every op gives what its rule says of the numbers that arrive; how many rules say anything."""
    said, values = 0, dict(run(model, batch_of(model, 1, 30), ALL))
    values |= {port.name: batch_of(model, 1, 30) for port in model.inputs}
    for op in describe(model).ops():
        arriving = [values[op.site.node.inputs[read]] for read in op.reads]
        if any(not np.isfinite(value).all() or value.dtype.kind != "f" for value in (*arriving, values[op.value])):
            continue
        low, high = op.rule.range(op.site, [(float(value.min()), float(value.max())) for value in arriving])
        slack = 1e-6 * max([1.0, *(float(np.abs(value).max()) for value in arriving)])
        assert low - slack <= values[op.value].min(), op.site.where
        assert values[op.value].max() <= high + slack, op.site.where
        said += (low, high) != ANY
    return said


@pytest.mark.parametrize("name", NETWORKS)
def test_results_lie_in_the_range_that_the_rule_gives(name: str) -> None:
    checked_ranges(network_of(name))


@pytest.mark.parametrize("name", EDGES)
def test_results_at_the_edges_lie_in_the_range_that_the_rule_gives(name: str) -> None:
    checked_ranges(network_of(name, EDGES[name], 8))


@pytest.mark.parametrize("before", [LOW, HIGH])
@pytest.mark.parametrize("op", [*ELEMENTWISE, "PRelu", "Clip"])
def test_results_of_one_sign_lie_in_the_range_that_the_rule_gives(op: str, before: str) -> None:
    model = network_of(op, f"{before} {BODIES[op].replace('(a', '(b3')}")
    for sign in (1.0, -1.0) if op == "PRelu" else (1.0,):
        scaled = {name: sign * array for name, array in model.weights.items() if array.shape == (8, 1, 1)}
        assert checked_ranges(model.with_weights(scaled))
