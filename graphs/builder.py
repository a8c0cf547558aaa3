"""A small builder for models written as code: sample members, lowered graphs, training steps, ensembles."""

from __future__ import annotations

from collections.abc import Sequence

from mnx.graphs.model import Array, Attribute, Model, Node, Port


class Builder:
    """Collects nodes and weights in execution order; `add` returns the name of the value it makes."""

    def __init__(self, prefix: str = "") -> None:
        self.nodes: list[Node] = []
        self.weights: dict[str, Array] = {}
        self._prefix = prefix
        self._taken: set[str] = set()

    def name(self, wish: str) -> str:
        """`wish` under the prefix, numbered where it is taken."""
        candidate, count = self._prefix + wish, 1
        while candidate in self._taken:
            candidate, count = f"{self._prefix}{wish}_{count}", count + 1
        self._taken.add(candidate)
        return candidate

    def weight(self, name: str, array: Array) -> str:
        """Add an initializer and return its name."""
        key = self.name(name)
        self.weights[key] = array
        return key

    def add(
        self,
        op: str,
        *inputs: str,
        name: str = "",
        outputs: int | Sequence[str] = 1,
        domain: str = "",
        **attributes: Attribute,
    ) -> str:
        """Add a node; `outputs` is a count or the names to use. Returns the first output's name."""
        key = self.name(name or op.lower())
        if isinstance(outputs, int):
            outputs = [key if index == 0 else f"{key}.{index}" for index in range(outputs)]
        self.nodes.append(Node(key, op, tuple(inputs), tuple(outputs), dict(attributes), domain))
        return outputs[0]

    def model(self, name: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> Model:
        """The finished model."""
        return Model(name, tuple(inputs), tuple(outputs), tuple(self.nodes), dict(self.weights))
