"""Where a network lacks the BatchNormalization that its export may have folded away, and why not elsewhere.

It belongs behind a Conv or Gemm whose output reaches an activation or the Add of a residual.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mnx.graphs.model import Model, Node
from mnx.graphs.trees.structure import Parallel, Series, Structure, ops_of

LAYERS = frozenset({"Conv", "Gemm"})
"""What it is folded into exactly: axis 1 of the output is axis 0 of the weight."""
NORMALISATIONS = frozenset(
    {"BatchNormalization", "GroupNormalization", "InstanceNormalization", "LRN", "LayerNormalization"}
)
ACTIVATIONS = frozenset(
    {
        "Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu", "Selu",
        "Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip
_OTHER_LAYERS = frozenset({"ConvTranspose", "GRU", "LSTM", "MatMul", "RNN"})
_PASSING = frozenset(
    {
        "AveragePool", "Concat", "Dropout", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Pad",
        "Reshape", "Resize", "Transpose",
    }
)  # fmt: skip
"""Between a layer and its activation they change nothing about what normalisation is for."""


@dataclass(frozen=True)
class Places:
    """The layers behind which a BatchNormalization belongs, in execution order; of all others, why not."""

    layers: tuple[str, ...]
    others: Mapping[str, str]

    @property
    def reasons(self) -> str:
        """In words, why there are no more."""
        return "; ".join(f"'{name}' {why}" for name, why in self.others.items()) or "it has no layers"


def normalised(model: Model) -> bool:
    """Whether a network holds any normalisation."""
    return any(node.op in NORMALISATIONS for node in model.nodes)


def places(model: Model, structure: Structure) -> Places:
    """Where BatchNormalization belongs in a model with this structure."""
    readers, gates = model.consumers(), frozenset(_in_gates(structure.series))
    followed = _followed(model)
    uses = Counter(name for node in model.nodes for name in node.inputs)
    other = next((node.op for node in model.nodes if node.op in NORMALISATIONS - {"BatchNormalization"}), "")
    foreign = f"is in a network with {other}" if other else ""
    layers, others = [], {}
    for node in model.nodes:
        if node.op not in LAYERS | _OTHER_LAYERS or node.input(1) not in model.weights:
            continue
        if why := foreign or _against(node, model, readers, gates, followed, uses[node.inputs[1]]):
            others[node.name] = why
        else:
            layers.append(node.name)
    return Places(tuple(layers), others)


def _against(
    node: Node,
    model: Model,
    readers: Mapping[str, list[Node]],
    gates: frozenset[str],
    followed: frozenset[str],
    uses: int,
) -> str:
    """Why none belongs behind a layer, '' where one does."""
    if node.op not in LAYERS:
        return f"is {node.op}, whose outputs are not normalised over a batch"
    if node.name not in followed:
        return "makes the output"
    if node.name in gates:
        return "makes a gate"
    if uses > 1:
        return f"has a weight that {uses} nodes read"
    if node.input(2) and node.input(2) not in model.weights:
        return "has a bias that is computed"
    met = set(_met(node.outputs[0], readers))
    if met & NORMALISATIONS:
        return "is normalised already"
    return "" if met & (ACTIVATIONS | {"Add"}) else "feeds no activation and no residual"


def _followed(model: Model) -> frozenset[str]:
    """The nodes from which another layer is reached."""
    found: set[str] = set()
    before: set[str] = set()
    for node in reversed(model.nodes):
        if before.intersection(node.outputs):
            found.add(node.name)
        if node.name in found or (node.op in LAYERS | _OTHER_LAYERS and node.input(1) in model.weights):
            before.update(node.inputs)
    return frozenset(found)


def _in_gates(series: Series) -> Iterator[str]:
    """The ops in branches that are joined by anything but addition or side by side."""
    for unit in series:
        if isinstance(unit, Parallel):
            joined = unit.join.op in ("Add", "Concat")
            for branch in unit.branches:
                yield from _in_gates(branch) if joined else (op.name for op in ops_of(branch))


def _met(value: str, readers: Mapping[str, list[Node]]) -> Iterator[str]:
    """The ops that a value meets, through what passes it on; behind an Add the normalisation of a residual stream."""
    for reader in readers.get(value, ()):
        if reader.op in _PASSING:
            yield from _met(reader.outputs[0], readers)
            continue
        yield reader.op
        if reader.op == "Add":
            yield from (next_.op for next_ in readers.get(reader.outputs[0], ()) if next_.op in NORMALISATIONS)
