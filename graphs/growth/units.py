"""Where a unit stands that is to be repeated: a plain layer with what belongs to it, or a run of units of a series.

To a layer belong the bias, the normalisation and the activation behind it; to a residual section the activation.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from mnx.graphs.errors import GraphError
from mnx.graphs.ops.axes import Axes
from mnx.graphs.ops.rule import Kind
from mnx.graphs.suggest import listed
from mnx.graphs.trees.structure import Op, Parallel, Series, Structure, Tangle, Unit, ops_of


@dataclass(frozen=True)
class Run:
    """Consecutive units of a series, and the name of the value that they read."""

    units: Series
    entering: str

    @property
    def leaving(self) -> str:
        """The name of the value that they give."""
        return self.units[-1].value

    @property
    def input(self) -> Axes:
        """The axes of the value that they read."""
        first = self.units[0]
        return () if isinstance(first, Tangle) else first.input

    @property
    def names(self) -> list[str]:
        """The names of their nodes."""
        return [op.name for op in ops_of(self.units)]

    @property
    def layer(self) -> Op | None:
        """The one layer, where they are a plain layer with what belongs to it."""
        first = self.units[0]
        return first if isinstance(first, Op) and layers_of(self.units) == [first] else None


def run_of(structure: Structure, names: Set[str], words: str) -> Run:
    """The least run of units that holds the ops of these names, with what belongs to it.

    Args:
        structure: the network.
        names: of its ops.
        words: what an error begins with.

    Raises:
        GraphError: the ops are no run of one series.
    """
    found = _located(structure.series, structure.input_value, names, words)
    series, first, last = found.series, found.first, found.last
    while first > 0 and _belongs(series[first], True) and not has_layer(series[first : last + 1]):
        first -= 1
    plain = isinstance(series[last], Op)
    while last + 1 < len(series) and _belongs(series[last + 1], plain):
        last += 1
    units = series[first : last + 1]
    if not has_layer(units):
        raise GraphError(f"{words} has no layer with weights that could be repeated: name a layer, or a unit with one")
    if any(isinstance(unit, Tangle) for unit in units):
        raise GraphError(f"{words} holds ops that are no tree of branches, which cannot be repeated")
    return Run(units, series[first - 1].value if first else found.entering)


def has_layer(units: Series) -> bool:
    """Whether units have any of `layers_of`."""
    return bool(layers_of(units))


def layers_of(units: Series) -> list[Op]:
    """The ops of units that have weights that they multiply with, or a table."""
    return [op for op in ops_of(units) if any(p.kind in (Kind.WEIGHT, Kind.TABLE) for p in op.parameters)]


@dataclass(frozen=True)
class _Located:
    """From the first to the last unit of a series, and the name of the value that the series reads."""

    series: Series
    first: int
    last: int
    entering: str


def _located(series: Series, entering: str, names: Set[str], words: str) -> _Located:
    touched = [place for place, unit in enumerate(series) if names & {op.name for op in ops_of((unit,))}]
    first, last = touched[0], touched[-1]
    unit = series[first]
    if first == last and isinstance(unit, Tangle):
        raise GraphError(f"{words} stands among ops that are no tree of branches: nothing can be put in there")
    if first == last and isinstance(unit, Parallel) and not _whole(unit, names):
        inside = [branch for branch in unit.branches if names & {op.name for op in ops_of(branch)}]
        if len(inside) == 1:
            return _located(inside[0], series[first - 1].value if first else entering, names, words)
        raise GraphError(
            f"{words} lies in several branches of the section that ends in '{unit.join.name}': name that, or a layer"
        )
    loose = tuple(u for u in series[first : last + 1] if not (isinstance(u, Parallel) and _whole(u, names)))
    others = [op.name for op in layers_of(loose) if op.name not in names]
    if others:
        raise GraphError(f"{words} is not one run of units: {listed(others)} lie between: name a layer, or a unit")
    return _Located(series, first, last, entering)


def _whole(section: Parallel, names: Set[str]) -> bool:
    """Whether a section is named: by its join, or by all that has weights in it."""
    weighted = [op.name for op in ops_of((section,)) if op.parameters]
    return section.join.name in names or (bool(weighted) and all(name in names for name in weighted))


def _belongs(unit: Unit, plain: bool) -> bool:
    """Whether a unit goes with the one before: an activation; behind a plain layer, bias and normalisation too."""
    if isinstance(unit, Tangle):
        return False
    ops = list(ops_of((unit,)))
    if has_layer((unit,)) or unit.output != unit.input or any("kernel_shape" in op.site.node.attributes for op in ops):
        return False
    if isinstance(unit, Op) and unit.parameters:
        return plain or unit.op == "PRelu"
    return not any(op.parameters or op.rule.mixes for op in ops)
