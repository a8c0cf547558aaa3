"""What is sent to the CUDA provider is the same function, in the opset that it has kernels for."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from onnx import helper

from mnx.graphs.model import Array, Model, Node, Port
from mnx.graphs.proto import to_proto
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import parse_blocks, vgg
from mnx.train import fused, ort
from mnx.train.cuda_opset import OPSET, for_cuda
from mnx.train.onnxruntime_sessions import session
from mnx.train.settings import StepSettings

pytest.importorskip("onnxruntime.training", reason="training needs onnxruntime-training")


def opset(proto: bytes) -> int:
    """The version of ONNX's own domain."""
    return next(each.version for each in onnx.ModelProto.FromString(proto).opset_import if each.domain == "")


def outputs(proto: bytes, x: Array) -> Array:
    binding = (started := session(proto, "cpu", 1)).io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu")
    started.run_with_iobinding(binding)
    return np.asarray(binding.get_outputs()[0].numpy())


NETWORKS: dict[str, Callable[[], Model]] = {
    "mlp": lambda: mlp("mlp", 12, (16,), 5),
    "vgg": lambda: vgg("vgg", parse_blocks("(3:4)x2 | (3:8)"), 5, (3, 8, 8), (16,), batch_norm=True),
    "resnet": lambda: resnet("resnet", (1, 1), 4, 5, (3, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_for_cuda_trains_alike_on_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the CUDA provider gets: with its kernels in place of those of the CPU, in its opset."""
    model, random = NETWORKS[name](), np.random.default_rng(0)
    x, y = random.standard_normal((6, *model.inputs[0].shape), np.float32), random.integers(0, 5, 6)
    settings, sent = StepSettings(momentum=0.9, nesterov=True, clip_norm=1.0), []

    def trained() -> dict[str, Array]:
        engine = ort.Engine(model, settings, threads=1)
        for _ in range(3):
            engine.step(x, y, 0.1)
        return engine.state()

    as_it_was = trained()

    def as_sent(proto: bytes, device: str, threads: int) -> object:
        sent.append(for_cuda(proto))
        return session(sent[-1], device, threads)

    def gradients(proto: bytes, names: Sequence[str], loss: str, **of_the_cpu: object) -> bytes:
        return ort._gradients_on_cuda(proto, names, loss)

    for module in (ort, fused):
        monkeypatch.setattr(module, "session", as_sent)
    monkeypatch.setattr(ort, "_quick_gradients", gradients)
    for key, array in trained().items():
        assert difference(as_it_was[key], array, 1e-6).passed
    assert {opset(proto) for proto in sent} == {OPSET}
    ops = {node.op_type for proto in sent for node in onnx.ModelProto.FromString(proto).graph.node}
    assert "MaxPoolGrad" not in ops
    assert ("ScatterElements" in ops) == ("MaxPool" in ops)
    assert ("ConvGrad" in ops) == ("Conv" in ops)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_the_runtimes_own(approximate: str) -> None:
    port, out = (Port(name, "float32", (9,)) for name in "xy")
    model = Model("net", (port,), (out,), (Node("gelu", "Gelu", ("x",), ("y",), {"approximate": approximate}),), {})
    proto = to_proto(model).SerializeToString()
    x = np.linspace(-4, 4, 36, dtype=np.float32).reshape(4, 9)
    np.testing.assert_allclose(outputs(for_cuda(proto), x), outputs(proto, x), atol=1e-6)
    assert opset(for_cuda(proto)) == OPSET


def graph(op: str, inputs: list[str], **attributes: object) -> bytes:
    """A graph of one op in opset 21."""
    node = helper.make_node(op, inputs, ["y"], **attributes)
    given = [helper.make_tensor_value_info(name, 1, None) for name in inputs]
    made = helper.make_graph([node], "one", given, [helper.make_tensor_value_info("y", 1, None)])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString()


@pytest.mark.parametrize(
    "proto",
    [
        graph("GroupNormalization", ["x", "scale", "bias"], num_groups=2, epsilon=1e-5),
        graph("AveragePool", ["x"], kernel_shape=[2, 2], dilations=[2, 2]),
        graph("Pad", ["x", "pads"], mode="wrap"),
        graph("GridSample", ["x", "grid"], mode="linear"),
        graph("DFT", ["x", "length", "axis"]),
        graph("StringConcat", ["x", "other"]),
    ],
    ids=["GroupNormalization", "AveragePool", "Pad", "GridSample", "DFT", "StringConcat"],
)
def test_what_is_not_the_same_in_opset_18_stays(proto: bytes) -> None:
    assert opset(for_cuda(proto)) == 21


def test_cast_loses_what_speaks_of_float8_alone() -> None:
    (node,) = onnx.ModelProto.FromString(for_cuda(graph("Cast", ["x"], to=7, saturate=1))).graph.node
    assert [each.name for each in node.attribute] == ["to"]
