"""The graph that makes a batch of the members' inputs of raw examples, with the ops of `augment`.

The raw examples of the batch are picked as a whole. Crop and mirror then pick pixels of them, all in one Gather:

    row = r + down; column = (width - 1 - c where mirrored, else c) + right     of output pixel (r, c)
    reflected: i -> last - |last - |i||; zero: clipped into the image, and blanked after scaling
    pixel = (place in the batch * height + row) * width + column

Pixels are picked with their channels last, channels-first images being transposed and back: that is twice as quick on
the CPU as picking every channel by itself. Scaling is that of `mnx.data.scaling.apply`, op by op, so that plain
examples agree with it to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from onnx import helper

from mnx.data.scaling import Scaling
from mnx.errors import MnxError
from mnx.graphs.builder import Builder
from mnx.graphs.model import Model, Port
from mnx.graphs.proto import to_proto
from mnx.train.augment import CROP, CUTOUT, MIRROR, PARTNERS, SHARE, Augmentation

INDICES: Final = "mnx:indices"
"""The input that takes the places of the examples in the raw arrays, int64, (batch,)."""

_DRAWS: Final = {
    CROP: Port(CROP, "int64", (2,)),
    MIRROR: Port(MIRROR, "bool", ()),
    CUTOUT: Port(CUTOUT, "int64", (2,)),
    PARTNERS: Port(PARTNERS, "int64", ()),
}


def raw_input(place: int) -> str:
    """The input that takes the raw array of one of the members' inputs: (examples, *raw shape)."""
    return f"mnx:raw:{place}"


def fed_output(place: int) -> str:
    """The output with one of the members' inputs."""
    return f"mnx:fed:{place}"


def is_image(scaling: Scaling) -> bool:
    """Whether examples are images with the channels first: (C, H, W), not flattened."""
    return len(scaling.shape) == 3 and (
        (len(scaling.order) == 3 and scaling.channel_axis == 0) or (len(scaling.order) == 2 and scaling.shape[0] == 1)
    )


def image_size(scalings: Sequence[Scaling], augmentation: Augmentation) -> tuple[int, int] | None:
    """Height and width of the images that an augmentation changes, None where it changes none.

    Of several inputs the images are changed, all alike, and the others left alone.

    Raises:
        MnxError: the augmentation needs images and no input is one, images differ in size, or are too small.
    """
    if not augmentation.of_images:
        return None
    what, shapes = " and ".join(augmentation.of_images), [scaling.shape for scaling in scalings]
    sizes = {scaling.shape[1:] for scaling in scalings if is_image(scaling)}
    if not sizes:
        raise MnxError(
            f"augmentation: {what} take images of shape (channels, height, width); the members' inputs have shapes "
            f"{', '.join(map(str, shapes))}: train them without"
        )
    if len(sizes) > 1:
        raise MnxError(f"augmentation: {what} take images of one size; the members' inputs have {sorted(sizes)}")
    height, width = sizes.pop()
    for key in ("crop", "cutout"):
        if getattr(augmentation, key) >= min(height, width):
            raise MnxError(
                f"augmentation: {key} = {getattr(augmentation, key)}: give less than the sides of the images, which "
                f"are {height} x {width} pixels"
            )
    return height, width


