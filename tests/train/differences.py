"""Gradients of small networks by ONNX Runtime, and by differences of the network as it came."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from mnx.graphs.builder import Builder
from mnx.graphs.model import Array, Model, Node, Port
from mnx.graphs.proto import to_proto
from mnx.train.onnxruntime_sessions import differentiate, session

Forward = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Values by name -> the outputs of a network by name."""

_DOUBLE = 11
_NEAR, _FAR = 1e-5, 4e-3
"""How far apart the points are in float64 and in float32."""


def counts_of(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """What every number of the outputs counts in the sum that is differentiated."""
    return {
        name: np.random.default_rng(index).standard_normal(array.shape).astype(np.float32)
        for index, (name, array) in enumerate(sorted(outputs.items()))
    }


def by_runtime(
    model: Model, values: Mapping[str, Array], counts: Mapping[str, Array], wanted: Sequence[str]
) -> dict[str, Array]:
    """Gradients of the sum of all outputs times `counts` by the wanted values, as ONNX Runtime builds them.

    Args:
        model: a lowered network, or one as it is.
        values: inputs, and the weights that are given.
        counts: by output.
        wanted: names of `values`.
    """
    builder = Builder("sum:")
    parts = [
        builder.add("ReduceSum", builder.add("Mul", name, f"count:{name}"), keepdims=0, outputs=[f"part:{name}"])
        for name in counts
    ]
    zero = builder.weight("zero", np.array(0, np.float32))
    parts += [builder.add("ReduceSum", builder.add("Mul", name, zero), keepdims=0) for name in wanted]
    builder.add("Sum" if len(parts) > 1 else "Identity", *parts, outputs=["mnx:sum"])
    nodes = [*model.nodes, *_added(builder)]
    whole = model.replace(outputs=(), nodes=tuple(nodes), weights={**model.weights, **builder.weights})
    proto = to_proto(whole, [name for name in model.weights if name in values])
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(f"count:{name}", onnx.TensorProto.FLOAT, array.shape)
        for name, array in counts.items()
    )
    graph = differentiate(proto.SerializeToString(), wanted, "mnx:sum")
    started = session(graph, "cpu", 1)
    feeds = {**values, **{f"count:{name}": array for name, array in counts.items()}}
    read = {port.name for port in started.get_inputs()}
    given = {name: array for name, array in feeds.items() if name in read}
    return dict(zip(wanted, started.run([f"{name}_grad" for name in wanted], given), strict=True))


def _added(builder: Builder) -> list[Node]:
    """The builder's nodes with a Sum as Adds, for which there are gradients."""
    *nodes, total = builder.nodes
    first, *others = total.inputs
    for index, other in enumerate(others):
        nodes.append(Node(f"sum:{index}", "Add", (first, other), (f"sum:{index}",)))
        first = f"sum:{index}"
    return [*nodes, Node("sum", "Identity", (first,), total.outputs)]


def reference(model: Model) -> Forward:
    """The network in float64 by ONNX's reference implementation; weights may be given."""
    weights = {name: _doubled(array) for name, array in model.weights.items()}
    inputs, outputs = (
        tuple(Port(port.name, "float64" if port.dtype == "float32" else port.dtype, port.shape) for port in ports)
        for ports in (model.inputs, model.outputs)
    )
    nodes = tuple(
        Node(node.name, node.op, node.inputs, node.outputs, {"to": _DOUBLE}) if node.op == "Cast" else node
        for node in model.nodes
    )
    doubled = model.replace(inputs=inputs, outputs=outputs, nodes=nodes, weights=weights)
    evaluator = ReferenceEvaluator(to_proto(doubled, list(weights)))
    names = [port.name for port in outputs]

    def forward(values: Mapping[str, Array]) -> Mapping[str, Array]:
        return dict(zip(names, evaluator.run(names, {**weights, **values}), strict=True))

    return forward


def runtime(model: Model) -> Forward:
    """The network as ONNX Runtime runs it, in float32; weights may be given."""
    started = session(to_proto(model, list(model.weights)).SerializeToString(), "cpu", 1)
    names = [port.name for port in model.outputs]

    def forward(values: Mapping[str, Array]) -> Mapping[str, Array]:
        feeds = {**model.weights, **values}
        given = {port.name: feeds[port.name] for port in started.get_inputs()}
        given = {
            name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in given.items()
        }
        return dict(zip(names, started.run(names, given), strict=True))

    return forward


def along(
    forward: Forward, values: Mapping[str, Array], counts: Mapping[str, Array], way: Mapping[str, Array], single: bool
) -> float:
    """The derivative of the same sum along a direction, by central differences; of four points where `single`."""
    exact = {name: _doubled(array) for name, array in values.items()}

    def total(distance: float) -> float:
        outputs = forward({**exact, **{name: exact[name] + distance * step for name, step in way.items()}})
        return float(sum((outputs[name].astype(np.float64) * count).sum() for name, count in counts.items()))

    if not single:
        return (total(_NEAR) - total(-_NEAR)) / (2 * _NEAR)
    one, two = (total(distance) - total(-distance) for distance in (_FAR, 2 * _FAR))
    return (8 * one - two) / (12 * _FAR)


def _doubled(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array
