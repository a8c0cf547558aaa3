"""The canonical form: one fixed, ordered list of passes from what an exporter wrote to the dialect of `Model`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import onnx
import onnx_ir as ir

from mnx.graphs.canonical.activations import activations
from mnx.graphs.canonical.batch import free_batch
from mnx.graphs.canonical.biases import added_biases, explicit_biases, norm_biases
from mnx.graphs.canonical.conversion import to_graph, to_model
from mnx.graphs.canonical.flattening import flattening
from mnx.graphs.canonical.folding import fold
from mnx.graphs.canonical.head import peel
from mnx.graphs.canonical.identities import drop_dead, drop_identities, plain_batch_norm, plain_dropout
from mnx.graphs.canonical.linear import linear_layers
from mnx.graphs.canonical.naming import unique_names, untie
from mnx.graphs.canonical.opening import opened
from mnx.graphs.canonical.pooling import global_pooling
from mnx.graphs.canonical.surgery import Graph
from mnx.graphs.canonical.windows import explicit_windows
from mnx.graphs.model import Model

Pass: TypeAlias = Callable[[Graph], list[str]]
"""Changes the graph in place and says in words what it changed in the parameters."""

PASSES: tuple[tuple[str, Pass], ...] = (
    ("name every node", unique_names),
    ("Dropout with ratio only", plain_dropout),
    ("BatchNormalization with running statistics", plain_batch_norm),
    ("explicit windows", explicit_windows),
    ("drop what passes through", drop_identities),
    ("global pooling", global_pooling),
    ("Flatten", flattening),
    ("activations", activations),
    ("drop dead nodes", drop_dead),
    ("linear layers", linear_layers),
    ("added biases", added_biases),
    ("untie rank-1 constants", untie),
    ("biases before BatchNormalization", norm_biases),
    ("explicit biases", explicit_biases),
    ("name what was added", unique_names),
)
"""Every pass, in order: a new one is one entry here, its algebra and code in a file of this folder, one test row."""


def canonicalise(source: onnx.ModelProto | ir.Model, name: str) -> Model:
    """The canonical model of any ONNX model.

    Args:
        source: the model; an `ir.Model` is used up.
        name: what to call the model.

    Raises:
        GraphError: the model holds what the dialect cannot; the message names op, node, model and cure.
    """
    if isinstance(source, onnx.ModelProto):
        own = onnx.ModelProto()
        own.CopyFrom(source)
        source = ir.from_proto(own)
    draft = opened(source, name)
    fold(draft)
    free_batch(draft)
    fold(draft)
    graph = to_graph(draft)
    changes = [change for _, step in PASSES for change in step(graph)]
    return peel(to_model(graph, [*draft.changes, *changes]))
