"""Channels at the mean: how a width that LayerNormalization takes a mean over grows by other than whole multiples.

A value of D channels with mean m and variance v is repeated c times, e channels equal to m follow, T = c D + e:

    mean' = m        variance' = r v        r = c D / T
    scale' = scale sqrt(r),  epsilon' = epsilon r: the same result in all repeats, 0 in the channels at the mean

RMSNorm (Zhang and Sennrich, 2019), x / sqrt(mean(x^2) + epsilon) * scale, is scaled alike; its further channels are 0.

A channel is at the mean if everything that makes it is: rows of weights, biases and tables are means of rows, and what
stands between (sums, shifts, moves) is linear. A factor for every channel (layer scale) is taken into the rows before
it: mean(g * u) = sum of (g / D) u. A normalisation, a depthwise convolution or an activation in between cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mnx.graphs.ops.axes import Axes, Part
from mnx.graphs.ops.rule import Keeps, Kind, Role
from mnx.graphs.trees.structure import Op, Parameter, Structure

Demand = tuple[str, ...]
"""The scales, by parameter name, that stand between a value and the mean that is wanted of it; or `ZERO`."""

ZERO: Demand = ("",)
"""Wanted is not the mean but zero."""


@dataclass
class Centred:
    """What the groups of a network that may have channels at the mean need.

    Attributes:
        groups: the groups.
        rows: (node, parameter) -> the scales that multiply a row before the mean is taken, for parameters that make
            the channel.
        scales: parameters that are 1 in a channel at the mean.
        settled: nodes that read a channel where it is 0, behind a normalisation.
        roots: of RMSNorms: the nodes that add epsilon -> the group.
        root_scales: of RMSNorms: the scales, by parameter name.
    """

    groups: frozenset[int] = frozenset()
    rows: dict[tuple[str, str], Demand] = field(default_factory=dict)
    scales: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)
    roots: dict[str, int] = field(default_factory=dict)
    root_scales: set[str] = field(default_factory=set)


def centred(structure: Structure) -> Centred:
    """The groups of a network, among its even ones, that may have channels at the mean, and what they need."""
    found = Centred()
    ops = list(structure.ops())
    uses: dict[str, int] = {}
    for op in ops:
        for parameter in op.parameters:
            uses[parameter.name] = uses.get(parameter.name, 0) + 1
    for group in structure.even:
        search = _Search(group, ops, uses)
        if search.whole():
            found.groups |= {group}
            found.rows |= search.rows
            found.scales |= search.scales
            found.settled |= search.settled
            found.roots |= dict.fromkeys(search.roots, group)
            found.root_scales |= search.root_scales
    return found


def rigid(structure: Structure) -> frozenset[int]:
    """The groups that grow by whole multiples only."""
    return structure.even - centred(structure).groups if structure.even else frozenset()


class _Search:
    """Backward from every normalisation of one group: what is wanted of each value."""

    def __init__(self, group: int, ops: list[Op], uses: Mapping[str, int]) -> None:
        self.group, self.ops, self.uses = group, ops, uses
        self.wanted: dict[str, Demand] = {}
        self.rows: dict[tuple[str, str], Demand] = {}
        self.scales: set[str] = set()
        self.settled: set[str] = set()
        self.roots: set[str] = set()
        self.root_scales: set[str] = set()
        self.quotients: set[str] = set()
        self.makers = {op.value: op for op in ops}
        self.readers: dict[str, list[Op]] = {}
        for op in ops:
            for read in op.reads:
                self.readers.setdefault(op.site.node.inputs[read], []).append(op)

    def whole(self) -> bool:
        """Whether all that is wanted can be had."""
        for op in self.ops:
            averaged = any(self._has(op.operands[0][axis : axis + 1]) for axis in op.rule.even(op.site))
            source = op.site.node.inputs[op.reads[0]] if op.reads else ""
            if averaged and not (self._want(source, ()) if self._is_layer_norm(op) else self._rms_norm(op)):
                return False
        if not all(self._traced(op) for op in reversed(self.ops)):
            return False
        if set(self.wanted) - {op.value for op in self.ops}:
            return False
        self._settle()
        return True

    def _is_layer_norm(self, op: Op) -> bool:
        if op.op != "LayerNormalization" or len(op.rule.even(op.site)) != 1:
            return False
        return op.operands[0][op.site.axis(-1)] == (Part(self.group),)

    def _rms_norm(self, mean: Op) -> bool:
        """Note what an RMSNorm needs whose mean of squares this is; False where it is none."""
        square = self.makers.get(mean.site.node.inputs[mean.reads[0]])
        if mean.op != "ReduceMean" or square is None or square.op != "Pow" or not self._simple(square.output):
            return False
        number = square.site.constants[1]
        if number is None or number.size != 1 or float(number.reshape(-1)[0]) != 2.0:
            return False
        guard = self._only_reader(mean, "Add")
        root = self._only_reader(guard, "Sqrt")
        quotient = self._only_reader(root, "Div")
        scale = self._only_reader(quotient, "Mul")
        if guard is None or quotient is None or scale is None or not scale.parameters:
            return False
        value = square.site.node.inputs[square.reads[0]]
        if quotient.site.node.inputs[0] != value or not self._want(value, ZERO):
            return False
        self.roots.add(guard.name)
        self.root_scales.add(scale.parameters[0].name)
        self.quotients.add(quotient.name)
        return sum(constant is not None for constant in guard.site.constants) == 1

    def _only_reader(self, op: Op | None, kind: str) -> Op | None:
        readers = self.readers.get(op.value, []) if op is not None else []
        return readers[0] if len(readers) == 1 and readers[0].op == kind else None

    def _want(self, value: str, demand: Demand) -> bool:
        return self.wanted.setdefault(value, demand) == demand

    def _has(self, axes: Axes) -> bool:
        return any(part.group == self.group for axis in axes for part in axis)

    def _simple(self, axes: Axes) -> bool:
        """Whether the group is one whole axis."""
        mine = [axis for axis in axes if self._has((axis,))]
        return mine == [(Part(self.group),)]

    def _traced(self, op: Op) -> bool:
        """Hand on what is wanted of an op's output to what it reads; False where that cannot be."""
        demand = self.wanted.get(op.value)
        if demand is None:
            return True
        if not self._simple(op.output) or any(self.uses[p.name] > 1 for p in op.parameters):
            return False
        reads = [op.site.node.inputs[read] for read in op.reads]
        if op.op in ("Add", "Mul") and op.parameters:
            return self._traced_operand(op, op.parameters[0], demand, reads)
        if op.op == "Add" and len(reads) == 2:
            both = [axes for axes in (op.operands[read] for read in op.reads) if self._simple(axes)]
            return len(both) == 2 and all(self._want(value, demand) for value in reads)
        if self._makes(op):
            self.rows |= {(op.name, p.name): demand for p in op.parameters}
            return True
        if op.op == "Concat":
            return all(
                self._simple(op.operands[read]) and self._want(op.site.node.inputs[read], demand) for read in op.reads
            )
        passes = Keeps.ADDS in op.rule.keeps(op.site) or op.op in ("Gather", "Expand", "Pad")
        passes = passes or (demand == ZERO and op.rule.keeps_zero)
        single = len(op.reads) == 1 and not op.parameters and self._simple(op.operands[op.reads[0]])
        return passes and single and self._want(reads[0], demand)

    def _traced_operand(self, op: Op, parameter: Parameter, demand: Demand, reads: list[str]) -> bool:
        if len(reads) != 1 or not self._simple(op.operands[op.reads[0]]):
            return False
        along = self._has(parameter.axes)
        if op.op == "Mul" and along:
            self.scales.add(parameter.name)
            if demand == ZERO:
                return self._want(reads[0], ZERO)
            return sum(map(len, map(_groups, parameter.axes))) == 1 and self._want(reads[0], (*demand, parameter.name))
        if along:
            self.rows[op.name, parameter.name] = demand
        return self._want(reads[0], demand)

    def _makes(self, op: Op) -> bool:
        """Whether the channel comes out of stored rows: a linear layer, a table, a token."""
        made = [p for p in op.parameters if p.kind in (Kind.WEIGHT, Kind.TABLE)]
        if not made or not (op.rule.linear or made[0].kind is Kind.TABLE):
            return False
        rows = [axis for axis, role in zip(made[0].axes, made[0].roles, strict=True) if role is Role.PRODUCE]
        return any(axis == (Part(self.group),) for axis in rows)

    def _settle(self) -> None:
        """The nodes that read a channel at 0: behind a normalisation, and what moves its result around."""
        zero: set[str] = set()
        for op in self.ops:
            reads = [op.site.node.inputs[read] for read in op.reads]
            if self._is_layer_norm(op) or op.name in self.quotients:
                zero.add(op.value)
            elif reads and all(value in zero for value in reads):
                self.settled.add(op.name)
                scaled = op.op == "Mul" and bool(op.parameters)
                if (scaled or Keeps.ADDS in op.rule.keeps(op.site)) and self._simple(op.output):
                    zero.add(op.value)


def _groups(axis: tuple[Part, ...]) -> list[int]:
    return [part.group for part in axis if part.group is not None]
