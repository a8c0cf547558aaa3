"""How the axes of raw examples become those of the members' input: as they are, NHWC <-> NCHW, or flattened."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mnx.data.raw import Layout
from mnx.errors import MnxError
from mnx.graphs.model import Shape

TO_FIRST = (2, 0, 1)
TO_LAST = (1, 2, 0)
AS_IS = (0, 1, 2)

IMAGE_CHANNELS = (1, 3)
"""Sizes by which an axis is taken for the channels of an image where nothing else says so."""


@dataclass(frozen=True)
class Arrangement:
    """Permute the axes of an example by `order`, then reshape; `channel_axis` counts after the permutation."""

    order: tuple[int, ...]
    channel_axis: int | None


def layout_of(shape: Shape) -> Layout:
    """The layout of an input of shape (C, H, W) or (H, W, C).

    It is NHWC only where the last axis looks like the channels of an image (1 or 3) and the first one does not;
    everything else is NCHW, ONNX's own layout.
    """
    return "NHWC" if shape[-1] in IMAGE_CHANNELS and shape[0] not in IMAGE_CHANNELS else "NCHW"


def arrangement(raw: Shape, shape: Shape, layout: Layout | None, where: str) -> Arrangement:
    """How examples of shape `raw` become an input of shape `shape`.

    Args:
        raw: shape of one example of the data.
        shape: the members' input, without the batch.
        layout: the layout of the data where the source knows it.
        where: names the data in errors.

    Raises:
        MnxError: no reading of the data fits, or more than one does.
    """
    if len(shape) == 1 and math.prod(raw) == shape[0] and len(raw) <= 3:
        return _flattened(raw, layout, where)
    if len(raw) == len(shape) == 3:
        return _image(raw, shape, layout, where)
    if raw == shape:
        return Arrangement(tuple(range(len(raw))), 0 if len(raw) > 3 else None)
    if len(raw) == 2 and shape in ((1, *raw), (*raw, 1)):
        return Arrangement((0, 1), None)
    raise _does_not_fit(raw, shape, where)


def _flattened(raw: Shape, layout: Layout | None, where: str) -> Arrangement:
    if len(raw) < 3:
        return Arrangement(tuple(range(len(raw))), None)
    first, last = raw[0] in IMAGE_CHANNELS, raw[-1] in IMAGE_CHANNELS
    if layout is None and first == last:
        raise MnxError(
            f"{where}: examples of shape {raw} can be read as (C, H, W) and as (H, W, C), which flatten differently to "
            f"the members' input {(math.prod(raw),)}; give them flattened, as x of shape (n, {math.prod(raw)})"
        )
    return Arrangement(TO_FIRST if layout == "NHWC" or (layout is None and last) else AS_IS, 0)


def _image(raw: Shape, shape: Shape, layout: Layout | None, where: str) -> Arrangement:
    wanted = layout_of(shape)
    if raw == shape and len(set(raw)) == 1 and layout is None:
        raise MnxError(
            f"{where}: examples of shape {raw} fit the members' input {shape} both as (C, H, W) and as (H, W, C), and "
            "nothing says which they are; use images whose height is not their number of channels"
        )
    if raw == shape and (len(set(raw)) > 1 or layout == wanted):
        return Arrangement(AS_IS, 0 if (layout or wanted) == "NCHW" else 2)
    if layout != "NCHW" and tuple(raw[axis] for axis in TO_FIRST) == shape:
        return Arrangement(TO_FIRST, 0)
    if layout != "NHWC" and tuple(raw[axis] for axis in TO_LAST) == shape:
        return Arrangement(TO_LAST, 2)
    raise _does_not_fit(raw, shape, where)


def _does_not_fit(raw: Shape, shape: Shape, where: str) -> MnxError:
    accepted = [shape]
    if len(shape) == 3:
        accepted.append(tuple(shape[axis] for axis in (TO_FIRST if layout_of(shape) == "NHWC" else TO_LAST)))
    shapes = " or ".join(f"(n, {', '.join(map(str, each))})" for each in accepted)
    return MnxError(f"{where}: examples of shape {raw} do not fit the members' input {shape}; give x of shape {shapes}")
