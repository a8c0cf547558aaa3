"""The depth that a growth asks for: copies of a unit behind it, with weights of their own.

A plain layer's copy maps its channels to as many, at stride 1, with pads that keep the size. A run of units that gives
what it takes (a residual section, an attention and an MLP section, several layers) is copied as it is. Whether a copy
can be the identity is for hatching to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.places import named
from mnx.graphs.growth.units import Run, run_of
from mnx.graphs.model import Array, Attribute, Model, Node, Shape
from mnx.graphs.mothers.carve import hollow
from mnx.graphs.ops.axes import Axes, width_of
from mnx.graphs.ops.convolution import groups
from mnx.graphs.ops.rule import Kind
from mnx.graphs.trees.structure import Op, Structure, ops_of, size_text

_SQUARE = ("Conv", "Gemm", "MatMul")
"""Layers of which a copy can map channels to as many."""


def deepened(model: Model, structure: Structure, text: str, count: int) -> Model:
    """The network with copies of a unit behind it, one after the other, with stand-ins for weights.

    Args:
        model: the network.
        structure: its structure.
        text: the unit: a layer, the join of a section, or the path of a module.
        count: how many copies.

    Raises:
        GraphError: nothing is called so, or no copy fits behind what is.
    """
    words = f"depth {text}+{count}: '{text}' of {structure.name}"
    if count < 1:
        raise GraphError(f"{words}: give 1 or more copies")
    run = run_of(structure, {op.name for op in named(structure, text)}, words)
    if run.layer is None:
        _require_same_shape(run, structure, words)
    elif run.layer.op not in _SQUARE:
        raise GraphError(f"{words} is {run.layer.op}, of which no copy can pass on what arrives")
    if run.leaving in (port.name for port in model.outputs):
        raise GraphError(f"{words} makes the output of the network: nothing can be put in behind it")
    if run.entering not in {name for node in model.nodes for name in node.inputs}:
        raise GraphError(f"{words} begins the network, so that no copy can read what it reads: name what is behind it")
    return _with_copies(model, run, count)


def _require_same_shape(run: Run, structure: Structure, words: str) -> None:
    taken, given = (_sizes(axes, structure) for axes in (run.input, run.units[-1].output))
    if taken != given:
        raise GraphError(
            f"{words} takes {taken} and gives {given}, so that a copy does not fit behind it: name a unit that keeps "
            "the shape, as the further blocks of a stage do, or a single layer"
        )


def _sizes(axes: Axes, structure: Structure) -> str:
    return "x".join(str(size_text(width_of(axis, structure.groups))) for axis in axes[1:])


def _with_copies(model: Model, run: Run, count: int) -> Model:
    inside = set(run.names)
    place = max(index for index, node in enumerate(model.nodes) if node.name in inside) + 1
    originals = [node for node in model.nodes if node.name in inside]
    ops = {op.name: op for op in ops_of(run.units)}
    taken = {name for node in model.nodes for name in (node.name, *node.inputs, *node.outputs)}
    inner = {name for node in originals for name in node.outputs if name}
    inner |= {parameter.name for op in ops.values() for parameter in op.parameters}
    weights: dict[str, Array] = {}
    copies: list[Node] = []
    end = run.leaving
    for _ in range(count):
        names = _fresh_names({*inner, *inside}, taken)
        taken |= set(names.values())
        reads = {**{name: names[name] for name in inner}, run.entering: end}
        for node in originals:
            op = ops[node.name]
            attributes, shapes = _squared(op) if op is run.layer else (node.attributes, {})
            for parameter in op.parameters:
                weights[names[parameter.name]] = hollow(shapes.get(parameter.slot, parameter.shape))
            inputs = tuple(reads.get(name, name) for name in node.inputs)
            outputs = tuple(names[name] if name else "" for name in node.outputs)
            copies.append(Node(names[node.name], node.op, inputs, outputs, attributes, node.domain))
        end = names[run.leaving]
    behind = (_reading(node, {run.leaving: end}) for node in model.nodes[place:])
    return model.replace(nodes=(*model.nodes[:place], *copies, *behind), weights={**model.weights, **weights})


def _reading(node: Node, names: Mapping[str, str]) -> Node:
    """The node with other names for the values that it reads."""
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))


def _squared(op: Op) -> tuple[Mapping[str, Attribute], Mapping[int, Shape]]:
    """The attributes of a layer that maps its output to as many channels of the same size, and its weight's shape."""
    attributes = dict(op.site.node.attributes)
    slot, shape = next((p.slot, p.shape) for p in op.parameters if p.kind is Kind.WEIGHT)
    if op.op == "MatMul":
        return attributes, {slot: (*shape[:-2], shape[-1], shape[-1])}
    if op.op == "Gemm":
        return attributes, {slot: (shape[0], shape[0])}
    blocks, kernel = groups(op.site), shape[2:]
    dilations = op.site.node.integers("dilations", (1,) * len(kernel))
    reach = [(taps - 1) * step for taps, step in zip(kernel, dilations, strict=True)]
    begins = [(taps - 1) // 2 * step for taps, step in zip(kernel, dilations, strict=True)]
    attributes["strides"] = (1,) * len(kernel)
    attributes["pads"] = (*begins, *(whole - begin for whole, begin in zip(reach, begins, strict=True)))
    attributes["group"] = blocks or shape[0]
    return attributes, {slot: (shape[0], shape[0] // blocks if blocks else 1, *kernel)}


def _fresh_names(old: Set[str], taken: Set[str]) -> dict[str, str]:
    """Names for the nodes, values and weights of a copy: those of the original with the number of the copy."""
    number = 1
    while any(_numbered(name, number) in taken for name in old):
        number += 1
    return {name: _numbered(name, number) for name in old}


def _numbered(name: str, number: int) -> str:
    """The number stands behind the innermost module: `layer1.0.conv1_copy1.weight`, `/layer1/conv1_copy1/Conv`."""
    mark = "/" if "/" in name.strip("/") else "."
    module, found, leaf = name.rpartition(mark)
    return f"{module}_copy{number}{mark}{leaf}" if found and module else f"{name}_copy{number}"
