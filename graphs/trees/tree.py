"""What a network is, without names, as plain data: it compares, prints, and reads back from JSON.

A tree holds ops, the attributes that matter, widths, kernels and branches. Channel groups and shared weights are
numbered as they first appear. `nameless` makes the tree of a network, the same for every export of one model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Shape


@dataclass(frozen=True)
class TreeParameter:
    """A weight: its kind, shape and axes; `shared` names it (`w0`) where several ops read it."""

    kind: str
    shape: Shape
    axes: tuple[str, ...]
    shared: str


@dataclass(frozen=True)
class TreeOp:
    """An op: axes are text (`n` is the batch); constants are (input, type, shape and values)."""

    op: str
    matching: tuple[tuple[str, Any], ...]
    constants: tuple[tuple[int, str], ...]
    output: tuple[str, ...]
    kernel: Shape
    pads: Shape
    parameters: tuple[TreeParameter, ...]


@dataclass(frozen=True)
class TreeParallel:
    """Branches and their join."""

    branches: tuple[TreeSeries, ...]
    join: TreeOp


@dataclass(frozen=True)
class TreeTangle:
    """Ops that are no tree; `wiring` says where the operands of each come from, -1 is the fork."""

    ops: tuple[TreeOp, ...]
    wiring: tuple[tuple[int, ...], ...]


TreeUnit: TypeAlias = "TreeOp | TreeParallel | TreeTangle"
TreeSeries: TypeAlias = "tuple[TreeUnit, ...]"


@dataclass(frozen=True)
class Tree:
    """A network: its inputs (type, shape without the batch), its units, the width of each channel group."""

    inputs: tuple[tuple[str, Shape], ...]
    series: TreeSeries
    widths: Shape

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"inputs": _thawed(self.inputs), "series": _series_json(self.series), "widths": list(self.widths)}

    def text(self) -> str:
        """The tree for people, an op a line."""
        heads = [f"input {dtype} {sizes(shape)}" for dtype, shape in self.inputs]
        widths = ", ".join(f"g{number} = {width}" for number, width in enumerate(self.widths))
        return "\n".join([*heads, *_lines(self.series, ""), *([widths] if widths else [])])


def tree_of_json(document: Mapping[str, Any]) -> Tree:
    """A tree from what `Tree.to_json` gave.

    Raises:
        GraphError: it is no such document.
    """
    try:
        return Tree(frozen(document["inputs"]), _series_of(document["series"]), tuple(document["widths"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise GraphError(f"this is not the tree of a network: {type(error).__name__} {error}") from None


def sizes(shape: Sequence[int]) -> str:
    """(8, 4, 4) as '8x4x4'."""
    return "x".join(map(str, shape))


def _lines(series: TreeSeries, prefix: str) -> Iterator[str]:
    for unit in series:
        if isinstance(unit, TreeOp):
            yield prefix + _line(unit)
        elif isinstance(unit, TreeTangle):
            for number, (op, wires) in enumerate(zip(unit.ops, unit.wiring, strict=True)):
                yield f"{prefix}~ {number} {_line(op)} of {', '.join('fork' if w < 0 else str(w) for w in wires)}"
        else:
            for number, branch in enumerate(unit.branches):
                yield f"{prefix}{'├' if number else '┌'} {'branch' if branch else 'shortcut'}"
                yield from _lines(branch, f"{prefix}│ ")
            yield f"{prefix}└ {_line(unit.join)}"


def _line(op: TreeOp) -> str:
    words = [op.op, *([sizes(op.kernel)] if op.kernel else []), f"[{', '.join(op.output)}]"]
    words += [f"{key}={_thawed(value)}" for key, value in op.matching]
    words += [parameter.shared for parameter in op.parameters if parameter.shared]
    return " ".join(words)


def _series_json(series: TreeSeries) -> list[dict[str, Any]]:
    return [_unit_json(unit) for unit in series]


def _unit_json(unit: TreeUnit) -> dict[str, Any]:
    if isinstance(unit, TreeParallel):
        return {"parallel": [_series_json(branch) for branch in unit.branches], "join": _unit_json(unit.join)}
    if isinstance(unit, TreeTangle):
        return {"tangle": [_unit_json(op) for op in unit.ops], "wiring": _thawed(unit.wiring)}
    return {key: _thawed(value) for key, value in dataclasses.asdict(unit).items()}


def _series_of(documents: Sequence[Mapping[str, Any]]) -> TreeSeries:
    return tuple(_unit_of(document) for document in documents)


def _unit_of(document: Mapping[str, Any]) -> TreeUnit:
    if "parallel" in document:
        return TreeParallel(tuple(_series_of(branch) for branch in document["parallel"]), _op_of(document["join"]))
    if "tangle" in document:
        return TreeTangle(tuple(_op_of(op) for op in document["tangle"]), frozen(document["wiring"]))
    return _op_of(document)


def _op_of(document: Mapping[str, Any]) -> TreeOp:
    parameters = tuple(
        TreeParameter(**{key: frozen(value) for key, value in each.items()}) for each in document["parameters"]
    )
    return TreeOp(**{**{key: frozen(value) for key, value in document.items()}, "parameters": parameters})


def frozen(value: Any) -> Any:
    """Lists as tuples."""
    return tuple(frozen(each) for each in value) if isinstance(value, list | tuple) else value


def _thawed(value: Any) -> Any:
    """Tuples as lists, inside dictionaries too."""
    if isinstance(value, dict):
        return {key: _thawed(each) for key, each in value.items()}
    return [_thawed(each) for each in value] if isinstance(value, list | tuple) else value
