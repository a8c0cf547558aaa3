"""What torch's exporters write today is read: same logits as torch in eval mode, and the same parameters kept."""

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from exporters import EXPORTERS, KEEP_NORMS, Array, Input, export, perturbed
from reading import check_dialect, same
from torch_convolutional import Net, nn, torch

from mnx.graphs.model import Model
from mnx.graphs.onnx_file import read, write
from mnx.graphs.run import run

pytestmark = pytest.mark.torch

SIZE = 16
CLASSES = 5
IMAGE = (Input("input", (3, SIZE, SIZE)),)
Exported = Callable[[str, str, bool], tuple[Any, Model]]


def _mlp() -> Net:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(3 * SIZE * SIZE, 24),
        nn.BatchNorm1d(24),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(24, 16, bias=False),
        nn.LeakyReLU(0.2),
        nn.Linear(16, CLASSES),
    )


def _vgg(norm: bool) -> Net:
    layers: list[Net] = []
    channels = 3
    for width in (8, 12):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    side = SIZE // 4
    head = [nn.Linear(channels * side**2, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, CLASSES)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(side), nn.Flatten(), *head)


class _Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Net) -> Net:
        inside = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(inside + self.shortcut(x))


class _ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.blocks = nn.Sequential(_Block(4, 4, 1), _Block(4, 8, 2), _Block(8, 8, 1))
        self.classes = nn.Linear(8, CLASSES)

    def forward(self, x: Net) -> Net:
        maps = self.blocks(self.stem(x))
        return self.classes(torch.nn.functional.adaptive_avg_pool2d(maps, 1).view(maps.size(0), -1))


NETS: dict[str, Callable[[], Net]] = {
    "mlp": _mlp,
    "vgg": lambda: _vgg(norm=False),
    "vgg_bn": lambda: _vgg(norm=True),
    "resnet": _ResNet,
}


WRITTEN = [pytest.param(name, marks=[pytest.mark.slow] if name.startswith("dynamo") else []) for name in EXPORTERS]


def _net(name: str, fresh: bool) -> Net:
    torch.manual_seed(0)
    net = NETS[name]()
    return (net if fresh else perturbed(net)).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Gives a network in eval mode and what is read of its export; each is written once.

    A training-mode export moves the running statistics of the network itself.
    """
    folder = tmp_path_factory.mktemp("exports")

    @functools.cache
    def pair(name: str, exporter: str, fresh: bool) -> tuple[Net, Model]:
        net = _net(name, fresh)
        path = folder / f"{name}_{exporter}_{fresh}.onnx"
        export(net, exporter, IMAGE, path)
        return net, read(path)

    return pair


def _keeps_norms(name: str, exporter: str) -> bool:
    """Exporters fold BatchNormalization into a Conv; TorchScript does not into a linear layer."""
    return exporter in KEEP_NORMS or (name == "mlp" and exporter.startswith("script"))


def _images(count: int) -> Array:
    return IMAGE[0].batch(count, 5)


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "trained"])
@pytest.mark.parametrize("exporter", WRITTEN)
@pytest.mark.parametrize("name", NETS)
def test_an_export_computes_what_torch_does_in_eval_mode(
    name: str, exporter: str, fresh: bool, exported: Exported, tmp_path: Path
) -> None:
    (net, model), x = exported(name, exporter, fresh), _images(7)
    check_dialect(model)
    assert [(port.name, port.shape) for port in model.inputs] == [("input", (3, SIZE, SIZE))]
    assert [(port.name, port.shape) for port in model.outputs] == [("logits", (CLASSES,))]
    ops = {node.op for node in model.nodes}
    assert ops <= {
        *("Conv", "Gemm", "BatchNormalization", "Relu", "LeakyRelu", "MaxPool"),
        *("GlobalAveragePool", "Flatten", "Add", "Dropout"),
    }
    assert ("BatchNormalization" in ops) == (name != "vgg" and _keeps_norms(name, exporter))
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    assert same(run(model, x)["logits"], expected)
    write(model, tmp_path / "again.onnx")
    again = read(tmp_path / "again.onnx")
    assert again.nodes == model.nodes
    assert same(run(again, x)["logits"], expected)


@pytest.mark.parametrize("exporter", [name for name in WRITTEN if name.values[0] in KEEP_NORMS])
@pytest.mark.parametrize("name", ["vgg_bn", "resnet"])
def test_batch_statistics_are_those_of_torch_in_training_mode(name: str, exporter: str, exported: Exported) -> None:
    (net, model), x = exported(name, exporter, False), _images(9)
    net = copy.deepcopy(net)
    for module in net.modules():
        module.training = isinstance(module, nn.BatchNorm2d)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    assert same(run(model, x, batch_statistics=True)["logits"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "trained"])
@pytest.mark.parametrize("name", NETS)
def test_exporters_agree_on_the_structure(name: str, fresh: bool, exported: Exported) -> None:
    outlines: dict[bool, list[list[str]]] = {True: [], False: []}
    for exporter in EXPORTERS:
        _, model = exported(name, exporter, fresh)
        outline = sorted(
            f"{node.op} {sorted(node.attributes.items())} "
            f"{[model.weights[value].shape for value in node.inputs if value in model.weights]}"
            for node in model.nodes
            if node.op != "Dropout"
        )
        outlines[_keeps_norms(name, exporter)].append(outline)
    for group in outlines.values():
        assert all(other == group[0] for other in group)


@pytest.mark.parametrize("exporter", WRITTEN)
@pytest.mark.parametrize("name", NETS)
def test_nodes_values_and_weights_are_called_as_in_the_export(
    name: str, exporter: str, exported: Exported, tmp_path: Path
) -> None:
    _, model = exported(name, exporter, False)
    assert model.source is not None
    write(model, tmp_path / "back.onnx", form="original")
    given, back = (onnx.load(path).graph for path in (model.source, tmp_path / "back.onnx"))
    order = [node.name for node in given.node]
    values = {value for node in given.node for value in node.output}
    weights = {tensor.name for tensor in given.initializer} | values
    names = [node.name for node in back.node]
    new = [node.name for node in back.node if node.name not in order]
    assert all(node.removesuffix(".Flatten") in order for node in new)
    assert [each for each in order if each in names] == [each for each in names if each in order]
    assert {node.output[0] for node in back.node if node.name in order} <= values | {f"{v}.Flatten" for v in values} | {
        f"{node.output[0]}.GlobalAveragePool" for node in given.node
    }
    lost = {tensor.name for tensor in back.initializer} - weights
    assert lost <= {f"{node}.{slot}" for node in order for slot in ("bias", "mean")}
