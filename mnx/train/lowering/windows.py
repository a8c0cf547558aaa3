"""Windows that move over space: their kernel, strides, dilations and pads, all explicit.

SAME_UPPER and SAME_LOWER: as many pads that out = ceil(size / stride), an odd one behind (upper) or before (lower).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mnx.graphs.model import Attribute, Node, Shape


@dataclass(frozen=True)
class Window:
    """Of a convolution or pooling over `len(kernel)` axes; `pads` are all begins, then all ends."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: Shape

    def attributes(self) -> Mapping[str, Attribute]:
        """As ONNX spells it."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": self.pads,
        }


def window_of(node: Node, sizes: Shape, kernel: Shape) -> Window:
    """The window of a Conv or pooling on space of `sizes`; `kernel` is its kernel where no attribute says it."""
    axes = len(sizes)
    kernel = node.integers("kernel_shape", kernel)
    strides, dilations = node.integers("strides", (1,) * axes), node.integers("dilations", (1,) * axes)
    pads = node.integers("pads", (0,) * 2 * axes)
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic == "VALID":
        pads = (0,) * 2 * axes
    elif automatic != "NOTSET":
        missing = [
            max(0, (-(-size // stride) - 1) * stride + (extent - 1) * step + 1 - size)
            for size, stride, extent, step in zip(sizes, strides, kernel, dilations, strict=True)
        ]
        less, more = tuple(m // 2 for m in missing), tuple(m - m // 2 for m in missing)
        pads = (*less, *more) if automatic == "SAME_UPPER" else (*more, *less)
    return Window(kernel, strides, dilations, pads)
