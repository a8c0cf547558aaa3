"""Which nodes ONNX Runtime differentiates rightly: the ops whose gradients were measured against torch.

ONNX Runtime builds silently wrong gradients for some ops, so that nothing is trained through an op that does not stand
here. A new op is one entry, and one row in the test of gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx import TensorProto

from mnx.errors import MnxError
from mnx.graphs.model import Model, Node
from mnx.graphs.parameters import parameters
from mnx.graphs.trees.flow import flow_of
from mnx.train.lowering.recurrent import FUNCTIONS, functions_of

VERIFIED: Mapping[str, str] = {
    "Abs": "as it is",
    "Add": "as it is",
    "And": "as it is: a truth, which passes no gradient",
    "AveragePool": "lowered to a depthwise Conv",
    "BatchNormalization": "lowered to normalisation by batch statistics, or by running ones where it is frozen",
    "Cast": "as it is",
    "Ceil": "lowered to numbers that pass no gradient",
    "Celu": "lowered to Exp",
    "Clip": "as it is",
    "Concat": "as it is",
    "Conv": "as it is, with explicit pads",
    "ConvTranspose": "lowered to a Conv of numbers with zeros between them",
    "Cos": "as it is",
    "DepthToSpace": "lowered to Reshape and Transpose",
    "Div": "as it is",
    "Dropout": "lowered to a product with a mask",
    "Elu": "lowered to Exp",
    "Equal": "as it is: a truth, which passes no gradient",
    "Erf": "as it is",
    "Exp": "as it is",
    "Expand": "as it is",
    "Flatten": "as it is",
    "Floor": "lowered to numbers that pass no gradient",
    "GRU": "lowered to its steps",
    "Gather": "as it is",
    "Gelu": "as it is by erf; lowered to Tanh by tanh",
    "Gemm": "as it is",
    "GlobalAveragePool": "as it is",
    "GlobalLpPool": "lowered to sums of powers",
    "GlobalMaxPool": "lowered to a MaxPool of all of space",
    "Greater": "as it is: a truth, which passes no gradient",
    "GreaterOrEqual": "as it is: a truth, which passes no gradient",
    "GroupNormalization": "lowered to a LayerNormalization of groups",
    "HardSigmoid": "lowered to Clip",
    "HardSwish": "lowered to Clip",
    "InstanceNormalization": "lowered to a LayerNormalization of channels",
    "IsNaN": "as it is: a truth, which passes no gradient",
    "LRN": "lowered to a Conv over channels",
    "LSTM": "lowered to its steps",
    "LayerNormalization": "with the statistics that its gradient reads",
    "LeakyRelu": "as it is",
    "Less": "as it is: a truth, which passes no gradient",
    "LessOrEqual": "as it is: a truth, which passes no gradient",
    "Log": "as it is",
    "LogSoftmax": "as it is",
    "LpPool": "lowered to sums of powers by a depthwise Conv",
    "MatMul": "as it is",
    "Max": "as it is",
    "MaxPool": "as it is, with explicit pads and known sizes",
    "Min": "as it is",
    "Mish": "lowered to Tanh, Log and Exp",
    "Mul": "as it is",
    "Neg": "as it is",
    "Not": "as it is: a truth, which passes no gradient",
    "Or": "as it is: a truth, which passes no gradient",
    "PRelu": "lowered to products with truths",
    "Pad": "as it is with numbers; lowered to Gather otherwise",
    "Pow": "as it is with a constant exponent; lowered to Exp and Log otherwise, for a base above 0",
    "RNN": "lowered to its steps",
    "Reciprocal": "as it is",
    "ReduceL1": "lowered to ReduceSum",
    "ReduceL2": "lowered to ReduceSum and Sqrt",
    "ReduceMax": "lowered to the mean of the equal ones",
    "ReduceMean": "as it is",
    "ReduceMin": "lowered to the mean of the equal ones",
    "ReduceProd": "lowered to products of halves",
    "ReduceSum": "as it is",
    "ReduceSumSquare": "lowered to ReduceSum",
    "Relu": "as it is",
    "Reshape": "as it is",
    "Resize": "lowered to one linear map an axis",
    "Round": "lowered to numbers that pass no gradient",
    "Selu": "lowered to Exp",
    "Sigmoid": "as it is",
    "Sign": "lowered to numbers that pass no gradient",
    "Sin": "as it is",
    "Slice": "as it is; lowered to Gather backwards",
    "Softmax": "as it is",
    "Softplus": "lowered to Log and Exp",
    "Softsign": "lowered to Div",
    "SpaceToDepth": "lowered to Reshape and Transpose",
    "Sqrt": "as it is",
    "Sub": "as it is",
    "Tanh": "as it is",
    "ThresholdedRelu": "lowered to a product with truths",
    "Transpose": "as it is",
    "Where": "as it is, with operands of its own shape",
}
"""The ops with right gradients, and the form in which they are differentiated."""


_STOPS = frozenset(op for op, form in VERIFIED.items() if form.endswith("no gradient"))
"""The ops that no gradient passes, and Cast to what is no float; harmless beside another way to the output."""
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})


def undifferentiable(model: Model) -> list[tuple[str, str, str]]:
    """The nodes that cannot be trained through: name, op, and why not."""
    found = []
    context = flow_of(model).context
    for node in model.nodes:
        reason = why_not(node, model)
        if reason and not all(name in context for name in node.outputs if name):
            found.append((node.name, f"{node.domain}.{node.op}" if node.domain else node.op, reason))
    return found or _stopping(model)


def _stopping(model: Model) -> list[tuple[str, str, str]]:
    """The nodes that keep parameters from the loss: no gradient passes, and none goes round."""
    reached = {port.name for port in model.outputs}
    for node in reversed(model.nodes):
        if reached.intersection(node.outputs) and not _stops(node):
            reached.update(node.inputs)
    cut: dict[str, list[str]] = {
        name: [name] for name, kind in parameters(model).items() if kind.trained and name not in reached
    }
    found = []
    for node in model.nodes if cut else ():
        behind = sorted({name for value in node.inputs for name in cut.get(value, ())})
        if behind and _stops(node):
            lost = f"{', '.join(behind[:3])}{f' and {len(behind) - 3} more' if len(behind) > 3 else ''}"
            found.append((node.name, node.op, f"no gradient passes it, so that {lost} would never be trained"))
        else:
            cut.update((output, behind) for output in node.outputs if behind)
    return found


def _stops(node: Node) -> bool:
    return node.op in _STOPS or (node.op == "Cast" and node.integer("to", 0) not in _FLOATS)


def require_differentiable(model: Model) -> None:
    """Refuse a model that holds nodes without a right gradient.

    Raises:
        MnxError: it names every such op and its first node.
    """
    if found := untrainable(model):
        raise MnxError(
            f"{model.source.name if model.source else model.name} cannot be trained yet: {found}. It can be read, "
            "planned and grown; 'mnx ops' lists the ops that are trained through"
        )


def untrainable(model: Model) -> str:
    """The ops that a model cannot be trained through, in words; '' where it can be."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for name, op, reason in undifferentiable(model):
        nodes.setdefault((op, reason), []).append(name)
    reasons: dict[str, list[str]] = {}
    for (op, reason), names in nodes.items():
        more = f", the first of {len(names)}" if len(names) > 1 else ""
        reasons.setdefault(reason, []).append(f"{op} (node '{names[0]}'{more})")
    return "; ".join(f"{', '.join(ops)}: {reason}" for reason, ops in reasons.items())


