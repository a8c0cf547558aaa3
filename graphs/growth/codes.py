"""Parameters of inserted layers in code (see `graphs.mothers.passages`), and of the layers behind that decode.

With code v_i = f(s_i h + b), one entry of `signs` s a copy, and h = gain * sum_i s_i v_i - b:

    coding      rows  [s_i W],  bias + b          decoding    columns  [gain s_i W],  bias - b * (sum of W)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mnx.graphs.growth.maps import GrowthMap, axis_map
from mnx.graphs.model import Array
from mnx.graphs.mothers.passages import Passage
from mnx.graphs.ops.axes import Axis
from mnx.graphs.ops.rule import Kind, Role
from mnx.graphs.trees.structure import Op, Parameter


@dataclass(frozen=True)
class Code:
    """A passage with its numbers: `signs` and `gain` of `small` hold the measured factor."""

    passage: Passage
    signs: tuple[float, ...]
    gain: float

    @property
    def shift(self) -> float:
        """b."""
        return self.passage.shift


def code_of(passage: Passage, largest: float, small: float) -> Code:
    """The code of a passage where at most `largest` arrives, of which 'small' lets through at most `small`."""
    factor = small / max(largest, small) if passage.kind == "small" else 1.0
    return Code(passage, tuple(sign * factor for sign in passage.signs), passage.gain / factor**2)


def doubled(axis: Axis, group: int, width: int, copies: int, widths: Mapping[int, int]) -> tuple[GrowthMap, GrowthMap]:
    """For an axis in code: which uncoded entry each coded one belongs to, and which copy it is (-1 of other groups).

    Args:
        axis: the axis.
        group: the coded group.
        width: how many channels arrive in it.
        copies: how many each takes.
        widths: of all groups of the axis, before the code.
    """
    every = {part.group: np.arange(widths[part.group]) for part in axis if part.group is not None}
    plain = {**widths, group: width}
    entries = axis_map(axis, {**every, group: np.tile(np.arange(width), copies)}, plain)
    marks = [
        np.tile(np.repeat(_marks(part.group == group, width, copies, widths, part.group), part.inner), part.outer)
        for part in axis
    ]
    return entries, np.concatenate(marks)


def _marks(coded: bool, width: int, copies: int, widths: Mapping[int, int], group: int | None) -> GrowthMap:
    if coded:
        return np.repeat(np.arange(copies), width)
    return np.full(1 if group is None else widths[group], -1)


def coded_rows(op: Op, parameter: Parameter, value: Array, code: Code, entries: GrowthMap, marks: GrowthMap) -> Array:
    """Rows (axis 0 of `entries`) of an inserted layer in code, before they are repeated.

    Returns an array whose first axis is that of `entries`; the caller moves the grown axis to the front.
    """
    result = value[entries]
    if op.name not in code.passage.coding or not parameter.kind.trained:
        return result
    signs = np.where(marks < 0, 1.0, np.take([*code.signs, 1.0], marks)).reshape(-1, *[1] * (value.ndim - 1))
    moved = code.shift if op.name == code.passage.coding[-1] and parameter.kind in (Kind.BIAS, Kind.SHIFT) else 0.0
    return np.asarray(result * signs + moved)


def decoded_columns(value: Array, code: Code, entries: GrowthMap, marks: GrowthMap) -> Array:
    """Columns (axis 0) that take the code back."""
    factors = np.where(marks < 0, 1.0, code.gain * np.take([*code.signs, 0.0], marks))
    return np.asarray(value[entries] * factors.reshape(-1, *[1] * (value.ndim - 1)))


def constant_behind(op: Op, weight: Parameter, value: Array, code: Code, coded: GrowthMap) -> Array:
    """What decoding takes from every output of a linear op whose inputs are shifted: b times the sum of its columns.

    Args:
        op: the linear op.
        weight: its weight.
        value: the weight's numbers, uncoded.
        code: the code.
        coded: the entries of the summed axis that are in code.
    """
    axis = weight.roles.index(Role.CONTRACT)
    rows = weight.roles.index(Role.PRODUCE)
    part = np.take(value.astype(np.float64), coded, axis=axis)
    return np.asarray(-code.shift * part.sum(axis=tuple(k for k in range(part.ndim) if k != rows)))
