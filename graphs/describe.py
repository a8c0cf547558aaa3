"""From a model to its structure: channel groups by the op rules, then the series-parallel tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mnx.graphs.axes import Axes, Axis, Part, Ties, fixed
from mnx.graphs.errors import GraphError, UnsupportedOp
from mnx.graphs.model import Attribute, Model, Node, Shape
from mnx.graphs.ops.rule import Role, Rule, Site
from mnx.graphs.ops.table import rule_of
from mnx.graphs.series import activation_inputs, series_of
from mnx.graphs.shapes import shapes
from mnx.graphs.structure import Op, Parameter, Structure

BATCH = 104729
"""The batch size that structure is read at: a large prime, so that no width is ever a multiple of it."""


def describe(model: Model) -> Structure:
    """The structure of a canonical model. Weight values are not read, but for small constants.

    Raises:
        UnsupportedOp: an op has no rule.
        GraphError: the model has not one input and one output, ties axes that cannot be tied, or is not
            series-parallel.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise GraphError(
            f"{model.name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "mnx reads networks with one of each: cut the others off before the export"
        )
    ties = Ties()
    port = model.inputs[0]
    entry = tuple(fixed(size) for size in (BATCH, *port.shape))
    ops = _tied_ops(model, entry, ties)
    numbers: dict[int, int] = {}
    resolved = {name: _resolved(op, ties, numbers) for name, op in ops.items()}
    series = series_of(model, resolved, entry)
    return Structure(model.name, series, {n: ties.sizes[g] for g, n in numbers.items()}, entry, port.name)


def _tied_ops(model: Model, entry: Axes, ties: Ties) -> dict[str, Op]:
    known = shapes(model, BATCH)
    axes: dict[str, Axes] = {model.inputs[0].name: entry}
    ops: dict[str, Op] = {}
    for node in model.nodes:
        rule = rule_of(node, model)
        for index, name in enumerate(node.inputs):
            if name in model.weights and name not in axes:
                axes[name] = _weight_axes(rule, index, known[name], ties)
        site = _site(node, rule, model, known)
        output = _tied_output(model, rule, site, axes, ties)
        axes[node.outputs[0]] = output
        inputs = activation_inputs(node, model)
        ops[node.name] = Op(
            site=site,
            rule=rule,
            matching=_matching(node, rule),
            parameters=_parameters(node, rule, model, known, axes),
            input=axes[inputs[0]] if inputs else (),
            output=output,
            value=node.outputs[0],
        )
    last = model.outputs[0].name
    for axis, size in zip(axes[last], known[last], strict=True):
        ties.same(axis, fixed(size), f"the output '{last}' of {model.name}")
    return ops


def _tied_output(model: Model, rule: Rule, site: Site, axes: Mapping[str, Axes], ties: Ties) -> Axes:
    try:
        return rule.tie(site, [axes[name] if name else () for name in site.node.inputs], ties)
    except GraphError as error:
        raise type(error)(f"{model.name}: {error}") from None


def _weight_axes(rule: Rule, index: int, shape: Shape, ties: Ties) -> Axes:
    slot = rule.slots.get(index)
    if slot is None:
        return tuple(fixed(size) for size in shape)
    changing = (Role.PRODUCE, Role.CONTRACT)
    return tuple(ties.group(size) if slot.role(axis) in changing else fixed(size) for axis, size in enumerate(shape))


def _site(node: Node, rule: Rule, model: Model, known: Mapping[str, Shape]) -> Site:
    constants = tuple(
        model.weights[name] if name in model.weights and index not in rule.slots else None
        for index, name in enumerate(node.inputs)
    )
    return Site(
        node=node,
        shapes=tuple(known[name] if name else () for name in node.inputs),
        outputs=tuple(known[name] for name in node.outputs if name),
        constants=constants,
    )


def _parameters(
    node: Node, rule: Rule, model: Model, known: Mapping[str, Shape], axes: Mapping[str, Axes]
) -> tuple[Parameter, ...]:
    found = []
    for index, slot in rule.slots.items():
        name = node.input(index)
        if name in model.weights:
            roles = tuple(slot.role(axis) for axis in range(len(known[name])))
            found.append(Parameter(index, name, slot.kind, known[name], axes[name], roles))
        elif name:
            raise UnsupportedOp(
                f"{model.name}: input {index} of node '{node.name}' ({node.op}) is computed, not a stored weight; "
                "mnx grows stored weights only"
            )
    return tuple(found)


def _matching(node: Node, rule: Rule) -> tuple[tuple[str, Attribute], ...]:
    return tuple((key, node.attributes.get(key, default)) for key, default in rule.matching.items())


def _resolved(op: Op, ties: Ties, numbers: dict[int, int]) -> Op:
    """The op with its axes in terms of final groups, numbered in order of first appearance."""

    def axis(found: Axis) -> Axis:
        return tuple(
            part if part.group is None else Part(numbers.setdefault(part.group, len(numbers)), part.outer, part.inner)
            for part in ties.resolve(found)
        )

    def axes(found: Axes) -> Axes:
        return tuple(axis(one) for one in found)

    return replace(
        op,
        input=axes(op.input),
        output=axes(op.output),
        parameters=tuple(replace(p, axes=axes(p.axes)) for p in op.parameters),
    )
