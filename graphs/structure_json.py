"""The structure tree as plain data for JSON: stable keys, axes as text (`g3`, `g3*49`, `g1+g2`, `10`)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

from mnx.graphs.axes import Axes
from mnx.graphs.structure import Op, Parallel, Series, Structure, axis_text


def structure_json(structure: Structure) -> dict[str, Any]:
    """A structure as plain data.

    Keys: name, input (shape without the batch), parameters and multiply_adds (totals), series (units: an op, or
    {'parallel': branches, 'join': op}), groups (number, width, and the axes that they tie, as 'weight[axis]').
    """
    return {
        "name": structure.name,
        "input": [sum(part.outer * part.inner for part in axis) for axis in structure.input[1:]],
        "parameters": structure.parameter_count,
        "multiply_adds": structure.cost,
        "series": _series(structure.series),
        "groups": [
            {"group": f"g{number}", "width": width, "ties": tied_axes(structure, number)}
            for number, width in structure.groups.items()
        ],
    }


def op_json(op: Op) -> dict[str, Any]:
    """One op: what it is, what it gives and what it holds."""
    kernel = kernel_of(op)
    return {
        "op": op.op,
        "node": op.name,
        "output": list(op.shape),
        "axes": axes_text(op.output),
        **({"kernel": list(kernel)} if kernel else {}),
        "parameters": [
            {"name": p.name, "kind": p.kind.value, "shape": list(p.shape), "axes": [axis_text(axis) for axis in p.axes]}
            for p in op.parameters
        ],
        "parameter_count": trained_count(op),
        "multiply_adds": op.rule.cost(op.site),
    }


def axes_text(axes: Axes) -> list[str]:
    """Axes as text, without the batch."""
    return [axis_text(axis) for axis in axes[1:]]


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
    return [
        {"parallel": [_series(branch) for branch in unit.branches], "join": op_json(unit.join)}
        if isinstance(unit, Parallel)
        else op_json(unit)
        for unit in series
    ]
