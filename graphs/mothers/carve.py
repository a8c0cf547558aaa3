"""Carve a mother's graph out of a member's: leave out units, narrow channel groups, crop kernels, draw new weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod, sqrt
from zlib import crc32

import numpy as np

from mnx.graphs.model import Array, Model, Node, Shape, free_name, without_unused_weights
from mnx.graphs.mothers.alignment import Branch, Insertion
from mnx.graphs.mothers.kernels import Window
from mnx.graphs.ops.axes import width_of
from mnx.graphs.ops.rule import Kind, Role, Slot, Widths
from mnx.graphs.trees.structure import Op, Parameter, Structure, ops_of


def carve(
    model: Model,
    structure: Structure,
    left_out: Sequence[Insertion],
    widths: Mapping[int, int],
    windows: Mapping[str, Window],
    branches: Sequence[Branch] = (),
) -> Model:
    """A smaller network with weights of the right shapes but no values (zero-stride stand-ins).

    Args:
        model: the template, whose structure is `structure`.
        left_out: units that are passed over; each passed on what arrived.
        widths: channel group -> new width.
        windows: Conv node -> new kernel window.
        branches: of Concats, left out too.
    """
    kept = _without_branches(_without_units(model, left_out), branches)
    ops = {op.name: op for op in structure.ops()}
    weights = dict(kept.weights)
    nodes = []
    for node in kept.nodes:
        if node.name in ops:
            node = _cropped(node, windows.get(node.name))
            node = _rewritten(node, ops[node.name], structure.groups, widths, weights)
            for parameter in ops[node.name].parameters:
                shape = _narrowed(parameter, widths, windows.get(node.name))
                if shape != parameter.shape:
                    weights[parameter.name] = hollow(shape)
        nodes.append(node)
    return without_unused_weights(_with_biases(kept.replace(nodes=tuple(nodes), weights=weights), ops))


def resized(model: Model, structure: Structure, widths: Mapping[int, int]) -> Model:
    """The network with other widths, as a stand-in: shapes, attributes and constants that embed a width follow.

    Args:
        model: the network, whose structure is `structure`.
        widths: channel group -> new width, for every group.
    """
    return carve(model, structure, (), widths, {})


TABLE_SCALE = 0.02
"""Standard deviation of fresh embeddings (Devlin et al. 2019; Dosovitskiy et al. 2021)."""

_FRESH = {Kind.SCALE: 1.0, Kind.VARIANCE: 1.0, Kind.SLOPE: 0.25}


def hollow(shape: Shape) -> Array:
    """A float32 stand-in of this shape that takes no memory; its values mean nothing."""
    return np.broadcast_to(np.float32(0), shape)


def hollowed(model: Model, structure: Structure) -> Model:
    """The model with every parameter replaced by a stand-in; constants stay."""
    return model.with_weights({p.name: hollow(p.shape) for op in structure.ops() for p in op.parameters})


def drawn(model: Model, structure: Structure, seed: int) -> Model:
    """The model with fresh weights.

    Kaiming normal by fan-in (He et al. 2015), zero biases, plain normalisation, small embeddings, slopes of 0.25.
    """
    weights: dict[str, Array] = {}
    for op in structure.ops():
        for parameter in op.parameters:
            weights.setdefault(parameter.name, fresh(op, parameter, seed))
    return model.with_weights(weights)


def fan_in(op: Op, parameter: Parameter) -> int:
    """How many inputs one output channel sums over. Kernel taps that only ever meet the padding do not count."""
    space = iter(op.site.shapes[0][2:])
    reach = [
        min(size, next(space)) if role is Role.KERNEL else size
        for size, role in zip(parameter.shape, parameter.roles, strict=True)
        if role in (Role.CONTRACT, Role.KERNEL)
    ]
    return prod(reach) if reach else parameter.shape[-1]


def fresh(op: Op, parameter: Parameter, seed: int, network: str = "", shape: Shape | None = None) -> Array:
    """A new value of a parameter, float32, drawn from the seed and the names alone.

    Args:
        op: the op that reads it.
        parameter: the parameter.
        seed: of what is drawn, with the parameter's name.
        network: a further name that decides, '' for none.
        shape: that of a part of the parameter, where no more is needed.
    """
    shape = parameter.shape if shape is None else shape
    if parameter.kind in (Kind.WEIGHT, Kind.TABLE):
        names = (parameter.name, network) if network else (parameter.name,)
        random = np.random.default_rng((seed, *(crc32(name.encode()) for name in names)))
        scale = np.float32(sqrt(2.0 / fan_in(op, parameter)) if parameter.kind is Kind.WEIGHT else TABLE_SCALE)
        return np.asarray(random.standard_normal(shape, dtype=np.float32) * scale)
    return np.full(shape, _FRESH.get(parameter.kind, 0.0), dtype=np.float32)


def _rewritten(
    node: Node, op: Op, before: Mapping[int, int], after: Mapping[int, int], weights: dict[str, Array]
) -> Node:
    """The node with its attributes and constants at new widths; a constant that changes becomes its own."""
    if before == after:
        return node
    widths = Widths(op.operands, op.output, partial(width_of, widths=before), partial(width_of, widths=after))
    found = op.rule.rewrite(op.site, widths)
    inputs = list(node.inputs)
    for index, array in found.constants.items():
        if not np.array_equal(array, weights[inputs[index]]):
            name = free_name(f"{node.name}.input{index}", weights)
            weights[name], inputs[index] = array, name
    return replace(node, inputs=tuple(inputs), attributes={**node.attributes, **found.attributes})


def _without_units(model: Model, left_out: Sequence[Insertion]) -> Model:
    gone = {op.name for insertion in left_out for op in ops_of((insertion.unit,))}
    passed = {insertion.unit.value: insertion.before.value for insertion in left_out}

    def source(value: str) -> str:
        while value in passed:
            value = passed[value]
        return value

    def reading(node: Node) -> Node:
        return replace(node, inputs=tuple(source(value) for value in node.inputs))

    return model.replace(
        nodes=tuple(reading(node) for node in model.nodes if node.name not in gone),
        head=tuple(reading(node) for node in model.head),
        outputs=tuple(replace(port, name=source(port.name)) for port in model.outputs),
    )


def _without_branches(model: Model, branches: Sequence[Branch]) -> Model:
    """The model without some operands of Concats, and what makes them."""
    gone = {op.name for branch in branches for op in ops_of(branch.series)}
    cut: dict[str, set[int]] = {}
    for branch in branches:
        cut.setdefault(branch.join.name, set()).add(branch.number)

    def reading(node: Node) -> Node:
        kept = tuple(name for number, name in enumerate(node.inputs) if number not in cut.get(node.name, ()))
        return replace(node, inputs=kept)

    return model.replace(nodes=tuple(reading(node) for node in model.nodes if node.name not in gone))


def _with_biases(model: Model, ops: Mapping[str, Op]) -> Model:
    """The model with a bias wherever the canonical form has one: where a BatchNormalization was left out behind."""
    consumers = model.consumers()
    weights = dict(model.weights)
    nodes = []
    for node in model.nodes:
        rule = ops[node.name].rule if node.name in ops else None
        slot = next((i for i, s in rule.slots.items() if _is_bias(s)), None) if rule else None
        behind = [consumer.op for consumer in consumers.get(node.outputs[0], [])]
        if slot is not None and not node.input(slot) and behind != ["BatchNormalization"]:
            name = free_name(f"{node.name}.bias", weights)
            weights[name] = hollow(weights[node.inputs[1]].shape[:1])
            node = replace(node, inputs=(*node.inputs[:slot], name))
        nodes.append(node)
    return model.replace(nodes=tuple(nodes), weights=weights)


def _is_bias(slot: Slot) -> bool:
    return slot.kind is Kind.BIAS and slot.roles == (Role.PRODUCE,)


def _cropped(node: Node, window: Window | None) -> Node:
    if window is None:
        return node
    attributes = {**node.attributes, "kernel_shape": window.size, "pads": (*window.begins, *window.ends)}
    return replace(node, attributes=attributes)


def _narrowed(parameter: Parameter, widths: Mapping[int, int], window: Window | None) -> Shape:
    sizes = list(parameter.shape)
    spatial = [axis for axis, role in enumerate(parameter.roles) if role is Role.KERNEL]
    for axis, role in enumerate(parameter.roles):
        if role in (Role.PRODUCE, Role.CONTRACT):
            sizes[axis] = width_of(parameter.axes[axis], widths)
        elif role is Role.KERNEL and window is not None:
            sizes[axis] = window.size[spatial.index(axis)]
    return tuple(sizes)
