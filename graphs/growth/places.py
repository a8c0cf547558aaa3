"""Which layers a user's text names: a node, the path of a module, or the beginning of one name.

The path of a module is read from the names of weights (`layer1.0.conv1.weight`) and from those nodes that carry it
(`/layer1/layer1.0/conv1/Conv`), so that a layer is called the same in every export.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mnx.graphs.errors import GraphError
from mnx.graphs.ops.rule import Kind
from mnx.graphs.suggest import did_you_mean, listed
from mnx.graphs.trees.structure import Op, Structure

_BOUNDARIES = "./"
"""What ends the name of a module inside a path."""


def named(structure: Structure, text: str) -> list[Op]:
    """The ops that a text names, in execution order.

    That is the node of this name; else all that the module of this path holds; else what alone begins with the text.

    Raises:
        GraphError: nothing is called so, or several layers begin with it.
    """
    ops = {op.name: op for op in structure.ops()}
    if text in ops:
        return [ops[text]]
    names = {op.name: list(dict.fromkeys(_names(op))) for op in ops.values()}
    inside = [op for op in ops.values() if any(_holds(text, name) for name in names[op.name])]
    if inside:
        return inside
    begun = [op for op in ops.values() if text and any(name.startswith(text) for name in names[op.name])]
    layers = [op for op in begun if any(p.kind in (Kind.WEIGHT, Kind.TABLE) for p in op.parameters)] or begun
    if len({names[op.name][-1] for op in layers}) > 1:
        raise GraphError(
            f"'{text}' begins the names of {len(layers)} layers of {structure.name} "
            f"({listed([op.name for op in layers])}): give the whole name of one, or the path of a module"
        )
    if not layers:
        every = list(dict.fromkeys(name for known in names.values() for name in known))
        raise GraphError(f"{structure.name} has no layer '{text}', as 'mnx show' lists them{did_you_mean(text, every)}")
    return layers


def _holds(text: str, name: str) -> bool:
    """Whether a name is that of a module, or of what stands in it."""
    behind = name[len(text.rstrip(_BOUNDARIES)) :]
    return bool(text) and name.startswith(text) and behind[:1] in ("", *_BOUNDARIES)


def _names(op: Op) -> Iterator[str]:
    """What an op may be called: its node's name, and its module's path by the node and by its weights."""
    yield op.name
    if op.name.startswith("/"):
        path = _joined(op.name.split("/")[1:-1])
        if path:
            yield path
    for parameter in op.parameters:
        path, dot, _ = parameter.name.rpartition(".")
        if dot and not path.startswith("/"):
            yield path


def _joined(scopes: Sequence[str]) -> str:
    """The path that nested scopes spell: each repeats its parent's where that is a list of modules.

    `layer1`, `layer1.0`, `conv1` is the module `layer1.0.conv1`.
    """
    path: list[str] = []
    for scope in scopes:
        if path and scope.startswith(f"{path[-1]}."):
            path.pop()
        path.append(scope)
    return ".".join(path)