def feed_graph(
    dtypes: Sequence[str], scalings: Sequence[Scaling], outputs: Sequence[str], augmentation: Augmentation
) -> bytes:
    """The serialised ONNX model: raw arrays, `INDICES` and the draws of `augment` -> a batch.

    Args:
        dtypes: of the raw arrays, as numpy spells them, one for every input of the members.
        scalings: likewise.
        outputs: dtypes of the members' inputs.
        augmentation: what is done beside scaling.

    Raises:
        MnxError: the augmentation does not fit the inputs.
    """
    size = image_size(scalings, augmentation)
    if augmentation.mixup and any(not dtype.startswith("float") for dtype in outputs):
        raise MnxError(
            f"augmentation: mixup takes inputs of numbers; the members' are {', '.join(outputs)}: train without"
        )
    builder = Builder("mnx:feed:")
    asked = {
        CROP: augmentation.crop > 0,
        MIRROR: augmentation.mirror != "off",
        CUTOUT: augmentation.cutout > 0,
        PARTNERS: augmentation.mixup > 0,
    }
    moves = _Moves(builder, augmentation, size) if size else None
    for place, (scaling, dtype) in enumerate(zip(scalings, outputs, strict=True)):
        image = moves if is_image(scaling) else None
        x = builder.add("Gather", raw_input(place), INDICES, axis=0)
        x = image.moved(x, scaling) if image and image.moves else _permuted(builder, x, (0, *_behind(scaling.order)))
        x = _scaled(builder, x, scaling, dtype)
        x = image.blanked(x, dtype) if image else x
        builder.add("Identity", _mixed(builder, x) if augmentation.mixup else x, outputs=[fed_output(place)])
    raws = [
        Port(raw_input(place), dtype, scaling.raw_shape)
        for place, (dtype, scaling) in enumerate(zip(dtypes, scalings, strict=True))
    ]
    given = [name for name, wanted in asked.items() if wanted]
    made = [
        Port(fed_output(place), dtype, scaling.shape)
        for place, (dtype, scaling) in enumerate(zip(outputs, scalings, strict=True))
    ]
    inputs = [*raws, Port(INDICES, "int64", ()), *(_DRAWS[name] for name in given)]
    return _serialised(builder.model("feed", inputs, made), len(raws))


def _serialised(model: Model, raws: int) -> bytes:
    """The model, whose raw inputs hold another number of examples than its batch."""
    proto = to_proto(model, [SHARE])
    for value in proto.graph.input[:raws]:
        value.type.tensor_type.shape.dim[0].dim_param = "examples"
    return bytes(proto.SerializeToString())


def _permuted(builder: Builder, x: str, order: tuple[int, ...]) -> str:
    return x if order == tuple(range(len(order))) else builder.add("Transpose", x, perm=order)


def _behind(axes: Sequence[int]) -> tuple[int, ...]:
    """The axes of an example where the batch stands in front."""
    return tuple(axis + 1 for axis in axes)


def _scaled(builder: Builder, x: str, scaling: Scaling, dtype: str) -> str:
    """As `mnx.data.scaling.apply` behind its transposition, with the same roundings."""
    x = builder.add("Cast", x, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))
    if scaling.levels is not None:
        along = [1] * (1 + len(scaling.order))
        if scaling.channel_axis is not None:
            along[scaling.channel_axis + 1] = len(scaling.mean)
        mean, std = (np.array(values) for values in (scaling.mean, scaling.std))
        factor, shift = 1 / (scaling.levels * std), mean / std
        for op, values in (("Mul", factor), ("Sub", shift)):
            x = builder.add(op, x, builder.weight("scale", values.astype(dtype).reshape(along)))
    return builder.add("Reshape", x, _integers(builder, -1, *scaling.shape))


def _mixed(builder: Builder, x: str) -> str:
    builder.weights[SHARE] = np.array(1, np.float32)
    rest = builder.add("Sub", builder.weight("one", np.array(1, np.float32)), SHARE)
    partners = builder.add("Mul", builder.add("Gather", x, PARTNERS, axis=0), rest)
    return builder.add("Add", builder.add("Mul", x, SHARE), partners)


