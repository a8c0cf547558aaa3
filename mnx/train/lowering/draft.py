"""A model while its nodes are lowered, and the masks of Dropout that a lowered model takes as inputs.

No node of a draft reads one value twice: the second time through Identity; ONNX Runtime cannot build its gradient
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from mnx.graphs.model import Array, Attribute, Node, Shape

Operand: TypeAlias = "str | float | tuple[int, ...] | Array"
"""A value by name; a float32 number; int64 numbers; an array."""


@dataclass(frozen=True)
class Mask:
    """A Dropout's mask: the input that takes it, its shape without the batch, and the share of zeros."""

    name: str
    shape: Shape
    ratio: float


def draw_masks(masks: Sequence[Mask], batch: int, seed: int, step: int) -> dict[str, Array]:
    """The masks of one step by input name, float32, shape (batch, ...): the same for the same seed and step."""
    drawn: dict[str, Array] = {}
    if not masks:  # a generator takes longer to make than a small network's step
        return drawn
    random = np.random.default_rng([seed, step])
    for mask in masks:
        kept = random.random((batch, *mask.shape), np.float32) >= np.float32(mask.ratio)
        drawn[mask.name] = kept.astype(np.float32) * np.float32(1 / (1 - mask.ratio) if mask.ratio < 1 else 0)
    return drawn


@dataclass
class Draft:
    """What is known of the model, and what has been lowered so far.

    Attributes:
        shapes: of every value of the model, with some size of the batch.
        open: the values whose shape is not known beside the batch before the step runs.
        table: op -> its lowering.
        corrections: of variances, by rows and extent of what is normalised.
    """

    shapes: Mapping[str, Shape]
    open: frozenset[str]
    table: Mapping[str, Lowering]
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    statistics: dict[str, str] = field(default_factory=dict)
    masks: list[Mask] = field(default_factory=list)
    corrections: dict[tuple[int, int], str] = field(default_factory=dict)

    def lower(self, node: Node) -> None:
        """Append a node, or what stands for it."""
        lowering = self.table.get(node.op) if not node.domain else None
        if lowering:
            lowering(node, self)
        else:
            self.append(node)

    def append(self, node: Node) -> None:
        """Append a node as it is."""
        inputs: list[str] = []
        for index, value in enumerate(node.inputs):
            if value and value in inputs:
                copy = f"mnx:{node.name}:input{index}"
                self.nodes.append(Node(copy, "Identity", (value,), (copy,)))
                value = copy
            inputs.append(value)
        self.nodes.append(Node(node.name, node.op, tuple(inputs), node.outputs, node.attributes, node.domain))

    def at(self, node: Node) -> Parts:
        """What makes the parts of the decomposition of `node`."""
        return Parts(node.name, self)


class Parts:
    """Makes nodes that together stand for one; a call returns the name of the value that a part makes."""

    def __init__(self, name: str, draft: Draft) -> None:
        self._name, self._draft, self._count = name, draft, 0

    def __call__(self, op: str, *inputs: Operand, out: str = "", **attributes: Attribute) -> str:
        """Append a node with one output, called `out` where it is given."""
        return self.several(op, (out,), *inputs, **attributes)[0]

    def several(self, op: str, outs: tuple[str, ...], *inputs: Operand, **attributes: Attribute) -> tuple[str, ...]:
        """Append a node with several outputs; '' for a name of its own."""
        names = tuple(each if isinstance(each, str) else self.constant(each) for each in inputs)
        made = tuple(out or self.name() for out in outs)
        self._draft.append(Node(self.name(), op, names, made, attributes))
        return made

    def lower(self, op: str, *inputs: str, out: str = "", **attributes: Attribute) -> str:
        """Append a node that is lowered in its turn."""
        made = out or self.name()
        self._draft.lower(Node(self.name(), op, inputs, (made,), attributes))
        return made

    def constant(self, value: float | tuple[int, ...] | Array) -> str:
        """Add a constant."""
        array = np.array(value, np.int64) if isinstance(value, tuple) else np.asarray(value)
        name = self.name()
        self._draft.weights[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return name

    def name(self) -> str:
        """A name that nothing else has."""
        self._count += 1
        return f"mnx:{self._name}:{self._count}"


Lowering: TypeAlias = Callable[[Node, Draft], None]
"""Appends to a draft what stands for a node."""
