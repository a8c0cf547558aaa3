"""Convolutions as ops with right gradients.

Conv: with explicit pads; ONNX Runtime's gradients of automatic ones are wrong.
ConvTranspose: x with stride - 1 zeros behind every number, then a Conv of stride 1 with the kernel turned round and its
    first two axes changed. With extent e = dilation (kernel - 1), pads b, e of the op and zeros z = stride - 1 behind
    the last number, the Conv pads e - begin before and e - end + output_padding - z behind; less than 0 cuts.
"""

from __future__ import annotations

from mnx.graphs.model import Node, Shape
from mnx.train.lowering.draft import Draft, Parts
from mnx.train.lowering.windows import window_of


def conv(node: Node, draft: Draft) -> None:
    """Append a Conv."""
    window = window_of(node, draft.shapes[node.inputs[0]][2:], draft.shapes[node.inputs[1]][2:])
    attributes = {**window.attributes(), "group": node.integer("group", 1)}
    draft.append(Node(node.name, node.op, node.inputs, node.outputs, attributes))


def conv_transpose(node: Node, draft: Draft) -> None:
    """Append a ConvTranspose."""
    at, (x, weight, *bias) = draft.at(node), node.inputs
    sizes, outs, group = draft.shapes[x][2:], draft.shapes[node.outputs[0]][2:], node.integer("group", 1)
    axes, kernel = len(sizes), draft.shapes[weight][2:]
    strides, dilations = node.integers("strides", (1,) * axes), node.integers("dilations", (1,) * axes)
    extents = tuple(step * (size - 1) for step, size in zip(dilations, kernel, strict=True))
    begins = _begins(node, sizes, outs, strides, extents)
    before = tuple(extent - begin for extent, begin in zip(extents, begins, strict=True))
    behind = tuple(
        out + extent - size * stride - pad
        for out, extent, size, stride, pad in zip(outs, extents, sizes, strides, before, strict=True)
    )
    spread = _spread(at, x, draft.shapes[x][1], sizes, strides)
    for axis in range(axes):
        begin, end = max(0, -before[axis]), max(0, -behind[axis])
        if begin or end:
            spread = at("Slice", spread, (begin,), (sizes[axis] * strides[axis] - end,), (axis + 2,))
    pads = tuple(max(0, pad) for pad in (*before, *behind))
    turned = _turned(at, weight, draft.shapes[weight], group)
    at("Conv", spread, turned, *bias, out=node.outputs[0], pads=pads, dilations=dilations, group=group)


def _begins(node: Node, sizes: Shape, outs: Shape, strides: Shape, extents: Shape) -> Shape:
    """The pads before each axis, from the attributes or from the size of the output."""
    automatic = node.attributes.get("auto_pad", "NOTSET")
    axes = len(sizes)
    more = node.integers("output_padding", (0,) * axes)
    if automatic == "VALID" or (automatic == "NOTSET" and "output_shape" not in node.attributes):
        return (0,) * axes if automatic == "VALID" else node.integers("pads", (0,) * 2 * axes)[:axes]
    totals = [
        max(0, stride * (size - 1) + extra + extent + 1 - out)
        for stride, size, extra, extent, out in zip(strides, sizes, more, extents, outs, strict=True)
    ]
    return tuple(total // 2 if automatic == "SAME_UPPER" else total - total // 2 for total in totals)


def _spread(at: Parts, x: str, channels: int, sizes: Shape, strides: Shape) -> str:
    """x with stride - 1 zeros behind every number of every axis of space."""
    if all(stride == 1 for stride in strides):
        return x
    apart = tuple(part for size in sizes for part in (size, 1))
    ends = tuple(part for stride in strides for part in (0, stride - 1))
    padded = at("Pad", at("Reshape", x, (0, channels, *apart)), (*(0,) * (2 + len(ends)), 0, 0, *ends))
    whole = tuple(size * stride for size, stride in zip(sizes, strides, strict=True))
    return at("Reshape", padded, (0, channels, *whole))


def _turned(at: Parts, weight: str, shape: Shape, group: int) -> str:
    """(in, out / group, ...) as (out, in / group, ...), the kernel back to front."""
    arriving, made, *kernel = shape
    order = (0, 2, 1, *range(3, 3 + len(kernel)))
    blocks = at("Transpose", at("Reshape", weight, (group, arriving // group, made, *kernel)), perm=order)
    turned = at("Reshape", blocks, (group * made, arriving // group, *kernel))
    for axis, size in enumerate(kernel, start=2):
        if size > 1:
            turned = at("Gather", turned, tuple(reversed(range(size))), axis=axis)
    return turned
