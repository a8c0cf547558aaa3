"""What a model's weights are: trained parameters by kind, statistics, and how many there are."""

from __future__ import annotations

from mnx.graphs.model import Model
from mnx.graphs.ops.rule import Kind
from mnx.graphs.ops.table import rule_of


def parameters(model: Model) -> dict[str, Kind]:
    """The parameters of a model, trained ones and statistics, by weight name in node order.

    Raises:
        UnsupportedOp: an op has no rule.
    """
    found: dict[str, Kind] = {}
    for node in model.nodes:
        for index, slot in rule_of(node, model).slots.items():
            name = node.input(index)
            if name in model.weights:
                found.setdefault(name, slot.kind)
    return found


def parameter_count(model: Model) -> int:
    """The number of trained parameters (statistics are not counted)."""
    return sum(int(model.weights[name].size) for name, kind in parameters(model).items() if kind.trained)
