"""What the rules of ops claim of functions is true of numbers, and a growth that believes a false claim is caught."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from activated import perceptron
from hand_made import Net
from op_networks import BODIES, ELEMENTWISE, FLATTENED, NETWORKS, ON_TOKENS, batch_of, hatches, network_of, op_of
from reading import network
from strategies import Array, trained

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.model import Model
from mnx.graphs.ops.rule import ANY, EVERY, Keeps, Line, no_line, no_mirror, unknown, unsigned
from mnx.graphs.ops.table import RULES
from mnx.graphs.run import ALL, run
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op
from mnx.graphs.verify import difference
from mnx.graphs.zoo import layers

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


def function(op: str, attributes: str = "") -> tuple[Op, Callable[[Array], Array]]:
    """An op of one value by itself, and what it computes."""
    model = canonicalise(network(f"g (float[batch, 4] x) => (float[batch, 4] y) {{ y = {op} {attributes} (x) }}"), "g")
    (node,) = describe(model).ops()
    return node, lambda x: next(iter(run(model, x.astype(np.float32).reshape(-1, 4)).values())).reshape(-1)


ALONE = [(op, "") for op in ELEMENTWISE]
ALONE += [("Elu", "<alpha = 2.0>"), ("Celu", "<alpha = 2.0>"), ("LeakyRelu", "<alpha = 0.3>")]
ALONE += [("Selu", "<gamma = 2.0>"), ("Gelu", '<approximate = "tanh">'), ("ThresholdedRelu", "<alpha = 0.5>")]
GRID = np.linspace(-30, 30, 2400)


@pytest.mark.parametrize(("op", "attributes"), ALONE)
def test_functions_are_odd_straight_and_small_where_the_rule_says_so(op: str, attributes: str) -> None:
    node, f = function(op, attributes)
    rule, site = node.rule, node.site
    assert rule.keeps_zero == (float(np.abs(f(np.zeros(4))).max()) == 0)
    if rule.mirror(site):
        assert difference(rule.mirror(site) * GRID, f(GRID) - f(-GRID)).passed
    line = rule.line(site)
    if line is not None:
        straight = np.clip(np.linspace(line.low, line.low + 50, 400), line.low, line.high)
        assert difference(line.gain * straight, f(straight)).passed
    if rule.near_zero:
        small = np.linspace(1e-3, 1e-1, 400)
        assert (np.abs(f(small) / small - 1) <= small**2).all()


MOVING = [name for name in NETWORKS if name not in ("Gather", "Expand, of a parameter")]


def between(op: Op, model: Model, value: Array) -> Array:
    """What an op of a network gives for other values than arrive."""
    nodes = [node for node in model.nodes if node.name == op.name]
    port = replace(model.inputs[0], name=op.site.node.inputs[op.reads[0]], shape=value.shape[1:])
    alone = model.replace(
        nodes=tuple(nodes),
        inputs=(port,),
        outputs=(replace(model.outputs[0], name=op.value, shape=op.site.outputs[0][1:]),),
        weights={name: model.weights[name] for name in nodes[0].inputs if name in model.weights},
        head=(),
    )
    return next(iter(run(alone, value).values()))


@pytest.mark.parametrize("name", MOVING)
def test_what_an_op_keeps_of_its_values_it_keeps(name: str) -> None:
    model = network_of(name)
    for op in describe(model).ops():
        keeps = op.rule.keeps(op.site)
        if not keeps or len(op.reads) != 1 or op.parameters or op.site.shapes[op.reads[0]][0] < 100:
            continue
        random = np.random.default_rng(0)
        x, y = (random.standard_normal((7, *op.site.shapes[op.reads[0]][1:]), np.float32) for _ in range(2))
        if Keeps.ADDS in keeps:
            assert difference(between(op, model, x) + between(op, model, y), between(op, model, x + y)).passed
        if Keeps.SCALES in keeps:
            assert difference(np.float32(3) * between(op, model, x), between(op, model, np.float32(3) * x)).passed
        if Keeps.MOVES in keeps:
            assert difference(between(op, model, x) + np.float32(2), between(op, model, x + np.float32(2))).passed


def claimed(op: str, monkeypatch: pytest.MonkeyPatch, **claims: Any) -> None:
    """The rule of an op claims something else."""
    monkeypatch.setitem(RULES, op, replace(RULES[op], **claims))  # type: ignore[arg-type]


def renamed(model: Model) -> Model:
    return model.replace(name="n")


def caught(mother: Model, member: Model) -> None:
    with pytest.raises(NotPreserved, match="n does not compute the function of m"):
        hatches(mother, renamed(member))


NO_IDENTITY = {
    **{op: f"b = {op} (a) c = Sin (b)" for op in ELEMENTWISE},
    "Celu": "b = Celu <alpha = 2.0> (a) c = Sin (b)",
    "Clip": "b = Clip (a, zero, half) c = Sin (b)",
    "InstanceNormalization": "b = InstanceNormalization (a, p, q) c = Sin (b)",
    "LayerNormalization": "b = LayerNormalization <axis = -1> (a, p, q) c = Sin (b)",
    "LogSoftmax": "b = LogSoftmax <axis = 1> (a) c = Sin (b)",
    "Log": "b = Log (a) c = Sin (b)",
    "Reciprocal": "b = Reciprocal (a) c = Sin (b)",
    "Softmax": "b = Softmax <axis = 1> (a) c = Sin (b)",
    "Sqrt": "b = Sqrt (a) c = Sin (b)",
    **{
        op: f"b = {op} <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a) c = Sin (b)"
        for op in ("MaxPool", "AveragePool", "LpPool")
    },
}
"""Every op of one value that may keep its shape, without those that always can be the identity, and those (LRN,
GroupNormalization) that part the channels before them as no other op does.
"""


@pytest.mark.parametrize("name", NO_IDENTITY)
def test_an_op_that_is_no_identity_and_claims_to_be_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mother, member = network_of(name, "c = Sin (a)"), network_of(name, NO_IDENTITY[name])
    with pytest.raises(GraphError, match="share no mother"):
        hatches(mother, renamed(member))
    claimed(name, monkeypatch, identity=lambda site, arriving: True)
    caught(mother, member)


LAST = [
    name
    for name, body in {**BODIES, **FLATTENED, **ON_TOKENS}.items()
    if f"c = {op_of(name)} " in body and name != "Where"
]
"""Networks that end in their op; that of Where is no tree of branches, and what it gives is not asked."""

UNENDED = {
    "Dropout": "the identity, which says what arrives",
    **dict.fromkeys(("Expand", "Flatten", "Gather", "Slice", "Transpose"), "moves elements and says what arrives"),
    "Softmax": "followed by another op in its network, and as LogSoftmax",
}
"""Ops with a range that no network ends in, and why a twin of theirs would say no more."""


@pytest.mark.parametrize("name", LAST)
def test_a_range_that_is_too_narrow_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {**BODIES, **FLATTENED, **ON_TOKENS}[name]
    bounds = "low = Constant <value = float {-0.002}> () high = Constant <value = float {0.002}> ()"
    mother = network_of(name)
    member = network_of(name, f"{body.replace('c = ', 'whole = ')} {bounds} c = Clip (whole, low, high)")
    with pytest.raises(GraphError, match="share no mother"):
        hatches(mother, renamed(member))
    claimed(op_of(name), monkeypatch, range=lambda site, arriving: (-0.001, 0.001))
    caught(mother, member)


NOT_ZERO = {
    **{op: f"b2 = {op} (b)" for op in ("Cos", "Exp", "HardSigmoid", "Log", "Reciprocal", "Sigmoid", "Softplus")},
    "Clip": "b2 = Clip (b, tenth, half)",
}


@pytest.mark.parametrize("op", NOT_ZERO)
def test_an_op_that_makes_something_of_zero_and_denies_it_is_caught(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mother = network_of(op, "c = Sin (a)")
    member = network_of(
        op, f"b = Conv <pads = [1, 1, 1, 1], group = 8> (a, z, p) {NOT_ZERO[op]} b3 = Add (a, b2) c = Sin (b3)"
    )
    with pytest.raises(GraphError, match="share no mother"):
        hatches(mother, renamed(member))
    claimed(op, monkeypatch, keeps_zero=True)
    caught(mother, member)


@pytest.mark.parametrize("op", [op for op in ELEMENTWISE if op != "Relu"])
def test_a_function_that_is_not_as_odd_as_it_claims_is_caught(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mother, member = trained(perceptron("m", (8,), op)), perceptron("n", (20, 17), op)
    claimed(op, monkeypatch, mirror=lambda site: 1.25, line=lambda site: None, near_zero=False)
    caught(mother, member)


AROUND_ZERO = ("Abs", "Relu", "Sin", "Tanh")
"""These are: Abs and Relu on what they give themselves; Sin could claim it as Tanh does."""


@pytest.mark.parametrize("op", [op for op in ELEMENTWISE if op not in AROUND_ZERO])
def test_a_function_that_is_no_identity_around_zero_is_caught(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mother, member = trained(perceptron("m", (8,), op)), perceptron("n", (8, 8), op)
    claimed(op, monkeypatch, near_zero=True, mirror=lambda site: 0.0, line=lambda site: None)
    caught(mother, member)


# fmt: off
BOUNDED = (
    "Celu", "Cos", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu", "Sigmoid", "Sin",
    "Softplus", "Softsign", "Tanh",
)
# fmt: on


@pytest.mark.parametrize("op", BOUNDED)
def test_a_function_that_is_bent_where_it_claims_to_be_straight_is_caught(
    op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mother, member = trained(perceptron("m", (8,), op)), perceptron("n", (8, 8), op)
    claimed(op, monkeypatch, line=lambda site: Line(-9.0), mirror=lambda site: 0.0, near_zero=False)
    caught(mother, member)


def followed(name: str, op: str, widths: tuple[int, ...]) -> Model:
    """Layers with Gelu and an op behind the last."""
    net = Net(name)
    x = layers.INPUT
    for width in widths:
        x = net.op("Gelu", net.conv(x, width, 1))
    attributes: dict[str, Any] = {"kernel_shape": (2, 2)} if op.endswith("Pool") and not op.startswith("Global") else {}
    return net.finish(net.conv(net.same(x, net.builder.add(op, x, **attributes)), 4, 1))


NOT_KEPT = [*(op for op in ELEMENTWISE if op != "Neg"), "MaxPool", "LpPool", "GlobalMaxPool", "GlobalLpPool"]


@pytest.mark.parametrize("op", NOT_KEPT)
def test_an_op_that_does_not_keep_sums_and_claims_to_is_caught(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mother, member = trained(followed("m", op, (4,))), followed("n", op, (9, 8))
    claimed(op, monkeypatch, keeps=lambda site: EVERY)
    caught(mother, member)


@pytest.mark.parametrize("op", ["Sub", "Div", "Pow"])
def test_operands_that_may_not_be_swapped_and_are_is_caught(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    branches = "b = Softplus (a) b2 = Conv (x, s, sb) b3 = Softplus (b2) b4 = Tanh (b3)"
    mother, member = network_of(op, f"{branches} c = {op} (b, b4)"), network_of(op, f"{branches} c = {op} (b4, b)")
    with pytest.raises(GraphError, match="share no mother"):
        hatches(mother, renamed(member))
    claimed(op, monkeypatch, commutative=True)
    caught(mother, member)


OTHER: Mapping[str, tuple[str, str]] = {
    "AveragePool": (", count_include_pad = 1", ", count_include_pad = 0"),
    "Celu": ("alpha = 2.0", "alpha = 0.5"),
    "ConvTranspose": ("pads = [0, 1, 1, 0]", "pads = [1, 0, 0, 1]"),
    "Elu": ("alpha = 1.5", "alpha = 0.5"),
    "Gelu": ('approximate = "none"', 'approximate = "tanh"'),
    "GlobalLpPool": ("p = 2", "p = 1"),
    "HardSigmoid": ("alpha = 0.3", "alpha = 0.1"),
    "LRN": ("size = 3", "size = 5"),
    "LeakyRelu": ("alpha = 0.01", "alpha = 0.3"),
    "LpPool": ("p = 2", "p = 1"),
    "MaxPool": ("pads = [0, 0, 1, 1]", "pads = [1, 1, 0, 0]"),
    "Resize": ('mode = "nearest"', 'mode = "linear"'),
    "Selu": ("gamma = 1.5", "gamma = 1.1"),
    "ThresholdedRelu": ("alpha = 1.0", "alpha = 0.3"),
    "Pad": ('mode = "constant"', 'mode = "reflect"'),
}
"""Attributes that two networks may not differ in. Where they part channels otherwise (blocks, groups), ties say so."""


MORE = {
    "AveragePool": "kernel_shape = [3, 3], pads = [1, 1, 1, 1]",
    "ConvTranspose": "strides = [2, 2]",
    "LRN": "alpha = 1.0",
    "LpPool": "kernel_shape = [2, 2]",
    "MaxPool": "kernel_shape = [2, 2]",
}
OPERANDS = {"ConvTranspose": "(a, t, u)", "Pad": "(a, around)", "Resize": "(a, , scales)"}


def with_attributes(op: str, attributes: str) -> Model:
    words = ", ".join(word.strip(", ") for word in (MORE.get(op, ""), attributes) if word)
    body = f"b = {op} <{words}> {OPERANDS.get(op, '(a)')} c = Sin (b)"
    return network_of(op, body, 5 if op == "ConvTranspose" else 8)


@pytest.mark.parametrize("op", OTHER)
def test_attributes_that_must_agree_and_do_not_are_caught(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mother, member = (with_attributes(op, attributes) for attributes in OTHER[op])
    with pytest.raises(GraphError, match="share no mother"):
        hatches(mother, renamed(member))
    claimed(op, monkeypatch, matching={}, signature=unsigned)
    caught(mother, member)


def test_a_part_from_another_place_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ("(a, begin, from, channels)", "(a, from, to, channels)")
    mother, member = (network_of("Slice", f"b = Slice {part} c = Tanh (b)") for part in parts)
    with pytest.raises(GraphError, match="share no mother"):
        hatches(mother, renamed(member))
    claimed("Slice", monkeypatch, signature=unsigned)
    caught(mother, member)


PARTED = {
    **dict.fromkeys(
        ("Conv", "DepthToSpace", "GroupNormalization", "SpaceToDepth"), "other blocks tie channels otherwise"
    ),
    **dict.fromkeys(("LayerNormalization", "LogSoftmax", "Softmax"), "along another axis other widths are fixed"),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), "another hidden size gives other sizes"),
    **dict.fromkeys(("Concat", "Flatten", "Transpose"), "along other axes sizes differ"),
    **{op: "over other axes sizes differ" for op in RULES if op.startswith("Reduce")},
    "Cast": "canonical form knows float32 only",
    "Gather": "a table has other axes than a value",
    "Gemm": "canonical form has transB = 1",
    "Slice": "tested above",
}
"""Ops with attributes that must agree, and what parts two networks that differ in them before that."""


def test_every_claim_of_every_op_has_a_twin_or_a_reason() -> None:
    ranged = {op for op, rule in RULES.items() if rule.range is not unknown}
    assert ranged == {op_of(name) for name in LAST if RULES[op_of(name)].range is not unknown} | set(UNENDED)
    matched = {op for op, rule in RULES.items() if rule.matching or rule.signature is not unsigned}
    assert matched == set(OTHER) | set(PARTED)
    mirrored = {op for op, rule in RULES.items() if rule.mirror is not no_mirror}
    assert mirrored <= set(ELEMENTWISE)
    lined = {op for op, rule in RULES.items() if rule.line is not no_line}
    assert lined <= {*ELEMENTWISE, "Celu", "Clip"}
