"""What a model's weights are: trained parameters by kind, statistics, constants, and how many there are."""

from __future__ import annotations

from mnx.graphs.model import Model, Node
from mnx.graphs.ops.rule import Kind, Rule
from mnx.graphs.ops.table import RULES, rule_of


def parameters(model: Model) -> dict[str, Kind]:
    """The parameters of a model, trained ones and statistics, by weight name in node order.

    Raises:
        UnsupportedOp: an op that reads a weight of floats has no rule.
    """
    found: dict[str, Kind] = {}
    slots = parameter_slots(model)
    for node in model.nodes:
        for index in slots[node.name]:
            found.setdefault(node.inputs[index], rule_of(node, model).slots[index].kind)
    return found


def parameter_slots(model: Model) -> dict[str, tuple[int, ...]]:
    """Node name -> the inputs that are parameters.

    A constant in an operand slot (see `Slot`) is one only where it has several numbers and stands behind, or makes by
    itself, what a layer with weights makes: constants in front of all layers are the data's mean and such.
    """
    found: dict[str, tuple[int, ...]] = {}
    learnt: set[str] = set()
    for node in model.nodes:
        rule = RULES.get(node.op)
        known = () if rule is None or node.domain else _slots(node, rule, model, learnt)
        found[node.name] = known
        if known or learnt.intersection(node.inputs):
            learnt.update(node.outputs)
    return found


def _slots(node: Node, rule: Rule, model: Model, learnt: set[str]) -> tuple[int, ...]:
    return tuple(
        index
        for index, slot in rule.slots.items()
        if node.input(index) in model.weights
        and (not slot.operand or _is_parameter(node, slot.kind, index, model, learnt))
    )


def _is_parameter(node: Node, kind: Kind, index: int, model: Model, learnt: set[str]) -> bool:
    array = model.weights[node.inputs[index]]
    if array.dtype.kind != "f" or array.size == 1:
        return False
    return kind in (Kind.WEIGHT, Kind.TABLE) or bool(learnt.intersection(node.inputs))


def parameter_count(model: Model) -> int:
    """The number of trained parameters (statistics are not counted)."""
    return sum(int(model.weights[name].size) for name, kind in parameters(model).items() if kind.trained)
