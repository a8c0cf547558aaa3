"""Members of every family as torch exports them: read, described, mothered and hatched.

`KNOWN` lists what does not work yet, with the reason; an entry that works is a failure.
"""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import gcd, prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exporters import Array, batches, export, outputs
from families import FAMILIES
from reading import same
from strategies import Outline, outline, planned, trained

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.model import Model, without_unused_weights
from mnx.graphs.mothers.carve import resized
from mnx.graphs.mothers.mother import embed
from mnx.graphs.onnx_file import read, to_proto
from mnx.graphs.run import run
from mnx.graphs.trees.centred import rigid
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.nameless import tree_of
from mnx.graphs.trees.tree import Tree

pytestmark = pytest.mark.torch

Read = Callable[[str, str, int], tuple[Any, Model]]

QUICK = ("vgg_norm", "resnet", "mobilenet_v2", "vit")
"""Families whose TorchScript exports are looked at in the quick tests."""

DYNAMO = ("mlp_norm", "resnet", "mobilenet_v3", "densenet", "vit", "bert", "convnext", "signal")
"""Families whose dynamo exports are looked at in the slow tests; all other exports are left to the exhaustive ones."""

WRITERS = ("script_eval", "script_train", "script_preserve", "dynamo", "dynamo_raw")
MIXED = ("script_eval", "dynamo", "script_preserve")
"""Which exporter writes which member of an ensemble from several."""

_RECURRENT = "hidden sizes of recurrent layers do not grow yet"
_PACKED = "nn.MultiheadAttention packs batch and heads in one axis, which exporters transpose each in its own way"
_SHUFFLE = "a channel shuffle ties widths to products that must be built alike"
_FOLDED = "dynamo folds BatchNormalization into a linear layer, TorchScript does not"

KNOWN: dict[str, dict[str, str]] = {
    "read": {},
    "structure": {},
    "weights": {},
    "agree": {
        **dict.fromkeys(("encoder-dynamo", "encoder-dynamo_raw"), _PACKED),
        **dict.fromkeys(("encoder_norm_first-dynamo", "encoder_norm_first-dynamo_raw"), _PACKED),
        "mlp_norm-dynamo": _FOLDED,
    },
    "twins": {},
    "mother": {"lstm": _RECURRENT, "gru": _RECURRENT},
    "deeper": {"shufflenet": _SHUFFLE},
    "mixed": {"encoder": _PACKED, "encoder_norm_first": _PACKED, "mlp_norm": _FOLDED},
    "hatch": {"lstm": _RECURRENT, "gru": _RECURRENT},
    "hatch deeper": {"shufflenet": _SHUFFLE},
    "hatch mixed": {},
}
"""What is asked -> family, or family and exporter -> why it does not work yet. A deeper ensemble fails where a wider
one does, and so on: see `_WEAKER`."""

_WEAKER = {
    "deeper": ("mother",),
    "mixed": ("mother", "deeper"),
    "hatch deeper": ("hatch",),
    "hatch mixed": ("hatch", "hatch deeper"),
}
"""What is asked -> what it asks as well."""


def known(what: str, name: str, exporter: str) -> str:
    """Why this does not work yet, '' where it does."""
    for asked in (what, *_WEAKER.get(what, ())):
        for key in (name, f"{name}-{exporter}"):
            if key in KNOWN[asked]:
                return KNOWN[asked][key]
    return ""


def cost(name: str, exporter: str) -> list[Any]:
    """When an export is looked at: in the quick tests, in the slow ones, or only in the exhaustive ones."""
    if exporter == "script_eval":
        return [] if name in QUICK else [pytest.mark.slow]
    several = exporter in ("dynamo", "mixed") and name in DYNAMO
    return [pytest.mark.slow] if several else [pytest.mark.slow, pytest.mark.exhaustive]


def cases(what: str, exporter: str = "script_eval") -> list[Any]:
    """Families as test parameters, marked by their cost, failing where they are known to."""
    found = []
    for name in FAMILIES:
        marks = cost(name, exporter)
        if reason := known(what, name, exporter):
            marks.append(pytest.mark.xfail(strict=True, reason=reason))
        found.append(pytest.param(name, exporter, id=f"{name}-{exporter}", marks=marks))
    return found


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Gives a family's network in eval mode and what is read of its export; each is written once."""
    folder = tmp_path_factory.mktemp("families")

    @functools.cache
    def pair(name: str, exporter: str, number: int) -> tuple[Any, Model]:
        family = FAMILIES[name]
        net, path = family.member(number), folder / f"{name}_{number}_{exporter}.onnx"
        export(net, exporter, family.inputs, path)
        return net, read(path)

    return pair