class _Moves:
    """What is done to the pixels of images: those of all inputs of a feed are moved and blanked alike."""

    def __init__(self, builder: Builder, augmentation: Augmentation, size: tuple[int, int]) -> None:
        self._builder, self._size = builder, size
        self.moves = augmentation.crop > 0 or augmentation.mirror != "off"
        self._kept: list[str] = []
        if self.moves:
            self._rows, self._columns = self._sources(augmentation)
        if augmentation.cutout:
            self._kept.append(self._outside(augmentation.cutout))

    def moved(self, x: str, scaling: Scaling) -> str:
        """Raw images (batch, *raw shape), cropped and mirrored, their axes in the members' order."""
        builder, (height, width), colour = self._builder, self._size, len(scaling.order) == 3
        *channel, row, column = scaling.order
        x = _permuted(builder, x, (0, *_behind((row, column, *channel))))
        pixels = builder.add("Reshape", x, _integers(builder, -1, *(scaling.raw_shape[axis] for axis in channel)))
        x = builder.add("Gather", pixels, self._pixels(height, width), axis=0)
        return builder.add("Transpose", x, perm=(0, 3, 1, 2)) if colour else x

    def _pixels(self, height: int, width: int) -> str:
        """Which pixel of the batch's raw images each of its pixels is, (batch, H, W)."""
        builder = self._builder
        count = builder.add("Squeeze", builder.add("Shape", INDICES))
        places = builder.add("Range", _scalar(builder, 0), count, _scalar(builder, 1))
        image, row = (self._times(value, by) for value, by in ((places, height * width), (self._rows, width)))
        start = builder.add("Add", self._along(image, 1, 2), self._along(row, 2))
        return builder.add("Add", start, self._along(self._columns, 1))

    def blanked(self, x: str, dtype: str) -> str:
        """Images (batch, C, H, W) with zeros where nothing of the image is to be seen."""
        for kept in self._kept:
            x = self._builder.add("Where", self._along(kept, 1), x, self._builder.weight("blank", np.zeros((), dtype)))
        return x

    def _sources(self, augmentation: Augmentation) -> tuple[str, str]:
        """The rows (batch or 1, H) and columns (batch or 1, W) of raw images that those of the batch show."""
        builder, (height, width) = self._builder, self._size
        rows, columns = (builder.weight("places", np.arange(extent)[None]) for extent in (height, width))
        if augmentation.mirror != "off":
            backwards = builder.weight("backwards", np.arange(width)[None, ::-1])
            columns = builder.add("Where", self._along(MIRROR, 1), backwards, columns)
        if not augmentation.crop:
            return rows, columns
        moved = [builder.add("Add", places, self._drawn(CROP, axis)) for axis, places in enumerate((rows, columns))]
        if augmentation.padding == "reflect":
            rows, columns = (self._reflected(*each) for each in zip(moved, self._size, strict=True))
            return rows, columns
        (rows, seen), (columns, also) = (self._clipped(*each) for each in zip(moved, self._size, strict=True))
        self._kept.append(self._both(seen, also))
        return rows, columns

    def _reflected(self, places: str, extent: int) -> str:
        builder, last = self._builder, _scalar(self._builder, extent - 1)
        back = builder.add("Abs", builder.add("Sub", last, builder.add("Abs", places)))
        return builder.add("Sub", last, back)

    def _clipped(self, places: str, extent: int) -> tuple[str, str]:
        """Places within 0 to `extent` - 1, and which of them were there."""
        builder = self._builder
        clipped = builder.add("Clip", places, _scalar(builder, 0), _scalar(builder, extent - 1))
        return clipped, builder.add("Equal", clipped, places)

    def _outside(self, side: int) -> str:
        """Which pixels lie outside of the square that is cut out, (batch, H, W)."""
        builder, cut = self._builder, []
        for axis, extent in enumerate(self._size):
            places = builder.weight("shifted", np.arange(extent)[None] + side // 2)
            cut.append(self._clipped(builder.add("Sub", places, self._drawn(CUTOUT, axis)), side)[1])
        return builder.add("Not", self._both(*cut))

    def _drawn(self, draws: str, axis: int) -> str:
        """One of the two numbers drawn for every example, (batch, 1)."""
        return self._builder.add("Gather", draws, _integers(self._builder, axis), axis=1)

    def _both(self, rows: str, columns: str) -> str:
        return self._builder.add("And", self._along(rows, 2), self._along(columns, 1))

    def _along(self, value: str, *axes: int) -> str:
        return self._builder.add("Unsqueeze", value, _integers(self._builder, *axes))

    def _times(self, value: str, factor: int) -> str:
        return self._builder.add("Mul", value, _scalar(self._builder, factor))


def _integers(builder: Builder, *values: int) -> str:
    return builder.weight("integers", np.array(values, np.int64))


def _scalar(builder: Builder, value: int) -> str:
    return builder.weight("integer", np.array(value, np.int64))
