"""From a model to its structure: channel groups by the op rules, then the series-parallel tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mnx.graphs.errors import GraphError, UnsupportedOp
from mnx.graphs.model import Attribute, Model, Node, Shape
from mnx.graphs.ops.axes import Axes, Axis, Part, Ties, fixed, is_fixed
from mnx.graphs.ops.rule import Role, Rule, Site
from mnx.graphs.ops.table import rule_of
from mnx.graphs.shapes import shapes
from mnx.graphs.trees.attention import attention_of, products
from mnx.graphs.trees.flow import SOURCE, Flow, flow_of
from mnx.graphs.trees.series import Fork, Skeleton, skeleton_of
from mnx.graphs.trees.series import Tangle as TangledNodes
from mnx.graphs.trees.structure import BATCH, Op, Parallel, Parameter, Series, Structure, Tangle, Unit


def describe(model: Model) -> Structure:
    """The structure of a canonical model. Weight values are not read, but for small constants.

    Raises:
        UnsupportedOp: an op has no rule.
        GraphError: the model has not one output, ties axes of different widths, or holds nodes beside its flow.
    """
    if len(model.outputs) != 1:
        raise GraphError(
            f"{model.name} has {len(model.outputs)} outputs; mnx reads networks with one: cut the others off before "
            "the export"
        )
    reading = _Reading(model, flow_of(model), shapes(model, BATCH))
    structure = reading.structure(Ties)
    multiplying = frozenset(products(list(structure.ops())))
    wide = reading.wide(multiplying) if multiplying else None
    whole = reading.structure(partial(Ties, whole=True)) if structure.blocks else None
    return replace(
        _attending(structure, multiplying), wide=wide, whole=None if whole is None else _attending(whole, multiplying)
    )


class _Reading:
    """A model's flow and shapes, from which structures are made that tie its axes one way or another."""

    def __init__(self, model: Model, flow: Flow, known: Mapping[str, Shape]) -> None:
        self._model, self._flow, self._known = model, flow, known
        self._skeleton = skeleton_of(model, flow)

    def structure(self, begin: Callable[[Mapping[str, int]], Ties]) -> Structure:
        """The structure with axes tied as `begin` says."""
        model, flow = self._model, self._flow
        choices: Mapping[str, int] | None = {}
        while choices is not None:
            ties = begin(choices)
            ops = _tied_ops(model, flow, self._known, ties)
            choices = ties.retry()
        numbers: dict[int, int] = {}
        resolved = {name: _resolved(op, ties, numbers) for name, op in ops.items()}
        entry = _entry(model, flow)
        series = _series(self._skeleton, resolved, flow, flow.source, entry)
        groups = {number: ties.sizes[group] for group, number in numbers.items()}
        return Structure(model.name, series, groups, entry, flow.source, model.inputs)

    def wide(self, multiplying: frozenset[str]) -> Structure | None:
        """The structure with heads free in width, where all these products allow it; None where some do not."""
        found = self.structure(partial(Ties, last=True, products=multiplying))
        heads = [op for op in found.ops() if op.name in multiplying and not is_fixed(op.operands[op.reads[0]][-1])]
        found = _attending(found, frozenset(op.name for op in heads))
        return replace(found, products=found.attentions) if heads and len(found.attentions) == len(heads) else None


def _attending(structure: Structure, multiplying: frozenset[str]) -> Structure:
    """The structure with those of these products noted whose queries are known, and what scales them marked."""
    ops = list(structure.ops()) if multiplying else []
    known = {op.name: attention_of(op, ops) for op in ops if op.name in multiplying}
    found = {name: attention for name, attention in known.items() if attention is not None}
    scaling = frozenset(name for attention in found.values() for name in attention.scales)
    return replace(structure, series=_with_scales(structure.series, scaling), attentions=tuple(found))


def _with_scales(series: Series, scaling: frozenset[str]) -> Series:
    """The units with those ops marked that multiply by a number of the heads."""

    def marked(op: Op) -> Op:
        return replace(op, scaling=True) if op.name in scaling else op

    units: list[Unit] = []
    for unit in series:
        if isinstance(unit, Parallel):
            branches = tuple(_with_scales(branch, scaling) for branch in unit.branches)
            units.append(replace(unit, branches=branches, join=marked(unit.join)))
        elif isinstance(unit, Op):
            units.append(marked(unit))
        else:
            units.append(replace(unit, ops=tuple(map(marked, unit.ops))))
    return tuple(units)


def _entry(model: Model, flow: Flow) -> Axes:
    if flow.source == SOURCE:
        return ()
    return tuple(fixed(size) for size in (BATCH, *model.inputs[0].shape))