def logits(model: Model, feeds: dict[str, Array], **options: Any) -> Array:
    (result,) = run(model, feeds, **options).values()
    return result


@pytest.mark.parametrize(("name", "exporter"), [case for e in WRITERS for case in cases("read", exporter=e)])
def test_a_member_computes_what_torch_does(name: str, exporter: str, member: Read) -> None:
    for number in (0, 1):
        net, model = member(name, exporter, number)
        for count in (3, 5):
            feeds = batches(FAMILIES[name].inputs, count)
            assert same(logits(model, feeds, include_ends=True), outputs(net, feeds))


@pytest.mark.parametrize(("name", "exporter"), [case for e in WRITERS for case in cases("structure", exporter=e)])
def test_a_member_is_described(name: str, exporter: str, member: Read) -> None:
    _, model = member(name, exporter, 1)
    assert {op.name for op in describe(model).ops()} <= {node.name for node in model.nodes}


@pytest.mark.parametrize(("name", "exporter"), cases("weights"))
@pytest.mark.parametrize("number", [0, 2])
def test_no_weight_is_lost_or_tied(name: str, exporter: str, number: int, member: Read) -> None:
    """Exporters merge equal weights of fresh networks (copies of a layer, zeros), which are not tied for all that."""
    net, model = member(name, exporter, number)
    parameters = [parameter for op in describe(model).ops() for parameter in op.parameters]
    assert [name for name, uses in Counter(p.name for p in parameters).items() if uses > 1] == []
    matrices = [value for value in net.parameters() if value.ndim > 1]
    assert sum(prod(p.shape) for p in parameters if len(p.shape) > 1) >= sum(value.numel() for value in matrices)


def content(model: Model) -> Tree:
    """The tree without the ops that only training needs, of which exporters leave out different ones."""
    passed = {node.outputs[0]: node.inputs[0] for node in model.nodes if node.op == "Dropout"}
    kept = [node for node in model.nodes if node.op != "Dropout"]
    nodes = tuple(replace(node, inputs=tuple(passed.get(name, name) for name in node.inputs)) for node in kept)
    return tree_of(describe(without_unused_weights(model.replace(nodes=nodes))))


ALIKE = {"dynamo": "script_eval", "script_train": "script_preserve", "dynamo_raw": "script_preserve"}
"""Exporter -> the one that must give the same structure; those that fold norms differ from those that keep them."""


@pytest.mark.parametrize(("name", "exporter"), [case for e in ALIKE for case in cases("agree", exporter=e)])
@pytest.mark.parametrize("number", [0, 1], ids=["fresh", "perturbed"])
def test_exporters_agree_on_the_structure(name: str, exporter: str, number: int, member: Read) -> None:
    assert content(member(name, exporter, number)[1]) == content(member(name, ALIKE[exporter], number)[1])


def ensemble(name: str, member: Read, exporters: Sequence[str]) -> list[Model]:
    return [member(name, exporter, number)[1] for number, exporter in enumerate(exporters)]


