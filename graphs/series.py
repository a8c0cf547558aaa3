"""Series-parallel decomposition of a network's activation graph.

From a value that one node reads, the series goes on with that node. From a value that several read, every path meets
again first at one node, the join; what lies between falls into branches, one for each operand of the join. The join is
found by counting paths: J joins the fork v when paths(v, J) * paths(J, end) = paths(v, end).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mnx.graphs.axes import Axes
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Node
from mnx.graphs.structure import Op, Parallel, Series, Unit


def activation_inputs(node: Node, model: Model) -> list[str]:
    """The inputs of a node that are computed from the network's input, with repetitions."""
    return [name for name in node.inputs if name and name not in model.weights]


def series_of(model: Model, ops: Mapping[str, Op], entry: Axes) -> Series:
    """The tree of a model, given the ops of its nodes by node name.

    Raises:
        GraphError: the network is not series-parallel, or holds nodes that do not lie between input and output.
    """
    flow = _Flow(model, ops)
    source, sink = model.inputs[0].name, model.outputs[0].name
    inside = flow.ancestors(sink, source)
    for node in model.nodes:
        if node.name not in inside:
            raise GraphError(
                f"{model.name}: node '{node.name}' ({node.op}) does not lie between the input '{source}' and the "
                f"output '{sink}'; leave it out of the export"
            )
    return flow.series(source, sink, inside, entry)


@dataclass
class _Flow:
    model: Model
    ops: Mapping[str, Op]

    def __post_init__(self) -> None:
        self.producers = self.model.producers()
        self.consumers = self.model.consumers()
        self.nodes = {node.name: node for node in self.model.nodes}
        self.order = {node.name: place for place, node in enumerate(self.model.nodes)}

    def ancestors(self, sink: str, source: str) -> frozenset[str]:
        """Names of the nodes between two values, that of the sink included."""
        found: set[str] = set()
        waiting = [sink]
        while waiting:
            value = waiting.pop()
            if value == source or value not in self.producers:
                continue
            node = self.producers[value]
            if node.name not in found:
                found.add(node.name)
                waiting.extend(activation_inputs(node, self.model))
        return frozenset(found)

    def series(self, source: str, sink: str, inside: Collection[str], entry: Axes) -> Series:
        """The units between two values, within the given nodes."""
        units: list[Unit] = []
        value, axes = source, entry
        while value != sink:
            users = [node for node in self.consumers.get(value, []) if node.name in inside]
            if not users:
                raise self._not_series_parallel(value)
            if len(users) == 1 and activation_inputs(users[0], self.model) == [value]:
                unit: Unit = self.ops[users[0].name]
            else:
                unit = self._parallel(value, sink, inside, axes)
            units.append(unit)
            value, axes = unit.value, unit.output
        return tuple(units)

    def _parallel(self, fork: str, sink: str, inside: Collection[str], axes: Axes) -> Parallel:
        join = self._join(fork, sink, inside)
        operands = activation_inputs(join, self.model)
        regions = [self.ancestors(operand, fork) for operand in operands]
        if sum(map(len, regions)) != len(frozenset().union(*regions)) or any(not r <= set(inside) for r in regions):
            raise self._not_series_parallel(fork)
        branches = tuple(
            self.series(fork, operand, region, axes) for operand, region in zip(operands, regions, strict=True)
        )
        return Parallel(branches, self.ops[join.name], axes)

    def _join(self, fork: str, sink: str, inside: Collection[str]) -> Node:
        """The first node that every path from the fork to the sink passes."""
        nodes = sorted((self.nodes[name] for name in inside), key=lambda node: self.order[node.name])
        arriving = {fork: 1}
        for node in nodes:
            count = sum(arriving.get(name, 0) for name in activation_inputs(node, self.model))
            if count:
                arriving[node.outputs[0]] = count
        leaving = {sink: 1}
        for node in reversed(nodes):
            count = leaving.get(node.outputs[0], 0)
            for name in activation_inputs(node, self.model):
                leaving[name] = leaving.get(name, 0) + count
        for node in nodes:
            value = node.outputs[0]
            if value != fork and value in arriving and arriving[value] * leaving.get(value, 0) == arriving.get(sink, 0):
                return node
        raise self._not_series_parallel(fork)

    def _not_series_parallel(self, value: str) -> GraphError:
        return GraphError(
            f"{self.model.name}: what follows the value '{value}' is not a tree of series and parallel branches, "
            "so that no mother can be found for it yet"
        )
