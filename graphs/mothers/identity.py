"""First weights of convolutions that hand their input on (Jordan 2024; DiracNets, Zagoruyko and Komodakis 2017).

Where a convolution has n inputs and at least as many filters, the first n filters are the identity: one at the centre
of their own channel, zeros elsewhere. The others stay as they were drawn. A deep network of such layers passes what it
sees to its end before it has learnt anything, as a residual network does by itself.
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.model import Array, Model, Node


def identity_like(model: Model) -> Model:
    """The model whose convolutions hand their input on, where they can.

    Left as they are: convolutions in groups, those with fewer filters than inputs, kernels that have no centre, and
    those that something goes round, as in residual blocks and beside other branches.
    """
    weights: dict[str, Array] = {}
    for node in _unavoidable(model):
        if node.op == "Conv" and _can(node, model.weights.get(node.inputs[1])):
            weights[node.inputs[1]] = _handing_on(model.weights[node.inputs[1]])
    return model.with_weights(weights)


def _unavoidable(model: Model) -> list[Node]:
    """The nodes that all that is computed of the inputs goes through."""
    last = {value: place for place, node in enumerate(model.nodes) for value in node.inputs}
    last |= {port.name: len(model.nodes) for port in model.outputs}
    open_values = {port.name for port in model.inputs if port.name in last}
    found = []
    for place, node in enumerate(model.nodes):
        open_values |= {value for value in node.outputs if value in last}
        open_values = {value for value in open_values if last[value] > place}
        if open_values and open_values <= set(node.outputs):
            found.append(node)
    return found


def _can(node: Node, weight: Array | None) -> bool:
    if weight is None or node.integer("group", 1) != 1:
        return False
    filters, channels, *kernel = weight.shape
    return filters >= channels and all(size % 2 for size in kernel)


def _handing_on(weight: Array) -> Array:
    array = np.array(weight)
    channels, kernel = array.shape[1], array.shape[2:]
    array[:channels] = 0
    array[(range(channels), range(channels), *(size // 2 for size in kernel))] = 1
    array.flags.writeable = False
    return array
