"""LSTM, GRU and RNN written out over the steps of the sequence, whose number is known; ONNX Runtime has no gradient.

With x the numbers that arrive at a step, h the state, c the cell; f, g, k the functions of the layer; `.` by element:

RNN: h' = f(W x + R h + b)
GRU: z = f(Wz x + Rz h + bz);  r = f(Wr x + Rr h + br);  h' = (1 - z) . n + z . h, where
    n = g(Wn x + Rn (r . h) + bn), or g(Wn x + wn + r . (Rn h + rn)) with linear_before_reset
LSTM: i = f(Wi x + Ri h + Pi . c + bi);  u = f(Wf x + Rf h + Pf . c + bf), or 1 - i with input_forget;
    c' = u . c + i . g(Wc x + Rc h + bc);  o = f(Wo x + Ro h + Po . c' + bo);  h' = o . k(c')

The products W x of all steps are one MatMul.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mnx.graphs.model import Node
from mnx.train.lowering.draft import Draft, Parts

FUNCTIONS = frozenset({"Elu", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh"})
"""The functions of a recurrent layer that are trained through, with the numbers that ONNX sets where none are given."""


@dataclass(frozen=True)
class _Direction:
    """One direction of a layer: what a step needs beside its state."""

    at: Parts
    node: Node
    hidden: int
    functions: tuple[str, ...]
    recurrent: str
    shift: str
    peepholes: str

    def apply(self, function: int, value: str) -> str:
        return self.at.lower(self.functions[function], value)

    def part(self, value: str, index: int, count: int = 1) -> str:
        """Gates number `index` to `index + count` of a value whose last axis holds all of them."""
        return self.at("Slice", value, (index * self.hidden,), ((index + count) * self.hidden,), (-1,))

    def product(self, h: str, first: int, count: int) -> str:
        """R h for some of the gates."""
        return self.at("MatMul", h, self.part(self.recurrent, first, count))


Step = Callable[[_Direction, str, tuple[str, ...]], tuple[str, ...]]
"""(direction, W x of all gates, states) -> new states, the one that is given out first."""


def _rnn(layer: _Direction, x: str, states: tuple[str, ...]) -> tuple[str, ...]:
    shift = layer.at("Add", x, layer.shift)
    return (layer.apply(0, layer.at("Add", shift, layer.product(states[0], 0, 1))),)


def _gru(layer: _Direction, x: str, states: tuple[str, ...]) -> tuple[str, ...]:
    at, h = layer.at, states[0]
    gates = layer.apply(
        0, at("Add", at("Add", layer.part(x, 0, 2), layer.part(layer.shift, 0, 2)), layer.product(h, 0, 2))
    )
    update, reset = layer.part(gates, 0), layer.part(gates, 1)
    if layer.node.integer("linear_before_reset", 0):
        recurrent = at("Mul", reset, at("Add", layer.product(h, 2, 1), layer.part(layer.shift, 2)))
    else:
        recurrent = at("Add", layer.product(at("Mul", reset, h), 2, 1), layer.part(layer.shift, 2))
    new = layer.apply(1, at("Add", layer.part(x, 2), recurrent))
    return (at("Add", at("Mul", at("Sub", 1.0, update), new), at("Mul", update, h)),)


def _lstm(layer: _Direction, x: str, states: tuple[str, ...]) -> tuple[str, ...]:
    at, (h, c) = layer.at, states
    gates = at("Add", at("Add", x, layer.shift), layer.product(h, 0, 4))
    arrive, give, forget, cell = (layer.part(gates, index) for index in range(4))

    def seen(gate: str, index: int, cells: str) -> str:
        return at("Add", gate, at("Mul", cells, layer.part(layer.peepholes, index))) if layer.peepholes else gate

    arrive = layer.apply(0, seen(arrive, 0, c))
    kept = at("Sub", 1.0, arrive) if layer.node.integer("input_forget", 0) else layer.apply(0, seen(forget, 2, c))
    moved = at("Add", at("Mul", kept, c), at("Mul", arrive, layer.apply(1, cell)))
    return (at("Mul", layer.apply(0, seen(give, 1, moved)), layer.apply(2, moved)), moved)


@dataclass(frozen=True)
class _Layer:
    """Of an op: its gates, its states, the functions that it has where none are given, one step."""

    gates: int
    states: int
    functions: tuple[str, ...]
    step: Step


LAYERS: Mapping[str, _Layer] = {
    "GRU": _Layer(3, 1, ("Sigmoid", "Tanh"), _gru),
    "LSTM": _Layer(4, 2, ("Sigmoid", "Tanh", "Tanh"), _lstm),
    "RNN": _Layer(1, 1, ("Tanh",), _rnn),
}


def recurrent(node: Node, draft: Draft) -> None:
    """Append an LSTM, GRU or RNN of known length, with axes (steps, batch, features)."""
    at, layer = draft.at(node), LAYERS[node.op]
    direction = node.attributes.get("direction", "forward")
    ways = {"forward": (1,), "reverse": (-1,), "bidirectional": (1, -1)}[str(direction)]
    runs = [_run(at, node, draft, layer, index, way) for index, way in enumerate(ways)]
    if node.outputs[0]:
        sequences = [at("Concat", *(at("Unsqueeze", h, (0,)) for h in hidden), axis=0) for hidden, _ in runs]
        at("Concat", *(at("Unsqueeze", each, (1,)) for each in sequences), out=node.outputs[0], axis=1)
    for place, name in enumerate(node.outputs[1:]):
        if name:
            at("Concat", *(at("Unsqueeze", states[place], (0,)) for _, states in runs), out=name, axis=0)


def functions_of(node: Node) -> tuple[str, ...]:
    """The functions of a recurrent layer, one direction after the other."""
    usual = LAYERS[node.op].functions * (2 if node.attributes.get("direction") == "bidirectional" else 1)
    given = node.attributes.get("activations", usual)
    return tuple(str(name) for name in given) if isinstance(given, tuple) else usual


def _run(
    at: Parts, node: Node, draft: Draft, layer: _Layer, index: int, way: int
) -> tuple[Sequence[str], tuple[str, ...]]:
    """The state given out at every step, in the order of the sequence, and the states at the end."""
    x, weight, recurrent = node.inputs[:3]
    length, _, features = draft.shapes[x]
    hidden = draft.shapes[recurrent][2]

    def own(value: str) -> str:
        return at("Gather", value, np.array(index), axis=0)

    rows = layer.gates * hidden
    both = own(node.input(3)) if node.input(3) else at.constant(np.zeros(2 * rows, np.float32))
    arriving, returning = (at("Slice", both, (side * rows,), ((side + 1) * rows,), (0,)) for side in (0, 1))
    products = at("Add", at("MatMul", x, at("Transpose", own(weight), perm=(1, 0))), arriving)
    count = len(layer.functions)
    way_of = _Direction(
        at,
        node,
        hidden,
        functions_of(node)[index * count : (index + 1) * count],
        at("Transpose", own(recurrent), perm=(1, 0)),
        returning,
        own(node.input(7)) if node.input(7) else "",
    )
    zeros = np.zeros((features, hidden), np.float32)
    states = tuple(
        own(node.input(5 + state))
        if node.input(5 + state)
        else at("MatMul", at("Gather", x, np.array(0), axis=0), zeros)
        for state in range(layer.states)
    )
    given = {}
    for step in range(length)[::way]:
        states = layer.step(way_of, at("Gather", products, np.array(step), axis=0), states)
        given[step] = states[0]
    return [given[step] for step in range(length)], states
