"""A network as plain frozen data: nodes in execution order, weights by name, typed inputs and outputs.

Everything in mnx but the door (`onnx_file`) and the canonical passes works on this form. It speaks one dialect, ONNX
opset 21 after canonicalisation, with the batch as the first axis of every input and output.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

OPSET = 21
"""The one opset of the canonical dialect: the newest that ONNX Runtime training 1.19.2 loads."""
IR_VERSION = 10
"""The newest file format that ONNX Runtime training 1.19.2 loads."""

Array: TypeAlias = npt.NDArray[Any]
Attribute: TypeAlias = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One operation. An absent optional input is the empty string."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    domain: str = ""

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """The integer-list attribute `name`, or `default` where it is absent."""
        value = self.attributes.get(name, default)
        return tuple(int(v) for v in value) if isinstance(value, tuple) else default

    def integer(self, name: str, default: int) -> int:
        """The integer attribute `name`, or `default` where it is absent."""
        value = self.attributes.get(name, default)
        return int(value) if isinstance(value, int | float) else default

    def real(self, name: str, default: float) -> float:
        """The float attribute `name`, or `default` where it is absent."""
        value = self.attributes.get(name, default)
        return float(value) if isinstance(value, int | float) else default

    def input(self, index: int) -> str:
        """The name of input `index`, '' where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""


class Precision(NamedTuple):
    """The float types of a file: of its weights, its inputs and its outputs."""

    weights: str = "float32"
    inputs: str = "float32"
    outputs: str = "float32"

    def __str__(self) -> str:
        """The one type, or all three."""
        return self.weights if len(set(self)) == 1 else "/".join(self)

    @classmethod
    def parse(cls, text: str) -> Precision:
        """The inverse of `str`."""
        parts = text.split("/")
        return cls(*parts) if len(parts) > 1 else cls(*parts * 3)


@dataclass(frozen=True)
class Origin:
    """What a model's file says beside its network: formats, names and words of the file as a whole.

    `batch` is axis 0 of the user's inputs and outputs by name: its own name, a fixed size, or None where it has none.
    """

    opset: int = OPSET
    ir_version: int = IR_VERSION
    graph: str = ""
    graph_doc: str = ""
    doc: str = ""
    producer: str = ""
    producer_version: str = ""
    domain: str = ""
    model_version: int = 0
    batch: Mapping[str, str | int | None] = field(default_factory=dict)

    @property
    def exporter(self) -> str:
        """The producer with its version, '' where none is named."""
        return f"{self.producer} {self.producer_version}".strip()


@dataclass(frozen=True)
class Port:
    """An input or output of a model: its name, numpy dtype name and shape without the batch axis."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class Model:
    """A network.

    `nodes` are in execution order. `inputs` and `outputs` are those of the body (channels first; logits); `entry` holds
    the nodes peeled off in front of it (a Transpose of channels-last images), `head` those behind it (a final Softmax);
    both are put back when the model is saved. `changes` lists in words what canonicalisation had to change. Weights are
    arrays that nobody may write to. `results` are the outputs of the user's file, where they are not just the ends of
    the head; `precision` is its float types (the model itself is in float32), `external` whether its weights lay in a
    file of their own, `origin` what else the file says.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    nodes: tuple[Node, ...]
    weights: Mapping[str, Array]
    head: tuple[Node, ...] = ()
    entry: tuple[Node, ...] = ()
    results: tuple[Port, ...] = ()
    source: Path | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    precision: Precision = field(default_factory=Precision)
    external: bool = False
    origin: Origin = field(default_factory=Origin)

    def producers(self) -> dict[str, Node]:
        """Value name -> the body node that makes it."""
        return {value: node for node in self.nodes for value in node.outputs if value}

    def consumers(self) -> dict[str, list[Node]]:
        """Value name -> the body nodes that read it, in execution order, once per node."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                if value:
                    found.setdefault(value, []).append(node)
        return found

    def node(self, name: str) -> Node:
        """The body node called `name`; KeyError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def replace(self, **changes: Any) -> Model:
        """A copy with these fields changed."""
        return dataclasses.replace(self, **changes)

    def with_weights(self, weights: Mapping[str, Array]) -> Model:
        """A copy in which the named weights have new values; the others stay."""
        return self.replace(weights={**self.weights, **weights})


def model_hash(model: Model) -> str:
    """A sha256 over structure and weights: equal exactly for models that compute the same from the same numbers."""
    digest = hashlib.sha256()
    parts: list[Node | Port] = [*model.inputs, *model.outputs, *model.entry, *model.nodes, *model.head]
    for part in parts:
        digest.update(_text(part).encode())
    for name in sorted(model.weights):
        array = np.ascontiguousarray(model.weights[name])
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _text(part: Node | Port) -> str:
    """A node or port in words that do not depend on the order of attributes."""
    if isinstance(part, Port):
        return repr(part)
    return repr((part.name, part.op, part.domain, part.inputs, part.outputs, sorted(part.attributes.items())))


def free_name(name: str, taken: Container[str]) -> str:
    """The name, with underscores behind it until nothing else has it."""
    while name in taken:
        name += "_"
    return name


def without_unused_weights(model: Model, keep: Iterable[str] = ()) -> Model:
    """A copy without the weights that no node reads."""
    used = {value for node in (*model.entry, *model.nodes, *model.head) for value in node.inputs} | set(keep)
    return model.replace(weights={name: array for name, array in model.weights.items() if name in used})
