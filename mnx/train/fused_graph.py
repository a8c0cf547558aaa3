"""The step graphs of several networks as one graph that reads one batch; each network computes what it would alone.

Values of network i stand under the name 'i/VALUE', but for what all read: the examples, what is to be predicted, and
how they are mixed. No node of one network reads what a node of another makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import onnx

from mnx.errors import MnxError
from mnx.train.losses import MIX, OTHERS, TARGETS, TEACHER
from mnx.train.optimiser import LAST
from mnx.train.step_graph import StepGraph

_SHARED: Final = (TARGETS, OTHERS, TEACHER, MIX, LAST)


@dataclass(frozen=True)
class FusedGraph:
    """The serialised ONNX model, and for every network what its values are called in it."""

    proto: bytes
    names: tuple[Callable[[str], str], ...]


def fused(graphs: Sequence[StepGraph]) -> FusedGraph:
    """One graph of several; a single one stays as it is.

    Raises:
        MnxError: the networks do not read the same inputs, or predict something else.
    """
    first, *others = graphs
    if not others:
        return FusedGraph(first.proto, (_as_it_is,))
    for graph in others:
        ends = [([(port.dtype, port.shape) for port in each.x], each.targets, each.width) for each in (first, graph)]
        if ends[0] != ends[1]:
            raise MnxError("networks with other inputs or outputs cannot train on one batch: train them apart")
    made, names = onnx.ModelProto(), tuple(_names(graph, place) for place, graph in enumerate(graphs))
    for graph, name in zip(graphs, names, strict=True):
        _add(made, graph, name)
    return FusedGraph(made.SerializeToString(), names)


def _as_it_is(value: str) -> str:
    return value


def _names(graph: StepGraph, place: int) -> Callable[[str], str]:
    """What the values of the network at a place are called."""
    shared = {name: name for name in ("", *_SHARED)} | {port.name: f"mnx:x/{at}" for at, port in enumerate(graph.x)}
    return lambda value: shared.get(value, f"{place}/{value}")


def _add(made: onnx.ModelProto, graph: StepGraph, name: Callable[[str], str]) -> None:
    """Add a network's graph in place.

    Shapes that it says of its values go along: ONNX Runtime cannot find them behind its own ops, and crashes without.
    """
    given = onnx.ModelProto()
    given.ParseFromString(graph.proto)
    if not made.graph.node:
        made.ir_version, made.graph.name = given.ir_version, "fused"
    domains = {each.domain for each in made.opset_import}
    made.opset_import.extend(each for each in given.opset_import if each.domain not in domains)
    for node in given.graph.node:
        node.name = name(node.name)
        node.input[:] = [name(value) for value in node.input]
        node.output[:] = [name(value) for value in node.output]
    known = {value.name for value in made.graph.input}
    for values in (given.graph.input, given.graph.output, given.graph.value_info, given.graph.initializer):
        for value in values:
            value.name = name(value.name)
    made.graph.node.extend(given.graph.node)
    made.graph.input.extend(value for value in given.graph.input if value.name not in known)
    made.graph.output.extend(given.graph.output)
    made.graph.value_info.extend(given.graph.value_info)
    made.graph.initializer.extend(given.graph.initializer)
