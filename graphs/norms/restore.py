"""BatchNormalization put back behind the layers that it was folded into, and folded into them again.

restored: y = W x + b -> BatchNormalization(W x; sqrt(v + e), m + b, m, v), the identity for any mean m and variance v
folded: BatchNormalization(W x + b; s, t, m, v) -> (r W) x + (b - m) r + t, with r = s / sqrt(v + e)

With m and v those of a batch, the first holds by the statistics of that batch too. Which nodes were put in, and what
the biases were called, stands in the model's metadata under `RESTORED`; other BatchNormalizations are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mnx.graphs.certificate import EVAL, Certificate, versions
from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.model import Array, Model, Node, free_name, without_unused_weights
from mnx.graphs.norms.places import Places, places
from mnx.graphs.probes import EXTREME
from mnx.graphs.run import Batch, run
from mnx.graphs.trees.describe import describe
from mnx.graphs.verify import compared, in_float64, logits

RESTORED = "mnx.restored"
"""The key of a model's metadata that says which BatchNormalizations were put in: node -> name of the layer's bias."""

EPSILON = 1e-5
MOMENTUM = 0.9
"""What a running statistic keeps of itself at each step."""


def restored(model: Model, batch: Batch | None = None, at: Places | None = None) -> Model:
    """The network with an identity BatchNormalization in every place where one belongs.

    Args:
        model: a canonical model.
        batch: examples (n, *input shape) on which means and variances are measured; None for 0 and 1.
        at: the places, where they are known.

    Raises:
        GraphError: there is no such place; the message says why.
    """
    at = at or places(model, describe(model))
    if not at.layers:
        raise GraphError(f"{model.name} has no place for BatchNormalization: {at.reasons}")
    known = json.loads(model.metadata.get(RESTORED, "{}"))
    taken = {name for node in model.nodes for name in (node.name, *node.inputs, *node.outputs)} | set(model.weights)
    measured = _statistics(model, batch, at.layers)
    weights = dict(model.weights)
    nodes: list[Node] = []
    for node in model.nodes:
        if node.name not in at.layers:
            nodes.append(node)
            continue
        mean, variance = measured[node.name]
        bias = weights.pop(node.input(2)) if node.input(2) else np.zeros(len(mean), np.float32)
        numbers = {
            "scale": np.sqrt(variance.astype(np.float64) + EPSILON),
            "shift": mean,
            "mean": mean - bias.astype(np.float64),
            "variance": variance,
        }
        parts = []
        for part, array in numbers.items():
            parts.append(free_name(f"{node.name}.norm.{part}", taken))
            weights[parts[-1]] = array.astype(np.float32)
        name, value = free_name(f"{node.name}.norm", taken), free_name(f"{node.outputs[0]}.raw", taken)
        taken |= {*parts, name, value}
        known[name] = node.input(2)
        nodes.append(replace(node, inputs=node.inputs[:2], outputs=(value,)))
        attributes = {"epsilon": EPSILON, "momentum": MOMENTUM}
        nodes.append(Node(name, "BatchNormalization", (value, *parts), node.outputs, attributes))
    return model.replace(
        nodes=tuple(nodes), weights=weights, metadata={**model.metadata, RESTORED: json.dumps(known, sort_keys=True)}
    )


def _statistics(model: Model, batch: Batch | None, layers: Sequence[str]) -> dict[str, tuple[Array, Array]]:
    """The mean and biased variance of each layer's output by channel, on a batch or as they are before any."""
    values = {node.name: node.outputs[0] for node in model.nodes if node.name in layers}
    if batch is not None:
        found = run(model, batch, list(values.values()))
        return {name: _moments(found[value]) for name, value in values.items()}
    result = {}
    for node in model.nodes:
        if node.name in values:
            width = model.weights[node.inputs[1]].shape[0]
            bias = model.weights[node.input(2)] if node.input(2) else np.zeros(width, np.float32)
            result[node.name] = (bias, np.ones(width, np.float32))
    return result


def _moments(array: Array) -> tuple[Array, Array]:
    axes = tuple(axis for axis in range(array.ndim) if axis != 1)
    return array.mean(axis=axes, dtype=np.float64), array.var(axis=axes, dtype=np.float64)


def put_in(model: Model) -> tuple[str, ...]:
    """The BatchNormalizations that `restored` put into a model, by node."""
    return tuple(json.loads(model.metadata.get(RESTORED, "{}")))


def folded(model: Model) -> Model:
    """The network with every BatchNormalization that `restored` put in folded into the layer before it.

    Raises:
        GraphError: the metadata name a node that is not there, or is not behind a layer that it alone reads.
    """
    names: dict[str, str] = json.loads(model.metadata.get(RESTORED, "{}"))
    made, readers = model.producers(), model.consumers()
    weights = dict(model.weights)
    layers: dict[str, Node] = {}
    norms = {node.name: node for node in model.nodes if node.name in names}
    for name, bias in names.items():
        norm = norms.get(name)
        layer = made.get(norm.inputs[0]) if norm is not None else None
        if norm is None or layer is None or norm.op != "BatchNormalization" or len(readers[norm.inputs[0]]) > 1:
            raise GraphError(
                f"{model.name}: its metadata say that '{name}' was put in behind a layer, which is not so: it was "
                "changed since; take the file that mnx wrote"
            )
        weight, shift = _folding(layer, norm, weights)
        kept = layer.input(2) or free_name(bias or f"{layer.name}.bias", weights)
        weights |= {layer.inputs[1]: weight, kept: shift}
        layers[layer.name] = replace(layer, inputs=(*layer.inputs[:2], kept), outputs=norm.outputs)
    nodes = tuple(layers.get(node.name, node) for node in model.nodes if node.name not in names)
    metadata = {key: text for key, text in model.metadata.items() if key != RESTORED}
    return without_unused_weights(model.replace(nodes=nodes, weights=weights, metadata=metadata))


def _folding(layer: Node, norm: Node, weights: Mapping[str, Array]) -> tuple[Array, Array]:
    """The weight and bias of a layer with the normalisation behind it, computed in float64."""
    scale, shift, mean, variance = (weights[name].astype(np.float64) for name in norm.inputs[1:5])
    factor = scale / np.sqrt(variance + norm.real("epsilon", EPSILON))
    weight = weights[layer.inputs[1]]
    bias = weights[layer.input(2)].astype(np.float64) if layer.input(2) else np.zeros(len(mean))
    column = factor.reshape(-1, *[1] * (weight.ndim - 1))
    return (weight * column).astype(weight.dtype), ((bias - mean) * factor + shift).astype(weight.dtype)


def alike(model: Model, other: Model, inputs: Mapping[str, Batch]) -> Certificate:
    """The certificate that a network restored or folded computes, in eval mode, the function that it did before.

    Args:
        model: the one before.
        other: the one after.
        inputs: named batches, each (n, *input shape), or a tuple of such arrays.

    Raises:
        NotPreserved: it does not.
    """
    checks = []
    for name, batch in inputs.items():
        again = in_float64(model, batch, EVAL) if name == EXTREME else None
        check = compared(name, EVAL, logits(model, batch, EVAL), logits(other, batch, EVAL), again=again)
        checks.append(check)
        if check.binding and not check.difference.passed:
            far = check.difference
            raise NotPreserved(
                f"{other.name}: with BatchNormalization {'folded' if put_in(model) else 'put back'} it computes "
                f"another function: on {name} inputs they differ by {far.largest:.2e}, more than {far.tolerance:.2e}; "
                "nothing was written"
            )
    return Certificate(model.name, other.name, tuple(checks), versions=versions())
