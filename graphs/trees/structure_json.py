"""The structure tree as plain data for JSON: stable keys, axes as text (`g3`, `g3*49`, `g1+g2`, `10`).

With the names of nodes and weights; under `tree` the same without names, which reads back and compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from mnx.graphs.errors import GraphError
from mnx.graphs.trees.nameless import tree_of
from mnx.graphs.trees.structure import (
    Op,
    Parallel,
    Series,
    Structure,
    Tangle,
    Unit,
    axis_text,
    batch_axes,
    output_sizes,
)
from mnx.graphs.trees.tree import Tree, tree_of_json


def structure_json(structure: Structure) -> dict[str, Any]:
    """A structure as plain data.

    Keys: name, input (shape of the first, without the batch), inputs, parameters and multiply_adds (totals), series
    (units: an op, {'parallel': branches, 'join': op}, or {'tangle': ops, 'wiring': where their operands come from}),
    groups (number, width, and the axes that they tie, as 'weight[axis]'), tree (see `graphs.trees.tree`).
    """
    return {
        "name": structure.name,
        "input": list(structure.ports[0].shape),
        "inputs": [{"name": port.name, "dtype": port.dtype, "shape": list(port.shape)} for port in structure.ports],
        "parameters": structure.parameter_count,
        "multiply_adds": structure.cost,
        "series": _series(structure.series),
        "groups": [
            {"group": f"g{number}", "width": width, "ties": tied_axes(structure, number)}
            for number, width in structure.groups.items()
        ],
        "tree": tree_of(structure).to_json(),
    }


def structure_of_json(document: Mapping[str, Any]) -> Tree:
    """The network that `structure_json` wrote down, as a tree without names: equal for two exports of one model.

    Raises:
        GraphError: it is no such document.
    """
    if "tree" not in document:
        raise GraphError("this is no structure as 'mnx show --json' writes it: it has no 'tree'")
    return tree_of_json(document["tree"])


def op_json(op: Op) -> dict[str, Any]:
    """One op: what it is, what it gives and what it holds."""
    kernel = kernel_of(op)
    return {
        "op": op.op,
        "node": op.name,
        "output": output_sizes(op),
        "axes": axes_text(op),
        **({"kernel": list(kernel)} if kernel else {}),
        "parameters": [
            {"name": p.name, "kind": p.kind.value, "shape": list(p.shape), "axes": [axis_text(axis) for axis in p.axes]}
            for p in op.parameters
        ],
        "parameter_count": trained_count(op),
        "multiply_adds": op.rule.cost(op.site),
    }


def axes_text(op: Op) -> list[str]:
    """The axes of an op's output as text, one for each of its `output_sizes`."""
    return [axis_text(axis) for axis in op.output[batch_axes(op.site.outputs[0]) :]]


def kernel_of(op: Op) -> tuple[int, ...]:
    """The window of a convolution or pooling, () for other ops."""
    if op.site.node.op == "Conv":
        return op.site.shapes[1][2:]
    return op.site.node.integers("kernel_shape", ())


def trained_count(op: Op) -> int:
    """Trained parameters of one op."""
    return sum(prod(p.shape) for p in op.parameters if p.kind.trained)


def tied_axes(structure: Structure, group: int) -> list[str]:
    """The parameter axes that a channel group ties, as 'weight[axis]', in execution order, each once."""
    return list(dict.fromkeys(_tied(structure.ops(), group)))


def _tied(ops: Iterable[Op], group: int) -> Iterable[str]:
    for op in ops:
        for parameter in op.parameters:
            for index, axis in enumerate(parameter.axes):
                if any(part.group == group for part in axis):
                    yield f"{parameter.name}[{index}]"


def _series(series: Series) -> list[dict[str, Any]]:
    return [_unit(unit) for unit in series]


def _unit(unit: Unit) -> dict[str, Any]:
    if isinstance(unit, Parallel):
        return {"parallel": [_series(branch) for branch in unit.branches], "join": op_json(unit.join)}
    if isinstance(unit, Tangle):
        return {"tangle": [op_json(op) for op in unit.ops], "wiring": [list(wires) for wires in unit.wiring]}
    return op_json(unit)