def why_not(node: Node, model: Model) -> str:
    """Why a node cannot be trained through, '' where it can be."""
    if node.domain or node.op not in VERIFIED:
        return "its gradient has not been verified"
    if node.integer("training_mode", 0):
        return "it was exported in training mode; canonicalise the model first"
    if any(node.input(index) and node.input(index) not in model.weights for index in CONSTANT.get(node.op, ())):
        return "what decides its shape or shares is computed; export the model with constants folded"
    return REFUSED[node.op](node, model) if node.op in REFUSED else ""


def _recurrent(node: Node, model: Model) -> str:
    if node.integer("layout", 0):
        return "ONNX Runtime cannot run it batch first (layout 1); put a Transpose before it"
    if node.input(4):
        return "it takes the lengths of its sequences, which has no gradient; export with sequences of one length"
    if "clip" in node.attributes or node.attributes.get("activation_alpha") or node.attributes.get("activation_beta"):
        return "it clips, or sets the numbers of its functions, which has not been verified"
    if unknown := sorted(set(functions_of(node)) - FUNCTIONS):
        return f"its functions {', '.join(unknown)} have not been verified"
    return ""


def _product(node: Node, model: Model) -> str:
    if not node.input(1) or not all(model.weights[node.inputs[1]]):
        return "it multiplies over the batch, whose size is not known"
    return ""


def _resize(node: Node, model: Model) -> str:
    if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "it keeps the aspect ratio; export it with the size of each axis"
    return ""


CONSTANT: Mapping[str, tuple[int, ...]] = {
    "Dropout": (1,),
    "Pad": (1, 3),
    "ReduceProd": (1,),
    "Resize": (1, 2, 3),
}
"""The inputs of an op that must be constants."""

REFUSED: Mapping[str, Callable[[Node, Model], str]] = {
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "RNN": _recurrent,
    "ReduceProd": _product,
    "Resize": _resize,
}
"""The ops of which some forms are refused: op -> why this node is, '' where it is not."""
