"""The depth that a growth asks for: copies of a unit behind it, with weights of their own.

A run of units that gives what it takes (a residual section, an attention and an MLP section, several layers) is copied
as it is; `further` says what changes in the copy of a plain layer and of the first block of a stage. Whether a copy can
be the identity is for hatching to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.further import SQUARE, Changed, Further, next_block, squared
from mnx.graphs.growth.places import named
from mnx.graphs.growth.units import Run, run_of
from mnx.graphs.model import Array, Model, Node
from mnx.graphs.mothers.carve import hollow
from mnx.graphs.ops.axes import Axes, width_of
from mnx.graphs.trees.structure import Structure, ops_of, size_text


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
    if run.leaving in (port.name for port in model.outputs):
        raise GraphError(f"{words} makes the output of the network: nothing can be put in behind it")
    if run.entering not in {name for node in model.nodes for name in node.inputs}:
        raise GraphError(f"{words} begins the network, so that no copy can read what it reads: name what is behind it")
    return _with_copies(model, run, count, _further(run, structure, words))


def _further(run: Run, structure: Structure, words: str) -> Further:
    if run.layer is not None:
        if run.layer.op not in SQUARE:
            raise GraphError(f"{words} is {run.layer.op}, of which no copy can pass on what arrives")
        return squared(run.layer)
    taken, given = (_sizes(axes, structure) for axes in (run.input, run.units[-1].output))
    found = Further() if taken == given else next_block(run, structure)
    if found is None:
        raise GraphError(
            f"{words} takes {taken} and gives {given}, so that a copy does not fit behind it: name a unit that keeps "
            "the shape, a residual block, or a single layer"
        )
    return found


def _sizes(axes: Axes, structure: Structure) -> str:
    return "x".join(str(size_text(width_of(axis, structure.groups))) for axis in axes[1:])


def _with_copies(model: Model, run: Run, count: int, further: Further) -> Model:
    place = max(index for index, node in enumerate(model.nodes) if node.name in run.names) + 1
    left_out = {op.name for branch in further.left_out for op in ops_of(branch)}
    ops = {op.name: op for op in ops_of(run.units) if op.name not in left_out}
    originals = [node for node in model.nodes if node.name in ops]
    passed = [branch[-1].value for branch in further.left_out if branch]
    taken = {name for node in model.nodes for name in (node.name, *node.inputs, *node.outputs)}
    values = {name for node in originals for name in node.outputs if name}
    parameters = {parameter.name for op in ops.values() for parameter in op.parameters}
    weights: dict[str, Array] = {}
    copies: list[Node] = []
    end = run.leaving
    for _ in range(count):
        names = _fresh_names({*values, *ops}, parameters, taken)
        taken |= set(names.values())
        reads = {**{name: names[name] for name in values | parameters}, **dict.fromkeys([run.entering, *passed], end)}
        for node in originals:
            op = ops[node.name]
            changed = further.changed.get(node.name, Changed(node.attributes))
            for parameter in op.parameters:
                weights[names[parameter.name]] = hollow(changed.shapes.get(parameter.slot, parameter.shape))
            inputs = tuple(reads.get(name, name) for name in node.inputs)
            outputs = tuple(names[name] if name else "" for name in node.outputs)
            copies.append(Node(names[node.name], node.op, inputs, outputs, changed.attributes, node.domain))
        end = names[run.leaving]
    behind = (_reading(node, {run.leaving: end}) for node in model.nodes[place:])
    return model.replace(nodes=(*model.nodes[:place], *copies, *behind), weights={**model.weights, **weights})


def _reading(node: Node, names: Mapping[str, str]) -> Node:
    """The node with other names for the values that it reads."""
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))


def _fresh_names(values: Set[str], weights: Set[str], taken: Set[str]) -> dict[str, str]:
    """Names for the nodes and values, and for the weights of a copy: those of the original with the number of the copy.

    The number stands behind the innermost module: `conv1_copy1.weight` and `/layer1/conv1_copy1/Conv`.
    """
    marks = {**dict.fromkeys(values, "/"), **{name: "/" if "/" in name else "." for name in weights}}
    number = 1
    while any(_numbered(name, mark, number) in taken for name, mark in marks.items()):
        number += 1
    return {name: _numbered(name, mark, number) for name, mark in marks.items()}


def _numbered(name: str, mark: str, number: int) -> str:
    module, _, leaf = name.rpartition(mark)
    return f"{module}_copy{number}{mark}{leaf}" if module else f"{name}_copy{number}"
