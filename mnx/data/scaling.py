"""What was done to raw examples to make the members' input of them, as data that can be kept and applied again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnx.data.layout import Arrangement
from mnx.data.raw import blocks
from mnx.data.rows import Raw
from mnx.errors import MnxError
from mnx.graphs.model import Array, Port, Shape

_SMALL = 2
"""Bytes of integers whose squares can be added up exactly."""


@dataclass(frozen=True)
class Scaling:
    """From a raw example to the members' input, in this order.

    Attributes:
        raw_shape: shape of a raw example.
        order: permutation of its axes.
        channel_axis: the channels' axis after that, None where there is one mean for all.
        levels: what integers are divided by; None for what is taken as it is: floats, ids and masks.
        mean: mean of each channel of the training part, after the division; empty for floats.
        std: standard deviation of each channel, likewise; 1 for a channel that is constant.
        shape: shape of the input, without the batch.
        dtype: of the input.
        whole: whether raw examples are integers that are taken as they are.
    """

    raw_shape: Shape
    order: tuple[int, ...]
    channel_axis: int | None
    levels: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: Shape
    dtype: str = "float32"
    whole: bool = False

    def to_json(self) -> dict[str, Any]:
        """The fields as what JSON knows."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Scaling:
        """The inverse of `to_json`.

        Raises:
            MnxError: a field is missing or unknown.
        """
        wrong = {field.name for field in dataclasses.fields(cls)} ^ set(document)
        if wrong:
            raise MnxError(f"not a scaling of this version of mnx: {', '.join(sorted(wrong))} missing or unknown")
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
        return cls(**fields)


def unscaled(x: Raw, arranged: Arrangement, port: Port) -> Scaling:
    """The scaling of ids and masks, which are taken as they are, in the type of their input."""
    order, channels = arranged.order, arranged.channel_axis
    return Scaling(x.shape[1:], order, channels, None, (), (), port.shape, port.dtype, x.dtype.kind != "f")


def fitted(x: Raw, arranged: Arrangement, shape: Shape, levels: int | None) -> Scaling:
    """The scaling whose mean and standard deviation are those of `x`.

    Vectors and single-channel images have one mean and one standard deviation for all their elements: pixels keep
    their sizes relative to each other. Columns of different units are for the user to scale.

    Args:
        x: raw training examples of shape (n, ...).
        arranged: how their axes become those of `shape`.
        shape: the members' input, without the batch.
        levels: the largest value that integers can take, None for what the data say. Ignored for floats.
    """
    if x.dtype.kind == "f":
        return Scaling(x.shape[1:], arranged.order, arranged.channel_axis, None, (), (), shape)
    levels = levels or (255 if x.dtype == np.uint8 else max(255, *(int(part.max()) for _, part in blocks(x))))
    channels = None if arranged.channel_axis is None else arranged.order[arranged.channel_axis] + 1
    mean, std = _moments(x, channels)
    return Scaling(
        x.shape[1:],
        arranged.order,
        arranged.channel_axis,
        levels,
        tuple((mean / levels).tolist()),
        tuple(np.where(std > 0, std / levels, 1).tolist()),
        shape,
    )


def apply(scaling: Scaling, raw: Array) -> Array:
    """Raw examples of shape (n, *raw_shape) as the members' input: in its dtype, C order, shape (n, *shape).

    Raises:
        MnxError: the shape differs from the training data's, or one is integers and the other floats.
    """
    if raw.shape[1:] != scaling.raw_shape:
        raise MnxError(
            f"examples of shape {raw.shape[1:]} do not fit the scaling, which was made for {scaling.raw_shape}; "
            "resize or transpose them as the training data were"
        )
    if (raw.dtype.kind == "f") != (scaling.levels is None and not scaling.whole):
        integers = "integers, taken as they are" if scaling.levels is None else f"integers from 0 to {scaling.levels}"
        made = integers if raw.dtype.kind == "f" else "floats, taken as they are"
        raise MnxError(f"examples of dtype {raw.dtype} do not fit the scaling, which was made for {made}")
    x = raw.transpose(0, *(axis + 1 for axis in scaling.order)).astype(scaling.dtype, order="C", copy=False)
    if scaling.levels is not None:
        along = [1] * x.ndim
        if scaling.channel_axis is not None:
            along[scaling.channel_axis + 1] = len(scaling.mean)
        mean, std = (np.array(values).reshape(along) for values in (scaling.mean, scaling.std))
        x *= (1 / (scaling.levels * std)).astype(np.float32)
        x -= (mean / std).astype(np.float32)
    return x.reshape(len(raw), *scaling.shape)


def _moments(x: Raw, channels: int | None) -> tuple[Array, Array]:
    """Mean and standard deviation along all axes but `channels`, in float64, without a float copy of all of `x`.

    Integers of at most two bytes are added up exactly, n^2 variance = n sum(x^2) - sum(x)^2: ten times as quick.
    """
    axes = tuple(axis for axis in range(x.ndim) if axis != channels)
    count = math.prod(x.shape[axis] for axis in axes)
    if x.dtype.kind in "ui" and x.dtype.itemsize <= _SMALL:
        square = np.uint16 if x.dtype == np.uint8 else np.int64
        total, squares = np.zeros((), np.int64), np.zeros((), np.int64)
        for _, part in blocks(x):
            total = total + part.sum(axes, dtype=np.int64)
            squares = squares + np.square(part, dtype=square).sum(axes, dtype=np.int64)
        pairs = zip(np.ravel(total).tolist(), np.ravel(squares).tolist(), strict=True)
        variance = [(count * of_squares - of_all**2) / count**2 for of_all, of_squares in pairs]
        return np.ravel(total) / count, np.sqrt(np.array(variance))
    mean = sum(part.sum(axes, dtype=np.float64, keepdims=True) for _, part in blocks(x)) / count
    deviations = sum(((part - mean) ** 2).sum(axes) for _, part in blocks(x)) / count
    return np.ravel(mean), np.sqrt(np.ravel(deviations))
