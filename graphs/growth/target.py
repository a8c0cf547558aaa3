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
    """The architecture that is wanted of a network, with fresh weights, named after it.

    Where nothing but `like` is given, it keeps that network's own weights.

    Raises:
        GraphError: nothing is wanted, a name is unknown, or what is wanted is no growth; the message says why.
    """
    changes = bool(wanted.widths or wanted.depths or wanted.kernels)
    if not changes and wanted.like is None:
        raise GraphError(f"nothing is asked of {model.name}: give a width, a depth, a kernel or a network to grow like")
    name = f"{model.name}_grown"
    grown = wanted.like or model
    if not changes:
        return grown.replace(name=name)
    origin = structure = describe(grown)
    if wanted.kernels:
        grown = carve(grown, structure, (), structure.groups, enlarged(structure, wanted.kernels))
        structure = describe(grown)
    for text, count in wanted.depths.items():
        grown = deepened(grown, structure, text, count)
        structure = describe(grown)
    if wanted.widths:
        grown = resized(grown, structure, widened(structure, wanted.widths, origin))
        structure = describe(grown)
    return drawn(grown, structure, seed).replace(name=name)
