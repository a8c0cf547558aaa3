"""The architecture that a growth asks for, as a network with fresh weights: kernels first, then depth, then widths."""

from __future__ import annotations

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.deeper import deepened
from mnx.graphs.growth.larger import enlarged
from mnx.graphs.growth.request import Request
from mnx.graphs.growth.wider import widened
from mnx.graphs.model import Model
from mnx.graphs.mothers.carve import carve, drawn, resized
from mnx.graphs.trees.describe import describe


def target(model: Model, wanted: Request, seed: int = 0) -> Model:
    """The network that is wanted, with fresh weights; where it is only to be like another, with that one's own.

    Raises:
        GraphError: see `architecture`.
    """
    member = architecture(model, wanted)
    return drawn(member, describe(member), seed) if wanted.changes else member


def architecture(model: Model, wanted: Request) -> Model:
    """The network that is wanted, with stand-ins for the weights that change.

    Raises:
        GraphError: nothing is wanted, a name is unknown, or what is wanted is no growth; the message says why.
    """
    if wanted.like is None and not wanted.changes:
        raise GraphError(f"nothing is asked of {model.name}: give a width, a depth, a kernel or a network to grow like")
    grown = wanted.like or model
    origin = structure = describe(grown)
    if wanted.kernels:
        grown = carve(grown, structure, (), structure.groups, enlarged(structure, wanted.kernels))
        structure = describe(grown)
    for text, count in wanted.depths.items():
        grown = deepened(grown, structure, text, count)
        structure = describe(grown)
    if wanted.widths:
        grown = resized(grown, structure, widened(structure, wanted.widths, origin))
    return grown if grown.name != model.name else grown.replace(name=f"{model.name}_grown")