def least(members: Sequence[Model]) -> Outline:
    """The first member, which is the least, but where a mean is taken over channels: as wide there as divides all.

    Such widths are those of the first stage, or multiples of it.
    """
    structures = [describe(member) for member in members]
    first, averaged = structures[0], [rigid(each) for each in structures]
    if not averaged[0]:
        return outline(first)
    stages = [min(each.groups[group] for group in groups) for each, groups in zip(structures, averaged, strict=True)]
    common = gcd(*stages)
    widths = {g: n * common // stages[0] if g in averaged[0] else n for g, n in first.groups.items()}
    return outline(describe(resized(members[0], first, widths)))


def check_mother(members: Sequence[Model]) -> None:
    """The mother is like the least member; every member embeds her; she reads back as planned."""
    mother, structure = planned(members)
    assert outline(structure) == least(members)
    for each in members:
        alignment, _ = embed(structure, describe(each))
        assert [left.name for left, _ in alignment.matches] == [op.name for op in structure.ops()]
    assert outline(planned(members[::-1])[1]) == outline(structure)
    again = canonicalise(to_proto(trained(mother), include_ends=True), mother.name)
    assert tree_of(describe(again)) == tree_of(structure)


@pytest.mark.parametrize(("name", "exporter"), cases("twins"))
def test_a_member_is_the_mother_of_twins(name: str, exporter: str, member: Read) -> None:
    _, model = member(name, exporter, 1)
    _, structure = planned([model, model.replace(name="twin")])
    assert outline(structure) == outline(describe(model))
    assert structure.parameter_count == describe(model).parameter_count


@pytest.mark.parametrize(("name", "exporter"), cases("mother"))
def test_wider_members_have_a_mother(name: str, exporter: str, member: Read) -> None:
    check_mother(ensemble(name, member, (exporter, exporter)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "bert", "encoder_norm_first"])
def test_the_width_that_is_normalised_is_the_lesser_or_divides_both_behind_a_norm(name: str, member: Read) -> None:
    members = ensemble(name, member, ("script_eval", "script_eval"))
    _, mother = planned(members)
    assert [{each.groups[group] for group in each.even} for each in map(describe, members)] == [{16}, {24}]
    assert {mother.groups[group] for group in mother.even} == {8 if name == "bert" else 16}


@pytest.mark.parametrize(("name", "exporter"), cases("deeper"))
def test_wider_and_deeper_members_have_a_mother(name: str, exporter: str, member: Read) -> None:
    check_mother(ensemble(name, member, (exporter, exporter, exporter)))


@pytest.mark.parametrize(("name", "exporter"), cases("mixed", "mixed"))
def test_members_of_several_exporters_have_a_mother(name: str, exporter: str, member: Read) -> None:
    check_mother(ensemble(name, member, MIXED))


def same_but_epsilon(one: Model, other: Model) -> bool:
    """Whether two models have the same nodes, but for how normalisations guard against zero."""
    return [replace(node, attributes={**node.attributes, "epsilon": 0.0}) for node in one.nodes] == [
        replace(node, attributes={**node.attributes, "epsilon": 0.0}) for node in other.nodes
    ]


def check_hatching(name: str, members: Sequence[Model]) -> None:
    """Members compute their mother's function: by the certificate, and on a batch that it has not seen."""
    mother = trained(planned(members)[0])
    family = FAMILIES[name]
    named = {"random": batches(family.inputs, 8, 1), "real": batches(family.inputs, 12, 2)}
    given = {key: tuple(feeds.values()) for key, feeds in named.items()}
    fresh = batches(family.inputs, 5, 3)
    for each in members:
        found = hatch(mother, each, given, "real", 0)
        assert found.certificate.passed
        assert same(logits(found.model, fresh), logits(mother, fresh))
        assert same_but_epsilon(found.model, each)
        assert not np.array_equal(logits(each, fresh), logits(mother, fresh))


@pytest.mark.parametrize(("name", "exporter"), cases("hatch"))
def test_wider_members_hatch(name: str, exporter: str, member: Read) -> None:
    check_hatching(name, ensemble(name, member, (exporter, exporter)))


@pytest.mark.parametrize(("name", "exporter"), cases("hatch deeper"))
def test_wider_and_deeper_members_hatch(name: str, exporter: str, member: Read) -> None:
    check_hatching(name, ensemble(name, member, (exporter, exporter, exporter)))


@pytest.mark.parametrize(("name", "exporter"), cases("hatch mixed", "mixed"))
def test_members_of_several_exporters_hatch(name: str, exporter: str, member: Read) -> None:
    check_hatching(name, ensemble(name, member, MIXED))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "mobilenet_v3", "vit", "bert"])
def test_an_optimised_export_has_the_tree_of_the_plain_one(name: str, member: Read, tmp_path: Path) -> None:
    optimizer = pytest.importorskip("onnxscript.optimizer")
    net, plain = member(name, "script_eval", 0)
    export(net, "script_eval", FAMILIES[name].inputs, tmp_path / "plain.onnx")
    onnx.save(optimizer.optimize(onnx.load(tmp_path / "plain.onnx")), tmp_path / "optimised.onnx")
    assert tree_of(describe(read(tmp_path / "optimised.onnx"))) == tree_of(describe(plain))
