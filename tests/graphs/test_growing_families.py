"""Growth by request of networks as torch exports them, in the words of their modules."""

from collections.abc import Callable
from pathlib import Path

import pytest
from exporters import batches, export
from families import FAMILIES
from strategies import trained

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.grown import grown
from mnx.graphs.growth.request import request
from mnx.graphs.growth.steps import steps_of
from mnx.graphs.growth.target import architecture
from mnx.graphs.model import Model
from mnx.graphs.onnx_file import read
from mnx.graphs.trees.describe import describe

pytestmark = [pytest.mark.torch, pytest.mark.slow]

NEVER = ("lstm", "gru")
"""Families whose widths never change: a recurrent state is mixed with itself."""

Exported = Callable[[str], Model]


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    """Gives the first member of a family as TorchScript exports it."""

    def made(name: str) -> Model:
        family = FAMILIES[name]
        export(family.member(0), "script_preserve", family.inputs, tmp_path / "member.onnx")
        return trained(read(tmp_path / "member.onnx"))

    return made


def check(name: str, model: Model, *texts: tuple[str, ...]) -> None:
    given = {
        key: tuple(batches(FAMILIES[name].inputs, 8, seed).values()) for seed, key in enumerate(("random", "real"))
    }
    assert grown(model, request(*texts), given, "real").certificate.passed


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NEVER])
def test_every_family_grows_to_twice_the_width(name: str, exported: Exported) -> None:
    check(name, exported(name), ("all=x2",))


@pytest.mark.parametrize("name", NEVER)
def test_the_width_of_a_recurrent_layer_never_changes(name: str, exported: Exported) -> None:
    with pytest.raises(GraphError, match=f"no width of {name}|no width of member can change"):
        grown(exported(name), request(["all=x2"]))


DEEPER = {
    "resnet": ("1.0+1", "1.1+2"),
    "resnet_preactivation": ("1.0+1",),
    "resnext": ("1.0+1", "1.1+1"),
    "mobilenet_v2": ("1+1", "3+1"),
    "efficientnet": ("3+1",),
    "convnext": ("2+2",),
    "vgg_norm": ("0+1",),
    "signal": ("0+1",),
    "vit": ("blocks.0+2",),
    "mixer": ("blocks.0+1",),
    "encoder_norm_first": ("layers.layers.0+1",),
}
"""Family -> modules that are repeated: residual and transformer blocks, the first block of a stage, plain layers."""


@pytest.mark.parametrize(("name", "depth"), [(name, depth) for name, depths in DEEPER.items() for depth in depths])
def test_a_module_is_repeated_and_widened(name: str, depth: str, exported: Exported) -> None:
    model = exported(name)
    before = describe(model)
    after = describe(architecture(model, request((), (depth,))))
    assert {step.kind for step in steps_of(before, after)} == {"insert"}
    assert (after.input, after.ports) == (before.input, before.ports)
    check(name, model, ("all=x2",), (depth,))


KERNELS = {"resnet": "1.0.conv1=5", "convnext": "2.depthwise=9", "signal": "0=7", "resnext": "1.0.inside.1.0=5x3"}


@pytest.mark.parametrize("name", KERNELS)
def test_a_module_takes_a_larger_kernel(name: str, exported: Exported) -> None:
    model = exported(name)
    text = KERNELS[name]
    (step,) = steps_of(describe(model), describe(architecture(model, request((), (), (text,)))))
    assert step.kind == "kernel"
    check(name, model, (), (), (text,))
