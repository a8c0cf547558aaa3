"""The kernels that a growth asks for: from layers to new kernel windows.

The old kernel keeps its place and the output its size: pads grow by the taps that are added, half of them before the
old ones and half behind; of an odd number, the extra tap goes behind. With dilation d a tap is d pixels of pad.
"""

from __future__ import annotations

from collections.abc import Mapping

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.places import named
from mnx.graphs.model import Shape
from mnx.graphs.mothers.kernels import Window, window
from mnx.graphs.trees.structure import Op, Structure


def enlarged(structure: Structure, wishes: Mapping[str, int | Shape]) -> dict[str, Window]:
    """Node -> new kernel window, for every convolution that is asked for.

    Args:
        structure: the network.
        wishes: layer -> kernel size: one number for all axes of space, or one for each.

    Raises:
        GraphError: a name is unknown or no convolution, a size does not fit it, or wishes contradict.
    """
    found: dict[str, Window] = {}
    for text, wish in wishes.items():
        words = f"kernel {text}={'x'.join(map(str, wish)) if isinstance(wish, tuple) else wish}"
        layers = named(structure, text)
        with_kernel = [op for op in layers if window(op) is not None]
        if not with_kernel:
            what = ", ".join(dict.fromkeys(op.op for op in layers if op.parameters)) or layers[0].op
            fixed = "its kernel never changes" if "ConvTranspose" in what else "it has no kernel"
            raise GraphError(f"{words}: '{text}' of {structure.name} is {what}: {fixed}, only that of Conv grows")
        tied = [op for each in with_kernel for op in _sharing(structure, each)]
        for op in tied:
            large = _window(structure, op, wish, words)
            if found.setdefault(op.name, large) != large:
                raise GraphError(f"{words}: '{op.name}' of {structure.name} is given another kernel as well")
    return found


def _sharing(structure: Structure, op: Op) -> list[Op]:
    """The ops that share an op's kernel, itself among them."""
    names = {parameter.name for parameter in op.parameters if len(parameter.shape) > 1}
    return [other for other in structure.ops() if any(parameter.name in names for parameter in other.parameters)]


def _window(structure: Structure, op: Op, wish: int | Shape, words: str) -> Window:
    small = window(op)
    if small is None:
        raise GraphError(f"{words}: '{op.name}' of {structure.name} shares the kernel, and is no convolution")
    where = f"'{op.name}' of {structure.name}, whose kernel is {'x'.join(map(str, small.size))}"
    size = wish if isinstance(wish, tuple) else (wish,) * len(small.size)
    if len(size) != len(small.size):
        raise GraphError(f"{words}: {where}, takes {len(small.size)} numbers")
    added = tuple(new - old for new, old in zip(size, small.size, strict=True))
    if min(added) < 0:
        raise GraphError(f"{words}: {where}, cannot shrink: a growth never reads less")
    before = tuple(count // 2 * step for count, step in zip(added, small.dilations, strict=True))
    behind = tuple((count - count // 2) * step for count, step in zip(added, small.dilations, strict=True))
    large = Window(size, _sum(small.begins, before), _sum(small.ends, behind), small.dilations)
    for axis, count in enumerate(added):
        if count:
            _require_reach(op, large, axis, f"{words}: {where}")
    return large


def _sum(pads: Shape, more: Shape) -> Shape:
    return tuple(pad + added for pad, added in zip(pads, more, strict=True))


def _require_reach(op: Op, large: Window, axis: int, where: str) -> None:
    """Every tap must meet the image somewhere: one that reads padding alone would never learn.

    Output o reads pixel o * stride - begin + d * t at tap t.
    """
    pixels, outputs = op.site.shapes[0][2 + axis], op.site.outputs[0][2 + axis]
    stride = op.site.node.integers("strides", (1,) * len(large.size))[axis]
    first = (outputs - 1) * stride - large.begins[axis]
    last = large.dilations[axis] * (large.size[axis] - 1) - large.begins[axis]
    if first < 0 or last >= pixels:
        raise GraphError(f"{where}, does not take {large.size[axis]} taps: on {pixels} pixels some meet only padding")
