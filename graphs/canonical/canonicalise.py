"""The canonical form: one fixed, ordered list of passes from what an exporter wrote to the dialect of `Model`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import onnx
import onnx_ir as ir

from mnx.graphs.canonical.activations import activations
from mnx.graphs.canonical.arithmetic import arithmetic
from mnx.graphs.canonical.batch import free_batch
from mnx.graphs.canonical.biases import added_biases, explicit_biases, norm_biases
from mnx.graphs.canonical.classical import without_maps
from mnx.graphs.canonical.concats import concats
from mnx.graphs.canonical.conversion import to_graph, to_model
from mnx.graphs.canonical.einsum import einsums
from mnx.graphs.canonical.entry import peel_entry
from mnx.graphs.canonical.flattening import flattening
from mnx.graphs.canonical.folding import fold
from mnx.graphs.canonical.folds import axis_moves, folded_gemms
from mnx.graphs.canonical.group_norm import group_norms
from mnx.graphs.canonical.head import peel
from mnx.graphs.canonical.identities import drop_dead, drop_identities, plain_batch_norm, plain_dropout
from mnx.graphs.canonical.layer_norm import layer_norms
from mnx.graphs.canonical.layout import channels_first
from mnx.graphs.canonical.linear import linear_layers
from mnx.graphs.canonical.naming import unique_names, untie
from mnx.graphs.canonical.opening import opened
from mnx.graphs.canonical.padding import folded_pads
from mnx.graphs.canonical.pooling import global_pooling
from mnx.graphs.canonical.scalar_functions import scalar_functions
from mnx.graphs.canonical.scales import folded_scales, norms_from_scales
from mnx.graphs.canonical.slices import slices
from mnx.graphs.canonical.surgery import Graph
from mnx.graphs.canonical.token_linear import token_linear
from mnx.graphs.canonical.windows import explicit_windows
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.suggest import one_line

Pass: TypeAlias = Callable[[Graph], list[str]]
"""Changes the graph in place and says in words what it changed in the parameters."""

PASSES: tuple[tuple[str, Pass], ...] = (
    ("name every node", unique_names),
    ("Dropout with ratio only", plain_dropout),
    ("BatchNormalization with running statistics", plain_batch_norm),
    ("explicit windows", explicit_windows),
    ("drop what passes through", drop_identities),
    ("normalisation over the last axis", layer_norms),
    ("functions written in arithmetic", scalar_functions),
    ("Einsum as matrix product", einsums),
    ("parts along one axis", slices),
    ("arithmetic", arithmetic),
    ("group normalisation", group_norms),
    ("linear layers on folded batches", folded_gemms),
    ("Reshapes and Transposes", axis_moves),
    ("Flatten", flattening),
    ("activations", activations),
    ("drop dead nodes", drop_dead),
    ("linear layers", linear_layers),
    ("channels first", channels_first),
    ("Concats as chains", concats),
    ("global pooling", global_pooling),
    ("pads behind windows", folded_pads),
    ("added biases", added_biases),
    ("factors behind layers", folded_scales),
    ("biases added behind factors", added_biases),
    ("factors as BatchNormalization", norms_from_scales),
    ("linear layers on tokens", token_linear),
    ("untie rank-1 constants", untie),
    ("biases before BatchNormalization", norm_biases),
    ("explicit biases", explicit_biases),
    ("name what was added", unique_names),
)
"""Every pass, in order: a new one is one entry here, its algebra and code in a file of this folder, one test row."""


def canonicalise(source: onnx.ModelProto, name: str, folder: Path | str = "") -> Model:
    """The canonical model of any ONNX model.

    Args:
        source: the model, which is not changed.
        name: what to call the model.
        folder: where the files lie that hold its external data.

    Raises:
        GraphError: the model holds what the dialect cannot; the message names op, node, model and cure.
    """
    own = onnx.ModelProto()
    own.CopyFrom(source)
    cut = without_maps(own)
    try:
        loaded = ir.from_proto(own)
    except ir.serde.SerdeError as error:
        raise GraphError(f"{name} holds what mnx cannot read ({one_line(error)}): export tensors only") from error
    ir.external_data.set_base_dir(loaded.graph, folder)
    draft = opened(loaded, name)
    fold(draft)
    free_batch(draft)
    fold(draft)
    graph = to_graph(draft)
    changes = [change for _, step in PASSES for change in step(graph)]
    model = to_model(graph, [*cut, *draft.changes, *changes]).replace(precision=draft.precision)
    return peel_entry(peel(model))
