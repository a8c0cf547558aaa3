"""Units that pass on what arrives because a neighbour of theirs takes something over.

A gate, x s(g(x)) with s a sigmoid: with the last layer of g at zero the gate is c = s(0) everywhere, and the linear
layer before it, or behind it, is multiplied by 1 / c. (A gate that is open, s(large), would learn nothing.)

    gate      W x c = (W / c) x c ...         squeeze-and-excitation (Hu et al., CVPR 2018)

A normalisation behind a residual sum, y = scale n(x + f(x)) + shift, with f at zero: n(n(x)) = n(x), so that the
normalisation before it becomes plain and the new one takes its scale and shift. With epsilon e and variance v of x this
errs by e |1 / v - 1| / 2 of the value.

    norm      scale n(x) + shift = scale n(n(x)) + shift        blocks of BERT and of torch's TransformerEncoderLayer
"""

from __future__ import annotations

from dataclasses import dataclass

from mnx.graphs.mothers.matching import How, zeroed
from mnx.graphs.ops.rule import Keeps, Kind, Role
from mnx.graphs.trees.structure import Op, Parallel, Series, Unit

LARGEST_EPSILON = 1e-5
"""Normalisations that guard against zero by more do not give back what is normal already."""

Ops = tuple[tuple[Op, How], ...]


@dataclass(frozen=True)
class Exchange:
    """What other nodes of the same network take over.

    Attributes:
        factor: what rows and columns are multiplied by.
        rows: the node that gives `factor` times what it would, '' where none does.
        columns: the nodes that read 1 / `factor` of what they would.
        source: the node whose scale and shift move to the unit, '' where none do.
        veiled: the nodes whose values are not those of the mother.
    """

    factor: float = 1.0
    rows: str = ""
    columns: tuple[str, ...] = ()
    source: str = ""
    veiled: frozenset[str] = frozenset()


def gate_at(series: Series, place: int) -> tuple[Ops, Exchange] | None:
    """How a gate passes on what arrives; None where the unit is none, or no linear layer stands next to it."""
    unit = series[place]
    if not isinstance(unit, Parallel) or unit.join.op != "Mul" or unit.join.parameters or len(unit.branches) != 2:
        return None
    gate = max(unit.branches, key=len)
    if min(map(len, unit.branches)) or not gate:
        return None
    level, ops = _level(gate[-1]), zeroed(gate[:-1])
    if not level or ops is None:
        return None
    every = (*ops, *((op, How.FREE) for op in gate[-1:] if isinstance(op, Op)), (unit.join, How.VEILED))
    before = series[place - 1] if place else None
    if isinstance(before, Op) and _gives_rows(before):
        return every, Exchange(1 / level, rows=before.name, veiled=frozenset({before.name}))
    behind = _behind(series[place + 1 :])
    if behind is None:
        return None
    columns, veiled = behind
    return every, Exchange(1 / level, columns=columns, veiled=frozenset({unit.join.name, *veiled}))


def _level(unit: Unit) -> float:
    """What a sigmoid gives at zero; 0 of what is none."""
    if not isinstance(unit, Op) or unit.parameters:
        return 0.0
    if unit.op == "Sigmoid":
        return 0.5
    return unit.site.node.real("beta", 0.5) if unit.op == "HardSigmoid" else 0.0


def _gives_rows(op: Op) -> bool:
    """Whether an op's result is multiplied by a factor when its rows and biases are."""
    kinds = {parameter.kind for parameter in op.parameters}
    return op.rule.linear and (Kind.WEIGHT in kinds or op.op == "BatchNormalization")


def _behind(series: Series) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The linear layers that read what arrives, behind what keeps factors; and what stands between."""
    veiled: list[str] = []
    for unit in series:
        if not isinstance(unit, Op):
            return None
        if any(p.kind is Kind.WEIGHT and Role.CONTRACT in p.roles for p in unit.parameters):
            return ((unit.name,), tuple(veiled)) if unit.rule.linear and _sums(unit) else None
        if unit.parameters or Keeps.SCALES not in unit.rule.keeps(unit.site):
            return None
        veiled.append(unit.name)
    return None


def _sums(op: Op) -> bool:
    """Whether what arrives is multiplied by the weight alone, so that a factor can stand there."""
    return len(op.reads) == 1


def norm_at(series: Series, place: int) -> tuple[Ops, Exchange] | None:
    """How a normalisation behind an inserted residual sum takes over the scale and shift of the one before the sum."""
    if place < 2:
        return None
    first, middle, last = series[place - 2], series[place - 1], series[place]
    if not (isinstance(first, Op) and isinstance(middle, Parallel) and isinstance(last, Op)):
        return None
    if not (_is_norm(first) and _is_norm(last)) or first.output != last.output or first.matching != last.matching:
        return None
    return ((last, How.HANDED),), Exchange(source=first.name, veiled=frozenset({first.name}))


def _is_norm(op: Op) -> bool:
    kinds = {parameter.kind for parameter in op.parameters}
    small = op.site.node.real("epsilon", 1e-5) <= 1.001 * LARGEST_EPSILON
    return op.op == "LayerNormalization" and {Kind.SCALE, Kind.SHIFT} == kinds and small
