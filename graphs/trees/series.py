"""Series-parallel decomposition of a network's main flow, by node names alone.

From a value that one node reads, the series goes on with that node. From a value that several read, every path meets
again first at one node, the join; what lies between falls into branches, one for each operand of the join. The join is
found by counting paths: J joins the fork v when paths(v, J) * paths(J, end) = paths(v, end). Where branches are
tangled, all nodes from the fork to its join are one tangle.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Node
from mnx.graphs.trees.flow import Flow


@dataclass(frozen=True)
class Fork:
    """Branches, in the order of the join's operands, and the name of the join."""

    branches: tuple[Skeleton, ...]
    join: str


@dataclass(frozen=True)
class Tangle:
    """Nodes in execution order that are no tree of series and branches; the last one gives the result."""

    nodes: tuple[str, ...]


Skeleton: TypeAlias = "tuple[str | Fork | Tangle, ...]"


def skeleton_of(model: Model, flow: Flow) -> Skeleton:
    """The tree of a model by node names.

    Raises:
        GraphError: the network holds nodes that do not lie between input and output.
    """
    search = _Search(model, flow)
    sink = model.outputs[0].name
    inside = search.ancestors(sink, flow.source)
    for node in flow.nodes:
        if node.name not in inside:
            raise GraphError(
                f"{model.name}: node '{node.name}' ({node.op}) does not lie between the input and the output '{sink}'; "
                "leave it out of the export"
            )
    return search.series(flow.source, sink, inside)


class _Tangled(Exception):
    """The branches of a fork do not stand apart."""


class _Search:
    def __init__(self, model: Model, flow: Flow) -> None:
        self.model, self.flow = model, flow
        self.producers = {value: node for node in flow.nodes for value in node.outputs if value}
        self.nodes = {node.name: node for node in flow.nodes}
        self.order = {node.name: place for place, node in enumerate(flow.nodes)}
        self.consumers: dict[str, list[Node]] = {}
        for node in flow.nodes:
            for value in dict.fromkeys(flow.reads[node.name]):
                self.consumers.setdefault(value, []).append(node)

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
                waiting.extend(self.flow.reads[node.name])
        return frozenset(found)

    def series(self, source: str, sink: str, inside: Collection[str]) -> Skeleton:
        """The units between two values, within the given nodes."""
        units: list[str | Fork | Tangle] = []
        value = source
        while value != sink:
            users = [node for node in self.consumers.get(value, []) if node.name in inside]
            if not users:
                raise _Tangled
            if len(users) == 1 and self.flow.reads[users[0].name] == (value,):
                units.append(users[0].name)
                value = self._value(users[0])
                continue
            join = self._join(value, sink, inside)
            units.append(self._fork(value, join, inside))
            value = self._value(join)
        return tuple(units)

    def _fork(self, fork: str, join: Node, inside: Collection[str]) -> Fork | Tangle:
        operands = self.flow.reads[join.name]
        regions = [self.ancestors(operand, fork) for operand in operands]
        try:
            if sum(map(len, regions)) != len(frozenset().union(*regions)) or any(
                not region <= set(inside) for region in regions
            ):
                raise _Tangled
            branches = tuple(
                self.series(fork, operand, region) for operand, region in zip(operands, regions, strict=True)
            )
        except _Tangled:
            found = self.ancestors(self._value(join), fork)
            if not found <= set(inside):
                raise
            return Tangle(tuple(sorted(found, key=lambda name: self.order[name])))
        return Fork(branches, join.name)

    def _join(self, fork: str, sink: str, inside: Collection[str]) -> Node:
        """The first node that every path from the fork to the sink passes."""
        nodes = sorted((self.nodes[name] for name in inside), key=lambda node: self.order[node.name])
        arriving = {fork: 1}
        for node in nodes:
            count = sum(arriving.get(name, 0) for name in self.flow.reads[node.name])
            if count:
                arriving.update({name: count for name in node.outputs if name})
        leaving = {sink: 1}
        for node in reversed(nodes):
            count = sum(leaving.get(name, 0) for name in node.outputs if name)
            for name in self.flow.reads[node.name]:
                leaving[name] = leaving.get(name, 0) + count
        for node in nodes:
            value = self._value(node)
            if value != fork and value in arriving and arriving[value] * leaving.get(value, 0) == arriving.get(sink, 0):
                return node
        raise _Tangled

    def _value(self, node: Node) -> str:
        """The output of a node that is read."""
        read = [
            name for name in node.outputs if name and (name in self.consumers or name == self.model.outputs[0].name)
        ]
        if len(read) != 1:
            raise GraphError(
                f"{self.model.name}: node '{node.name}' ({node.op}) gives {len(read)} values that are read; mnx reads "
                "nodes with one result"
            )
        return read[0]
