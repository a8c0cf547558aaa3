"""What the rules of `opsets` share: when an opset does not do, and a node again with other inputs or attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import onnx
from onnx import helper

from mnx.graphs.canonical.expansion import Expansion
from mnx.graphs.model import Array

Write: TypeAlias = Callable[[Expansion, int], None]
"""Fills the place of a node with what it is in an opset; raises `NeedsOpset` where that cannot say it."""


class NeedsOpset(Exception):
    """A node cannot be said in an opset; `opset` is the oldest that may do."""

    def __init__(self, place: Expansion, opset: int, why: str) -> None:
        super().__init__(why)
        self.opset = opset
        self.why = f"{place.op} (node {place.node.name or place.outputs[0]!r}) {why}"


def again(place: Expansion, inputs: Sequence[str], **attributes: Any) -> None:
    """The node with these inputs and attributes in place of its own; an attribute that is None goes."""
    node = onnx.NodeProto()
    node.CopyFrom(place.node)
    del node.input[:]
    node.input.extend(inputs)
    kept = [attribute for attribute in place.node.attribute if attribute.name not in attributes]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items() if value is not None)
    place.nodes.append(node)


def fixed(place: Expansion, index: int, since: int) -> Array | None:
    """The numbers of input `index`, None where it is absent.

    Raises:
        NeedsOpset: the network computes it, which opset `since` is the first to allow.
    """
    name = place.input(index)
    if not name:
        return None
    array = place.constant(name)
    if array is None:
        raise NeedsOpset(place, since, f"computes its input {index}")
    return array


def integers(array: Array) -> list[int]:
    """Numbers as the integers of an attribute."""
    return [int(number) for number in array.reshape(-1)]
