"""What a network takes and gives, as far as data must know it: what its inputs hold, what its outputs say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Port
from mnx.graphs.probes import Content, contents

SOFTMAX, SIGMOID, PLAIN = "Softmax", "Sigmoid", ""
"""What may stand behind the outputs: a choice of one class, yes or no to each, or nothing that was exported."""

_HEADS = {"Softmax": SOFTMAX, "LogSoftmax": SOFTMAX, "Sigmoid": SIGMOID}


@dataclass(frozen=True)
class Interface:
    """What members share.

    Attributes:
        inputs: as their bodies take them, in order (channels first).
        width: how many numbers the body gives for an example; 0 where data are wanted for their inputs alone.
        head: what the exported network had behind them: `SOFTMAX`, `SIGMOID` or `PLAIN`.
        contents: what each input holds; empty where all hold numbers.
    """

    inputs: tuple[Port, ...]
    width: int
    head: str = PLAIN
    contents: tuple[Content, ...] = ()

    def content(self, place: int) -> Content:
        """What an input holds."""
        return self.contents[place] if self.contents else Content("numbers")


def interface(models: Sequence[Model]) -> Interface:
    """What these networks take and give together: of ids the smallest table counts, inputs are named as the first's.

    Args:
        models: canonical models with equal inputs and one output of equal width.

    Raises:
        GraphError: the output is not (batch, width), or one chooses a class where another says yes or no to each.
    """
    first = models[0]
    if len(first.outputs) != 1 or len(first.outputs[0].shape) != 1 or first.outputs[0].dtype != "float32":
        ends = ", ".join(f"{port.dtype} {('batch', *port.shape)}" for port in first.outputs)
        raise GraphError(f"{first.name} gives {ends}; data fit networks with one output of numbers, (batch, width)")
    heads = {head: model.name for model in models if (head := head_of(model))}
    if len(heads) > 1:
        raise GraphError(
            f"{heads[SOFTMAX]} ends in Softmax, which chooses one class, {heads[SIGMOID]} in Sigmoid, which says "
            "yes or no to each; train them apart, or export all alike"
        )
    return replace(taking(models), width=first.outputs[0].shape[0], head=next(iter(heads), PLAIN))


def taking(models: Sequence[Model]) -> Interface:
    """What these networks take together, whatever they give; inputs are named as the first's."""
    held = tuple(map(_narrowest, zip(*map(contents, models), strict=True)))
    return Interface(models[0].inputs, 0, PLAIN, held)


def head_of(model: Model) -> str:
    """What stands behind a model's outputs: `SOFTMAX`, `SIGMOID` or `PLAIN`."""
    return next((_HEADS[node.op] for node in model.head if node.op in _HEADS), PLAIN)


def _narrowest(found: tuple[Content, ...]) -> Content:
    """What an input may hold for all networks that read it."""
    counts = [content.count for content in found if content.kind == "ids"]
    if counts:
        return Content("ids", int(np.min(counts)))
    return next((content for content in found if content.kind == "mask"), found[0])
