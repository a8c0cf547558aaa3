"""LSTM, GRU and RNN written out over the steps of the sequence, whose number is known; ONNX Runtime has no gradient.

With x the numbers that arrive at a step, h the state, c the cell; f, g, k the functions of the layer; `.` by element:

RNN: h' = f(W x + R h + b)
GRU: z = f(Wz x + Rz h + bz);  r = f(Wr x + Rr h + br);  h' = (1 - z) . n + z . h, where
    n = g(Wn x + Rn (r . h) + bn), or g(Wn x + wn + r . (Rn h + rn)) with linear_before_reset
LSTM: i = f(Wi x + Ri h + Pi . c + bi);  u = f(Wf x + Rf h + Pf . c + bf), or 1 - i with input_forget;
    c' = u . c + i . g(Wc x + Rc h + bc);  o = f(Wo x + Ro h + Po . c' + bo);  h' = o . k(c')

The products W x of all steps are one MatMul, with all shifts but rn. States keep an axis of one step. Steps and gates
are taken apart by Split, whose gradient is one Concat; that of a Slice or Gather is as large as the whole, every time.
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
    """One direction of a layer: what a step needs beside its state.

    Attributes:
        at: makes nodes.
        node: the layer.
        hidden: the number of units.
        functions: f, g, k.
        recurrent: R, transposed, in as many parts as a step multiplies by.
        shift: rn, where it is not part of W x.
        peepholes: P of i, o and f, or nothing.
    """

    at: Parts
    node: Node
    hidden: int
    functions: tuple[str, ...]
    recurrent: tuple[str, ...]
    shift: str
    peepholes: tuple[str, ...]

    def apply(self, function: int, value: str) -> str:
        return self.at.lower(self.functions[function], value)

    def gates(self, value: str, *counts: int) -> tuple[str, ...]:
        """Parts of a value whose last axis holds gates, so many gates each."""
        return _split(self.at, value, tuple(count * self.hidden for count in counts), -1)

    def product(self, h: str, part: int = 0) -> str:
        return self.at("MatMul", h, self.recurrent[part])


Step = Callable[[_Direction, str, tuple[str, ...]], tuple[str, ...]]
"""(direction, W x of all gates, states) -> new states, the one that is given out first."""


def _split(at: Parts, value: str, sizes: tuple[int, ...], axis: int) -> tuple[str, ...]:
    return (value,) if len(sizes) == 1 else at.several("Split", ("",) * len(sizes), value, sizes, axis=axis)


def _rnn(layer: _Direction, x: str, states: tuple[str, ...]) -> tuple[str, ...]:
    return (layer.apply(0, layer.at("Add", x, layer.product(states[0]))),)


def _gru(layer: _Direction, x: str, states: tuple[str, ...]) -> tuple[str, ...]:
    at, h = layer.at, states[0]
    arriving, candidate = layer.gates(x, 2, 1)
    update, reset = layer.gates(layer.apply(0, at("Add", arriving, layer.product(h, 0))), 1, 1)
    if layer.shift:
        seen = at("Mul", reset, at("Add", layer.product(h, 1), layer.shift))
    else:
        seen = layer.product(at("Mul", reset, h), 1)
    new = layer.apply(1, at("Add", candidate, seen))
    return (at("Add", at("Mul", at("Sub", 1.0, update), new), at("Mul", update, h)),)


def _lstm(layer: _Direction, x: str, states: tuple[str, ...]) -> tuple[str, ...]:
    at, (h, c) = layer.at, states
    arrive, give, forget, cell = layer.gates(at("Add", x, layer.product(h)), 1, 1, 1, 1)

    def seen(gate: str, index: int, cells: str) -> str:
        return at("Add", gate, at("Mul", cells, layer.peepholes[index])) if layer.peepholes else gate

    arrive = layer.apply(0, seen(arrive, 0, c))
    if layer.node.integer("input_forget", 0):
        kept = at("Add", at("Sub", 1.0, arrive), at("Mul", forget, 0.0))  # every part of a Split must be read
    else:
        kept = layer.apply(0, seen(forget, 2, c))
    moved = at("Add", at("Mul", kept, c), at("Mul", arrive, layer.apply(1, cell)))
    return (at("Mul", layer.apply(0, seen(give, 1, moved)), layer.apply(2, moved)), moved)


@dataclass(frozen=True)
class _Layer:
    """Of an op: its gates, in the parts that R is multiplied in; its states; its usual functions; one step."""

    parts: tuple[int, ...]
    states: int
    functions: tuple[str, ...]
    step: Step


LAYERS: Mapping[str, _Layer] = {
    "GRU": _Layer((2, 1), 1, ("Sigmoid", "Tanh"), _gru),
    "LSTM": _Layer((4,), 2, ("Sigmoid", "Tanh", "Tanh"), _lstm),
    "RNN": _Layer((1,), 1, ("Tanh",), _rnn),
}


def recurrent(node: Node, draft: Draft) -> None:
    """Append an LSTM, GRU or RNN of known length, with axes (steps, batch, features)."""
    at = draft.at(node)
    direction = node.attributes.get("direction", "forward")
    ways = {"forward": (1,), "reverse": (-1,), "bidirectional": (1, -1)}[str(direction)]
    runs = [_run(at, node, draft, index, way) for index, way in enumerate(ways)]
    if node.outputs[0]:
        sequences = [at("Unsqueeze", at("Concat", *hidden, axis=0), (1,)) for hidden, _ in runs]
        at("Concat", *sequences, out=node.outputs[0], axis=1)
    for place, name in enumerate(node.outputs[1:]):
        if name:
            at("Concat", *(states[place] for _, states in runs), out=name, axis=0)


def functions_of(node: Node) -> tuple[str, ...]:
    """The functions of a recurrent layer, one direction after the other."""
    usual = LAYERS[node.op].functions * (2 if node.attributes.get("direction") == "bidirectional" else 1)
    given = node.attributes.get("activations", usual)
    return tuple(str(name) for name in given) if isinstance(given, tuple) else usual


def _run(at: Parts, node: Node, draft: Draft, index: int, way: int) -> tuple[Sequence[str], tuple[str, ...]]:
    """The state given out at every step, in the order of the sequence, and the states at the end."""
    layer, (x, weight, recurrent, *_) = LAYERS[node.op], node.inputs
    (length, _, features), hidden = draft.shapes[x], draft.shapes[recurrent][2]

    def own(value: str) -> str:
        return at("Gather", value, np.array(index), axis=0)

    def sizes(counts: Sequence[int]) -> tuple[int, ...]:
        return tuple(count * hidden for count in counts)

    shifts, behind = _shifts(at, node, own(node.input(3)) if node.input(3) else "", hidden)
    products = at("MatMul", x, at("Transpose", own(weight), perm=(1, 0)))
    products = at("Add", products, shifts) if shifts else products
    count, peepholes = len(layer.functions), own(node.input(7)) if node.input(7) else ""
    one = _Direction(
        at,
        node,
        hidden,
        functions_of(node)[index * count : (index + 1) * count],
        _split(at, at("Transpose", own(recurrent), perm=(1, 0)), sizes(layer.parts), 1),
        behind,
        _split(at, peepholes, sizes((1, 1, 1)), 0) if peepholes else (),
    )
    start = at("Slice", x, (0,), (1,), (0,))
    states = tuple(
        at("Slice", node.input(5 + state), (index,), (index + 1,), (0,))
        if node.input(5 + state)
        else at("MatMul", start, np.zeros((features, hidden), np.float32))
        for state in range(layer.states)
    )
    arriving, given = _split(at, products, (1,) * length, 0), {}
    for step in range(length)[::way]:
        states = layer.step(one, arriving[step], states)
        given[step] = states[0]
    return [given[step] for step in range(length)], states


def _shifts(at: Parts, node: Node, both: str, hidden: int) -> tuple[str, str]:
    """What is added to W x, and rn where it is not part of that; '' for nothing."""
    rows = sum(LAYERS[node.op].parts) * hidden
    late = node.op == "GRU" and node.integer("linear_before_reset", 0)
    if not both:
        return "", at.constant(np.zeros(hidden, np.float32)) if late else ""
    if not late:
        arriving, returning = _split(at, both, (rows, rows), 0)
        return at("Add", arriving, returning), ""
    gates, candidate, returning, behind = _split(at, both, (2 * hidden, hidden, 2 * hidden, hidden), 0)
    return at("Concat", at("Add", gates, returning), candidate, axis=0), behind
