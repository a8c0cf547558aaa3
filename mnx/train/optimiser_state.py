"""What an optimiser keeps of a network between steps, and how a hatched member goes on with what its mother's kept.

Of SGD that is the momentum. Of AdamW it is both moments and the number of steps, without which moments that are old
would be corrected as if they were new: a member's counter goes on from its mother's, with all that depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mnx.graphs.growth.growing import Growing
from mnx.graphs.growth.moments import moments
from mnx.graphs.model import Array
from mnx.train.settings import MOMENTUM, SQUARE, STEP

_POWERS = {MOMENTUM: 1, SQUARE: 2}
"""What stands before the name of a moment -> of which power of the gradient it is a moving sum."""


def optimiser_state(state: Mapping[str, Array]) -> dict[str, Array]:
    """The optimiser's part of an engine's state, with the same keys; empty where it keeps nothing."""
    found = {key: array for key, array in state.items() if key.startswith(tuple(_POWERS))}
    return {**found, STEP: state[STEP]} if any(key.startswith(SQUARE) for key in found) else found


def grown(growing: Growing, kept: Mapping[str, Array]) -> dict[str, Array]:
    """A mother's `optimiser_state`, grown with a member; of parameters that she has not there is none."""
    found = {STEP: kept[STEP]} if STEP in kept else {}
    for part, power in _POWERS.items():
        hers = {key.removeprefix(part): array for key, array in kept.items() if key.startswith(part)}
        found |= {part + name: array for name, array in moments(growing, hers, power).items()}
    return found


def begun(state: Mapping[str, Array], kept: Mapping[str, Array]) -> dict[str, Array]:
    """A new network's state that goes on with what an optimiser has kept; parameters without begin with 0.

    Squares never do: with 0 there, and a counter that is far, AdamW's first steps would be many times too long. Where
    nothing was kept (new channels, new layers) the mean of the squares that their parameter has stands for them, or of
    all squares.

    Args:
        state: of the network as it begins.
        kept: by the keys of the state; others are left out.
    """
    found = {**state, **{key: array for key, array in kept.items() if key in state}}
    squares = {key: array for key, array in found.items() if key.startswith(SQUARE)}
    if not any(array.any() for array in squares.values()):
        return found
    everywhere = _mean(np.concatenate([array.ravel() for array in squares.values()]))
    for key, array in squares.items():
        usual = _mean(array) if array.any() else everywhere
        found[key] = np.where(array == 0, usual, array).astype(array.dtype)
    return found


def _mean(squares: Array) -> float:
    """The mean of those that are not 0."""
    return float(squares[squares != 0].mean(dtype=np.float64))
