"""How the ops of a unit change in a copy that stands behind it, so that the copy gives what it takes.

A plain layer maps its output to as many channels of the same size: stride 1, pads that keep the size. Of the first
block of a stage, which strides and widens, the copy is a further block: its body begins with the block's output, at
stride 1, and the projection of its shortcut is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mnx.graphs.growth.units import Run, has_layer, layers_of
from mnx.graphs.model import Attribute, Shape
from mnx.graphs.ops.axes import width_of
from mnx.graphs.ops.convolution import groups
from mnx.graphs.ops.rule import Kind
from mnx.graphs.trees.structure import Op, Parallel, Series, Structure, ops_of

SQUARE = ("Conv", "Gemm", "MatMul")
"""Layers of which a copy can map channels to as many."""


@dataclass(frozen=True)
class Changed:
    """What of an op is other in a copy: all its attributes, and the shapes of parameters by slot."""

    attributes: Mapping[str, Attribute]
    shapes: Mapping[int, Shape] = field(default_factory=dict)


@dataclass(frozen=True)
class Further:
    """How a unit is copied: ops that change, by name, and branches that are left out."""

    changed: Mapping[str, Changed] = field(default_factory=dict)
    left_out: tuple[Series, ...] = ()


def squared(op: Op) -> Further:
    """A plain layer, one of `SQUARE`, as a map of its output to as many channels."""
    slot, shape = next((p.slot, p.shape) for p in op.parameters if p.kind is Kind.WEIGHT)
    if op.op == "MatMul":
        return Further({op.name: Changed(op.site.node.attributes, {slot: (*shape[:-2], shape[-1], shape[-1])})})
    return Further({op.name: _at_stride_one(op, shape[0])})


def next_block(run: Run, structure: Structure) -> Further | None:
    """The first block of a stage as a further one, None where it is no such block."""
    section = run.units[0]
    if not isinstance(section, Parallel) or section.join.op != "Add" or has_layer(run.units[1:]):
        return None
    body = max(section.branches, key=lambda branch: len(layers_of(branch)))
    shortcuts = tuple(branch for branch in section.branches if branch is not body)
    layers = layers_of(body)
    if any(len(layers_of(shortcut)) > 1 for shortcut in shortcuts) or len(section.input) != 4 or len(layers) < 2:
        return None
    if any(op.op != "Conv" and _strides(op) for op in ops_of(body)) or groups(layers[0].site) == 0:
        return None
    width = width_of(section.output[1], structure.groups)
    if layers[0] not in body or layers[0].op != "Conv" or width % max(1, groups(layers[0].site)):
        return None
    changed = {op.name: _at_stride_one(op) for op in layers if op.op == "Conv"}
    changed[layers[0].name] = _at_stride_one(layers[0], width)
    for op in body[: body.index(layers[0])]:
        if not isinstance(op, Op):
            return None
        changed[op.name] = Changed(op.site.node.attributes, {p.slot: (width,) for p in op.parameters})
    return Further(changed, shortcuts)


def _strides(op: Op) -> bool:
    return any(stride > 1 for stride in op.site.node.integers("strides", ()))


def _at_stride_one(op: Op, arriving: int = 0) -> Changed:
    """A layer that keeps the size of an image; of so many channels where `arriving` is given, else of as many."""
    slot, shape = next((p.slot, p.shape) for p in op.parameters if p.kind is Kind.WEIGHT)
    attributes = dict(op.site.node.attributes)
    if op.op == "Gemm":
        return Changed(attributes, {slot: (shape[0], arriving or shape[1])})
    blocks, kernel = groups(op.site), shape[2:]
    dilations = op.site.node.integers("dilations", (1,) * len(kernel))
    reach = [(taps - 1) * step for taps, step in zip(kernel, dilations, strict=True)]
    begins = [(taps - 1) // 2 * step for taps, step in zip(kernel, dilations, strict=True)]
    attributes["strides"] = (1,) * len(kernel)
    attributes["pads"] = (*begins, *(whole - begin for whole, begin in zip(reach, begins, strict=True)))
    if not arriving:
        return Changed(attributes)
    attributes["group"] = blocks or arriving
    return Changed(attributes, {slot: (shape[0], arriving // blocks if blocks else 1, *kernel)})
