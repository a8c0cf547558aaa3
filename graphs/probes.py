"""The named batches that a certificate is measured on, for any model: what its inputs may hold is read off the graph.

An input is numbers, ids or a mask. Ids look up a table, and lie in its range. A mask meets what the network has
computed before it meets a parameter. All else is numbers. No mask is ever empty, so that nothing is divided by a count
of none, and no row of ids begins with 0, which often stands for padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from zlib import crc32

import numpy as np

from mnx.graphs.model import Array, Model, Node, Port
from mnx.graphs.parameters import parameter_slots
from mnx.graphs.run import Batch

RANDOM = "random"
EXTREME = "extreme"
EXAMPLES = 64
"""Random examples, where no other number is asked for."""

LARGE = 255
"""The size of extreme numbers: a pixel that nobody has scaled."""

ROWS = 8
"""Extreme examples: each of the numbers below; each of the ids below, with full masks and with the shortest."""

_MOVING = frozenset(
    {"Cast", "Clip", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Ops that pass on the numbers of their first input."""

_TRUTHS = frozenset({"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor"})
_MEASURING = frozenset({"Shape", "Size"})
_INDICES = {"Gather": 1, "GatherElements": 1}
"""Op -> its input that says which places of a table are read."""

_MOST = 256
"""Integers that are numbers are drawn below this."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A named batch: the array of a model's only input, or those of all in order; and how it was made, in words."""

    batch: Batch
    made: str


def batches_of(found: Mapping[str, Probe]) -> dict[str, Batch]:
    """The batches of probes by name."""
    return {name: probe.batch for name, probe in found.items()}


def made_of(found: Mapping[str, Probe]) -> dict[str, str]:
    """How the batches of probes were made, by name."""
    return {name: probe.made for name, probe in found.items()}


@dataclass(frozen=True)
class Content:
    """What an input holds: 'numbers', a 'mask', or 'ids' from 0 to `count` - 1."""

    kind: str
    count: int = 0


_Fill: TypeAlias = Callable[[Content, Port, int, np.random.Generator], Array]


def probes(model: Model, seed: int, examples: int = EXAMPLES) -> dict[str, Probe]:
    """The batches 'random' and 'extreme' for a model, by name; with one seed always the same.

    Args:
        model: a canonical model; arrays are as its body takes them (channels first), (n, *input shape).
        seed: of all that is drawn, not negative.
        examples: in 'random': standard normal numbers; ids, and the lengths of masks, drawn evenly. 'extreme' holds
            `ROWS`: numbers that are all 0, all 1, all `LARGE`, all -`LARGE`, `LARGE` with random signs, one spike,
            1 and -1 in turn, and nearly 0; the smallest ids, the largest, both in turn, and random ones.
    """
    found = contents(model)

    def filled(name: str, rows: int, fill: _Fill) -> Batch:
        arrays = []
        for place, (content, port) in enumerate(zip(found, model.inputs, strict=True)):
            random = np.random.default_rng((seed, crc32(f"{name} {place}".encode())))
            arrays.append(fill(content, port, rows, random).astype(port.dtype))
        return arrays[0] if len(arrays) == 1 else tuple(arrays)

    what = ", ".join(dict.fromkeys(f"ids below {each.count}" if each.count else each.kind for each in found))
    return {
        RANDOM: Probe(filled(RANDOM, examples, _random), f"{what}, drawn with seed {seed}"),
        EXTREME: Probe(filled(EXTREME, ROWS, _extreme), f"{what}: {_ends(found)}; drawn with seed {seed}"),
    }


def contents(model: Model) -> tuple[Content, ...]:
    """What each input of a model holds."""
    slots = parameter_slots(model)
    return tuple(_content(model, port, slots) for port in model.inputs)


def _content(model: Model, port: Port, slots: dict[str, tuple[int, ...]]) -> Content:
    whole = np.dtype(port.dtype).kind in "iu"
    rows = _table(model, port) if whole else None
    if rows is not None:
        return Content("ids", rows)
    if np.dtype(port.dtype).kind == "f" and len(model.inputs) == 1:
        return Content("numbers")
    return Content("numbers" if _meets_parameter(model, port, slots) else "mask")


def _table(model: Model, port: Port) -> int | None:
    """How many ids are legal in every table that an input's numbers look up; None where they look up none.

    Followed are numbers that are passed on, moved by a constant, or selected by truth values: Where(t, x, y), and
    t x + (1 - t) y as tf2onnx writes it, with numbers below zero counted from the end.
    """
    moved, truths = {port.name: 0}, set[str]()
    found: list[int] = []
    for node in model.nodes:
        place = _INDICES.get(node.op)
        index = node.input(place) if place is not None else ""
        if index in moved and node.inputs[0] in model.weights:
            found.append(model.weights[node.inputs[0]].shape[node.integer("axis", 0)] - moved[index])
        elif node.op in _TRUTHS or (node.op in _MOVING and node.inputs[0] in truths):
            truths.update(node.outputs)
        elif (by := _moved_by(model, node, moved, truths)) is not None:
            moved[node.outputs[0]] = by
    return max(1, min(found)) if found else None


