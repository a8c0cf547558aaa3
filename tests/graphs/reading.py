"""What the tests of reading share: small networks from text, the original's results, the dialect's promises."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper, parser

from mnx.graphs.model import Model
from mnx.graphs.onnx_file import to_proto
from mnx.graphs.run import run
from mnx.graphs.verify import difference

Array = npt.NDArray[Any]


def network(text: str, opset: int = 21, seed: int = 0) -> onnx.ModelProto:
    """The network in `text`, in which every input but those called x... is a random weight.

    Weights called v... are positive (variances).
    """
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    random = np.random.default_rng(seed)
    data = [value for value in proto.graph.input if value.name.startswith("x")]
    for value in proto.graph.input:
        if not value.name.startswith("x"):
            shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
            array = random.standard_normal(shape).astype(np.float32)
            array = np.abs(array) + np.float32(0.5) if value.name.startswith("v") else array
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
    del proto.graph.input[:]
    proto.graph.input.extend(data)
    return proto


def images(proto: onnx.ModelProto, batch: int, seed: int = 1) -> dict[str, Array]:
    """Random inputs for `proto`."""
    random = np.random.default_rng(seed)
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim][1:] for value in proto.graph.input
    }
    return {name: random.standard_normal((batch, *shape)).astype(np.float32) for name, shape in shapes.items()}


def original(proto: onnx.ModelProto | str, inputs: Mapping[str, Array]) -> list[Array]:
    """What onnxruntime makes of a file as it is."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = proto if isinstance(proto, str) else proto.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, dict(inputs))
    return results


def same(left: Array, right: Array) -> bool:
    """Whether two results agree within the tolerance."""
    return difference(right, left).passed


def preserved(model: Model, proto: onnx.ModelProto, batch: int = 3) -> bool:
    """Whether the canonical model computes what the original does, head included."""
    inputs = images(proto, batch)
    results = list(run(model, inputs, include_ends=True).values())
    return all(same(one, other) for one, other in zip(results, original(proto, inputs), strict=True))


def check_dialect(model: Model) -> None:
    """The promises of the canonical form that hold for every model."""
    onnx.checker.check_model(to_proto(model, include_ends=True), full_check=True)
    names = [node.name for node in model.nodes]
    assert all(names)
    assert len(set(names)) == len(names)
    uses = [name for node in model.nodes for name in node.inputs if name in model.weights]
    assert set(uses) == set(model.weights)
    assert all(uses.count(name) == 1 for name, array in model.weights.items() if array.ndim == 1)
    assert all(not array.flags.writeable for array in model.weights.values())
    readers = model.consumers()
    for node in model.nodes:
        assert node.op not in ("Identity", "Constant", "MatMul")
        assert len(node.outputs) == 1
        if node.op in ("Conv", "Gemm"):
            after = [reader.op for reader in readers.get(node.outputs[0], [])]
            assert (len(node.inputs) == 2) == (after == ["BatchNormalization"]), node
        if node.op == "Conv":
            assert list(node.attributes) == ["kernel_shape", "strides", "pads", "dilations", "group"]
        if node.op == "Gemm":
            assert node.attributes == {"transB": 1}
        if node.op == "BatchNormalization":
            assert set(node.attributes) == {"epsilon", "momentum"}
        if node.op == "Flatten":
            assert node.attributes == {"axis": 1}
