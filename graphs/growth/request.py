"""What of a network is to grow, as data and as users write it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Shape

T = TypeVar("T")


@dataclass(frozen=True)
class Times:
    """A width as a multiple of what it was, rounded up to what is legal."""

    factor: Fraction | int

    def __str__(self) -> str:
        """As users write it: x2, x1.5."""
        return f"x{float(self.factor):g}"


@dataclass(frozen=True)
class Request:
    """What is wanted of a network. Layers go by the names of nodes or modules, channel groups as g3.

    Attributes:
        widths: layer, group or 'all' -> new width, or factor. What is tied to a layer grows with it.
        depths: unit -> how many copies of it to insert behind it.
        kernels: layer -> kernel size, one number or one for each axis of space.
        like: a network of the architecture to grow to; the rest is then asked of that.
    """

    widths: Mapping[str, int | Times] = field(default_factory=dict)
    depths: Mapping[str, int] = field(default_factory=dict)
    kernels: Mapping[str, int | Shape] = field(default_factory=dict)
    like: Model | None = None

    @property
    def changes(self) -> bool:
        """Whether more is wanted than to grow like a network."""
        return bool(self.widths or self.depths or self.kernels)


def request(
    widths: Iterable[str] = (), depths: Iterable[str] = (), kernels: Iterable[str] = (), like: Model | None = None
) -> Request:
    """What users write, read: `conv1=64`, `all=x2`; `layer1.0+2`; `conv2=5`, `conv2=5x3`.

    Raises:
        GraphError: a text is written otherwise, or one place is given twice.
    """
    return Request(
        _read(widths, "width", "=", "conv1=64, or conv1=x1.5 for a factor", _width),
        _read(depths, "depth", "+", "layer1.0+2 for two more of that unit", _count),
        _read(kernels, "kernel", "=", "conv2=5, or conv2=5x3", _kernel),
        like,
    )


def _read(texts: Iterable[str], what: str, mark: str, example: str, value: Callable[[str], T | None]) -> dict[str, T]:
    found: dict[str, T] = {}
    for text in texts:
        place, _, wish = text.rpartition(mark)
        read = value(wish)
        if not place or read is None:
            raise GraphError(f"{what} {text}: write for example {example}")
        if place in found:
            raise GraphError(f"{what} {text}: '{place}' is given twice")
        found[place] = read
    return found


def _width(text: str) -> int | Times | None:
    if not text.startswith("x"):
        return _count(text)
    whole, _, rest = text[1:].partition(".")
    return Times(Fraction(text[1:])) if whole.isdecimal() and (rest.isdecimal() or "." not in text) else None


def _count(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _kernel(text: str) -> int | Shape | None:
    sizes = text.split("x")
    if not all(size.isdecimal() for size in sizes):
        return None
    return int(text) if len(sizes) == 1 else tuple(map(int, sizes))