def _moved_by(model: Model, node: Node, moved: dict[str, int], truths: set[str]) -> int | None:
    """By how much the result of a node is more than the input's numbers; None where it is something else."""
    before = [moved[name] for name in node.inputs if name in moved]
    others = [name for name in node.inputs if name not in moved]
    if not before or (node.op in _MOVING and node.inputs[0] not in moved):
        return None
    if node.op in _MOVING or (node.op in ("Mul", "Where") and any(name in truths for name in others)):
        return min(before, key=abs)
    if node.op == "Add" and len(before) == 2:
        return min(before, key=abs)
    constant = model.weights.get(others[0]) if len(others) == 1 else None
    if node.op not in ("Add", "Sub") or constant is None or constant.size != 1 or node.inputs[0] in others:
        return None
    by = int(constant.reshape(-1)[0])
    return before[0] + (by if node.op == "Add" else -by)


def _meets_parameter(model: Model, port: Port, slots: dict[str, tuple[int, ...]]) -> bool:
    """Whether something made of an input, and of other inputs and constants at most, is read beside a parameter."""
    plain = {each.name for each in model.inputs}
    derived = {port.name}
    for node in model.nodes:
        computed = [name for name in node.inputs if name and name not in model.weights]
        reads = bool(derived.intersection(computed)) and node.op not in _MEASURING
        if slots[node.name]:
            if reads and node.op not in _INDICES:
                return True
        elif all(name in plain for name in computed):
            plain.update(node.outputs)
            if reads:
                derived.update(node.outputs)
    return False


def _ends(found: tuple[Content, ...]) -> str:
    """What extreme inputs hold, in words."""
    words = {
        "numbers": f"0, 1, {LARGE}, -{LARGE}, both at random, one spike, 1 and -1 in turn, nearly 0",
        "ids": "the smallest, the largest, both in turn, random",
        "mask": "full and shortest",
    }
    return "; ".join(dict.fromkeys(words[each.kind] for each in found))


def _random(content: Content, port: Port, rows: int, random: np.random.Generator) -> Array:
    shape = (rows, *port.shape)
    if content.kind == "ids":
        return _ids(random.integers(0, content.count, shape), content)
    if content.kind == "mask":
        longest = port.shape[-1] if port.shape else 1
        return _masks(random.integers(1, longest + 1, rows), port)
    if np.dtype(port.dtype).kind == "f":
        return random.standard_normal(shape, dtype=np.float32)
    return random.integers(0, _levels(port), shape)


def _extreme(content: Content, port: Port, rows: int, random: np.random.Generator) -> Array:
    if content.kind == "ids":
        return _ids(_extreme_ids(content, port, rows, random), content)
    if content.kind == "mask":
        longest = port.shape[-1] if port.shape else 1
        return _masks(np.array([longest if row < rows // 2 else 1 for row in range(rows)]), port)
    numbers = _extreme_numbers(port, rows, random)
    if np.dtype(port.dtype).kind == "f":
        return numbers
    return np.clip(np.rint(np.abs(numbers)), 0, _levels(port) - 1)


def _extreme_numbers(port: Port, rows: int, random: np.random.Generator) -> Array:
    found = np.zeros((rows, *port.shape), np.float32)
    flat = found.reshape(rows, -1)  # a view: what is written here stands in `found`
    size = flat.shape[1]
    flat[1], flat[2], flat[3] = 1, LARGE, -LARGE
    flat[4] = LARGE * random.choice([-1.0, 1.0], size)
    flat[5, size // 2] = LARGE
    flat[6] = np.where(np.arange(size) % 2, -1, 1)
    flat[7] = random.standard_normal(size) / LARGE
    return found


def _extreme_ids(content: Content, port: Port, rows: int, random: np.random.Generator) -> Array:
    found = np.zeros((rows, *port.shape), np.int64)
    last = content.count - 1
    for row in range(rows):
        flat = found[row].reshape(-1)
        turns = (0, last, np.where(np.arange(flat.size) % 2, 0, last), random.integers(0, content.count, flat.size))
        flat[:] = turns[row % len(turns)]
    return found


def _ids(drawn: Array, content: Content) -> Array:
    """The ids, where no row begins with 0 unless there is no other."""
    if drawn.ndim > 1 and content.count > 1:
        drawn[..., 0] = np.maximum(drawn[..., 0], 1)
    return drawn


def _masks(lengths: Array, port: Port) -> Array:
    """(n, *port shape): ones up to each length along the last axis, zeros behind."""
    places = np.arange(port.shape[-1]) if port.shape else np.arange(1)
    rows = (places < lengths[:, None]).reshape(len(lengths), *[1] * (len(port.shape) - 1), *port.shape[-1:])
    return np.broadcast_to(rows, (len(lengths), *port.shape)).copy()


def _levels(port: Port) -> int:
    kind = np.dtype(port.dtype)
    return 2 if kind.kind == "b" else min(_MOST, int(np.iinfo(kind).max) + 1)
