"""What the tests of canonical passes share: one check of a rewrite."""

import onnx
from reading import network, preserved

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.model import Model
from mnx.graphs.onnx_file import to_proto


def ops(model: Model) -> str:
    """The ops of the canonical body, in execution order."""
    return " ".join(node.op for node in model.nodes)


def rewritten(text: str, wanted: str, opset: int = 21, batch: int = 3) -> Model:
    """The canonical model of a network: it has these ops, computes the same, is valid and stays as it is."""
    proto = network(text, opset)
    model = canonicalise(proto, "net")
    assert ops(model) == wanted
    assert preserved(model, proto, batch)
    onnx.checker.check_model(to_proto(model, include_ends=True), full_check=True)
    uses = [name for node in model.nodes for name in node.inputs if name in model.weights]
    assert set(uses) == set(model.weights)
    assert all(uses.count(name) == 1 for name, array in model.weights.items() if array.ndim == 1)
    again = canonicalise(to_proto(model, include_ends=True), "net")
    assert again.nodes == model.nodes
    assert again.changes == ()
    return model
