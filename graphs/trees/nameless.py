"""The tree of a network, without names: two exports of one model give equal trees.

Channel groups and shared weights are numbered as they first appear; the branches of a commutative join stand in the
order of their own text. Where two branches read alike, what tells their groups apart is where else each appears:

    colour(group) = hash of (width, every place where it appears, with the colours of the groups around it)

in a few rounds, so that neither names nor the order of nodes or operands in the file show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from mnx.graphs.model import Array
from mnx.graphs.mothers.kernels import window
from mnx.graphs.ops.axes import Axes, Axis
from mnx.graphs.trees.structure import Op, Parallel, Parameter, Series, Structure, Tangle, Unit, size_text
from mnx.graphs.trees.tree import (
    Tree,
    TreeOp,
    TreeParallel,
    TreeParameter,
    TreeSeries,
    TreeTangle,
    TreeUnit,
    frozen,
    sizes,
)

ROUNDS = 3
"""How often colours are refined: a place is told by what stands this many groups away."""


def tree_of(structure: Structure) -> Tree:
    """The tree of a network."""
    names = _Names(structure)
    series = names.series(structure.series)
    inputs = tuple((port.dtype, tuple(port.shape)) for port in structure.ports)
    return Tree(inputs, series, tuple(structure.groups[group] for group in names.groups))


@dataclass
class _Names:
    """Names for groups and shared weights, given out as they appear in canonical order."""

    structure: Structure
    groups: dict[int, str] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        uses = Counter(parameter.name for op in self.structure.ops() for parameter in op.parameters)
        self.colours = _Colours(self.structure, frozenset(name for name, count in uses.items() if count > 1))

    def series(self, series: Series) -> TreeSeries:
        return tuple(self._unit(unit) for unit in series)

    def _unit(self, unit: Unit) -> TreeUnit:
        if isinstance(unit, Parallel):
            branches = tuple(self.series(branch) for branch in self.colours.ordered(unit))
            return TreeParallel(branches, self._op(unit.join))
        if isinstance(unit, Tangle):
            order, wiring = self.colours.untangled(unit)
            return TreeTangle(tuple(self._op(unit.ops[place]) for place in order), wiring)
        return self._op(unit)

    def _op(self, op: Op) -> TreeOp:
        for axes in (op.output, *(parameter.axes for parameter in op.parameters)):
            for group in _groups(axes):
                self.groups.setdefault(group, f"g{len(self.groups)}")
        for parameter in op.parameters:
            if parameter.name in self.colours.shared:
                self.weights.setdefault(parameter.name, f"w{len(self.weights)}")
        return _tree_op(op, self.groups, self.weights)


class _Colours:
    """Groups and shared weights, told apart by where they appear."""

    def __init__(self, structure: Structure, shared: frozenset[str]) -> None:
        self.shared = shared
        self.groups = {group: f"<{width}>" for group, width in structure.groups.items()}
        self.weights = dict.fromkeys(shared, "<w>")
        for _ in range(ROUNDS):
            keys: list[int | str] = [*self.groups, *self.weights]
            places: dict[int | str, list[str]] = {key: [] for key in keys}
            for path, op in self._places(structure.series, ""):
                here = _hash((path, self._text(op)))
                for key, place in _labels(op, shared):
                    places[key].append(f"{here}{place}")
            found: dict[int | str, str] = {key: _hash(sorted(each)) for key, each in places.items()}
            self.groups = {group: found[group] for group in self.groups}
            self.weights = {name: found[name] for name in self.weights}

    def ordered(self, unit: Parallel) -> Sequence[Series]:
        """The branches, in the order of their text where the join does not mind."""
        return sorted(unit.branches, key=self._series_text) if unit.join.rule.commutative else unit.branches

    def untangled(self, unit: Tangle) -> tuple[list[int], tuple[tuple[int, ...], ...]]:
        """The ops of a tangle as a walk from the last one back meets them, and the wiring in this order."""
        _, sources = self._tangle_texts(unit)
        order: list[int] = []
        waiting = [(len(unit.ops) - 1, False)]
        while waiting:
            place, seen = waiting.pop()
            if seen and place not in order:
                order.append(place)
            elif place not in order:
                waiting.append((place, True))
                waiting.extend((source, False) for source in reversed(sources[place]) if source >= 0)
        new = {place: number for number, place in enumerate(order)} | {-1: -1}
        return order, tuple(tuple(new[source] for source in sources[place]) for place in order)

    def _tangle_texts(self, unit: Tangle) -> tuple[list[str], list[tuple[int, ...]]]:
        """By op: a hash of it and all before it, and its operands, sorted where their order does not matter."""
        texts: list[str] = []
        sources: list[tuple[int, ...]] = []
        for op, wires in zip(unit.ops, unit.wiring, strict=True):
            text = {wire: texts[wire] if wire >= 0 else "" for wire in wires}
            sources.append(tuple(sorted(wires, key=text.__getitem__)) if op.rule.commutative else wires)
            texts.append(_hash((self._text(op), [text[wire] for wire in sources[-1]])))
        return texts, sources

    def _places(self, series: Series, path: str) -> Iterator[tuple[str, Op]]:
        for number, unit in enumerate(series):
            here = f"{path}/{number}"
            if isinstance(unit, Parallel):
                for place, branch in enumerate(unit.branches):
                    way = self._series_text(branch) if unit.join.rule.commutative else place
                    yield from self._places(branch, f"{here}:{way}")
                yield here, unit.join
            elif isinstance(unit, Tangle):
                texts, _ = self._tangle_texts(unit)
                yield from ((f"{here}:{text}", op) for text, op in zip(texts, unit.ops, strict=True))
            else:
                yield here, unit

    def _series_text(self, series: Series) -> str:
        return _hash([self._unit_text(unit) for unit in series])

    def _unit_text(self, unit: Unit) -> str:
        if isinstance(unit, Parallel):
            texts = [self._series_text(branch) for branch in unit.branches]
            return _hash((self._text(unit.join), sorted(texts) if unit.join.rule.commutative else texts))
        if isinstance(unit, Tangle):
            return self._tangle_texts(unit)[0][-1]
        return self._text(unit)

    def _text(self, op: Op) -> str:
        return repr(_tree_op(op, self.groups, self.weights))


def _labels(op: Op, shared: frozenset[str]) -> Iterator[tuple[int | str, str]]:
    """Every group and shared weight of an op, and where in it."""
    for slot, axes in ((-1, op.output), *((parameter.slot, parameter.axes) for parameter in op.parameters)):
        for place, axis in enumerate(axes):
            for number, part in enumerate(axis):
                if part.group is not None:
                    yield part.group, f".{slot}.{place}.{number}"
    for parameter in op.parameters:
        if parameter.name in shared:
            yield parameter.name, f".{parameter.slot}"


def _groups(axes: Axes) -> Iterator[int]:
    return (part.group for axis in axes for part in axis if part.group is not None)


def _tree_op(op: Op, groups: Mapping[int, str], weights: Mapping[str, str]) -> TreeOp:
    found = window(op)
    return TreeOp(
        op=op.op,
        matching=tuple((key, frozen(value)) for key, value in op.matching),
        constants=tuple(_constants(op)),
        output=_axes(op.output, groups),
        kernel=found.size if found else (),
        pads=(*found.begins, *found.ends) if found else (),
        parameters=tuple(_parameter(parameter, groups, weights) for parameter in op.parameters),
    )


def _parameter(parameter: Parameter, groups: Mapping[int, str], weights: Mapping[str, str]) -> TreeParameter:
    axes = _axes(parameter.axes, groups)
    return TreeParameter(parameter.kind.value, parameter.shape, axes, weights.get(parameter.name, ""))


def _constants(op: Op) -> Iterator[tuple[int, str]]:
    """The constants that matter: not those that a width gives."""
    slots = {parameter.slot for parameter in op.parameters}
    for index, constant in enumerate(op.site.constants):
        if constant is not None and index not in slots and index not in op.rule.derived:
            yield index, _constant_text(constant)


def _constant_text(constant: Array) -> str:
    values = str(constant.tolist()) if constant.size <= 8 else sha256(constant.tobytes()).hexdigest()[:16]
    return f"{constant.dtype} {sizes(constant.shape)} {values}".replace("  ", " ")


def _axes(axes: Axes, groups: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(_axis(axis, groups) for axis in axes)


def _axis(axis: Axis, groups: Mapping[int, str]) -> str:
    words = []
    for part in axis:
        if part.group is not None:
            factors = (size_text(part.outer), groups[part.group], size_text(part.inner))
            words.append("*".join(str(factor) for factor in factors if factor != 1))
        else:
            words.append(str(size_text(part.outer * part.inner)))
    return "+".join(words)


def _hash(data: object) -> str:
    return sha256(repr(data).encode()).hexdigest()[:16]