def _tied_ops(model: Model, flow: Flow, known: Mapping[str, Shape], ties: Ties) -> dict[str, Op]:
    read = {name for node in flow.nodes for name in node.inputs} | {port.name for port in model.outputs}
    axes: dict[str, Axes] = {port.name: _fixed((BATCH, *port.shape)) for port in model.inputs}
    axes |= {name: _fixed(known[name]) for name in flow.context if name in known}
    ops: dict[str, Op] = {}
    for node in flow.nodes:
        rule = rule_of(node, model)
        site = _site(node, rule, model, flow, known, read)
        for index, name in enumerate(node.inputs):
            if name in model.weights and name not in axes:
                axes[name] = _weight_axes(rule, index, site, ties)
        operands = tuple(axes[name] if name else () for name in node.inputs)
        output = _tied_output(model, rule, site, operands, ties)
        value = next(name for name in node.outputs if name in read)
        axes[value] = output
        reads = tuple(i for i, name in enumerate(node.inputs) if name and name in flow.reads[node.name])
        ops[node.name] = Op(
            site=site,
            rule=rule,
            matching=_matching(node, site, rule, flow, ties.whole),
            parameters=_parameters(node, site, rule, model, axes),
            operands=operands,
            reads=reads,
            output=output,
            value=value,
        )
    last = model.outputs[0].name
    for axis, size in zip(axes[last], known[last], strict=True):
        ties.same(axis, fixed(size), f"the output '{last}' of {model.name}")
    return ops


def _fixed(shape: Shape) -> Axes:
    return tuple(fixed(size) for size in shape)


def _tied_output(model: Model, rule: Rule, site: Site, operands: Sequence[Axes], ties: Ties) -> Axes:
    try:
        return rule.tie(site, operands, ties)
    except GraphError as error:
        raise type(error)(f"{model.name}: {error}") from None


def _weight_axes(rule: Rule, index: int, site: Site, ties: Ties) -> Axes:
    shape = site.shapes[index]
    if index not in site.parameters:
        return _fixed(shape)
    slot = rule.slots[index]
    return tuple(
        ties.group(size) if _changes(slot.role(axis)) and not (slot.operand and size == 1) else fixed(size)
        for axis, size in enumerate(shape)
    )


def _changes(role: Role) -> bool:
    return role in (Role.PRODUCE, Role.CONTRACT)


def _site(
    node: Node, rule: Rule, model: Model, flow: Flow, known: Mapping[str, Shape], read: frozenset[str] | set[str]
) -> Site:
    slots = flow.slots[node.name]
    for index, slot in rule.slots.items():
        name = node.input(index)
        if name and name not in model.weights and not slot.operand:
            raise UnsupportedOp(
                f"{model.name}: input {index} of node '{node.name}' ({node.op}) is computed, not a stored weight; "
                "mnx grows stored weights only"
            )
    return Site(
        node=node,
        shapes=tuple(known[name] if name else () for name in node.inputs),
        outputs=tuple(known[name] for name in node.outputs if name and name in read),
        constants=tuple(
            model.weights[name] if name in model.weights and index not in slots else None
            for index, name in enumerate(node.inputs)
        ),
        parameters=slots,
    )


def _parameters(node: Node, site: Site, rule: Rule, model: Model, axes: Mapping[str, Axes]) -> tuple[Parameter, ...]:
    found = []
    for index in site.parameters:
        name, slot, shape = node.inputs[index], rule.slots[index], site.shapes[index]
        roles = tuple(slot.role(axis) for axis in range(len(shape)))
        found.append(Parameter(index, name, slot.kind, shape, axes[name], roles))
    return tuple(found)


def _matching(node: Node, site: Site, rule: Rule, flow: Flow, whole: bool) -> tuple[tuple[str, Attribute], ...]:
    counts = rule.counts if whole else ()
    attributes = (
        (key, node.attributes.get(key, default)) for key, default in rule.matching.items() if key not in counts
    )
    signature = rule.whole_signature if whole and rule.whole_signature is not None else rule.signature
    context = ((f"input {i}", flow.context[name]) for i, name in enumerate(node.inputs) if name in flow.context)
    return (*attributes, *signature(site), *context)


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
        operands=tuple(axes(operand) for operand in op.operands),
        output=axes(op.output),
        parameters=tuple(replace(p, axes=axes(p.axes)) for p in op.parameters),
    )


def _series(skeleton: Skeleton, ops: Mapping[str, Op], flow: Flow, source: str, axes: Axes) -> Series:
    """The units of a skeleton, from the value `source` on."""
    units: list[Unit] = []
    for piece in skeleton:
        if isinstance(piece, Fork):
            branches = tuple(_series(branch, ops, flow, source, axes) for branch in piece.branches)
            unit: Unit = Parallel(branches, ops[piece.join], axes)
        elif isinstance(piece, TangledNodes):
            unit = _tangle([ops[name] for name in piece.nodes], flow)
        else:
            unit = ops[piece]
        units.append(unit)
        source, axes = unit.value, unit.output
    return tuple(units)


def _tangle(ops: Sequence[Op], flow: Flow) -> Tangle:
    place = {op.value: index for index, op in enumerate(ops)}
    return Tangle(tuple(ops), tuple(tuple(place.get(name, -1) for name in flow.reads[op.name]) for op in ops))
