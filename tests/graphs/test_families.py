"""Members of every family as torch exports them: read, described, mothered and hatched.

`KNOWN` lists what does not work yet, with the reason; an entry that works is a failure.
"""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from exporters import Array, batches, export, outputs
from families import FAMILIES
from reading import same
from strategies import outline, planned, trained

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.describe import describe
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.model import Model, without_unused_weights
from mnx.graphs.mother import embed
from mnx.graphs.nameless import tree_of
from mnx.graphs.onnx_file import read, to_proto
from mnx.graphs.run import run
from mnx.graphs.tree import Tree

pytestmark = pytest.mark.torch

Read = Callable[[str, str, int], tuple[Any, Model]]

QUICK = ("vgg_norm", "resnet", "mobilenet_v2", "vit")
"""Families whose TorchScript exports are looked at in the quick tests."""

WRITERS = ("script_eval", "script_train", "script_preserve", "dynamo", "dynamo_raw")
MIXED = ("script_eval", "dynamo", "script_preserve")
"""Which exporter writes which member of an ensemble from several."""

_NORMS = "growing a LayerNormalization to a width that is no multiple has no rule yet"
_RECURRENT = "hidden sizes of recurrent layers do not grow yet"
_WHOLE_SLICE = "dynamo without optimisation writes a Slice of the whole batch, which stays"
_LISTS = "dynamo without optimisation writes lists of tensors for chunk()"
_EXPANDED = "dynamo pools one-dimensional maps as two-dimensional ones"
_THRESHOLD = "dynamo writes Softplus with its threshold"
_PACKED = "nn.MultiheadAttention packs batch and heads in one axis, which exporters transpose each in its own way"
_SHUFFLE = "a channel shuffle ties widths to products that must be built alike"
_HEADS = "heads of another size are left out of the mother where queries, keys and values are one layer"
_DENSE = "a further layer of a dense block cannot be put in yet"

_ATTENTION = (
    *("vit", "vit_explicit", "vit_mean", "vit_scale", "vit_separate", "vit_separate_explicit", "vit_head_size"),
    *("encoder_norm_first", "mixer", "bert", "bert_two_inputs", "convnext", "convnext_conv"),
)

KNOWN: dict[str, dict[str, str]] = {
    "read": {"shufflenet-dynamo_raw": _LISTS},
    "structure": {"shufflenet-dynamo_raw": _LISTS},
    "weights": {},
    "agree": {
        **dict.fromkeys(("signal-dynamo", "signal-dynamo_raw"), _EXPANDED),
        **dict.fromkeys(("signal_plain-dynamo", "signal_plain-dynamo_raw"), _EXPANDED),
        **dict.fromkeys(("softplus-dynamo", "softplus-dynamo_raw"), _THRESHOLD),
        **dict.fromkeys(("encoder-dynamo", "encoder-dynamo_raw"), _PACKED),
        **dict.fromkeys(("encoder_norm_first-dynamo", "encoder_norm_first-dynamo_raw"), _PACKED),
        **dict.fromkeys(("lstm-dynamo_raw", "gru-dynamo_raw", "resnet_option_a-dynamo_raw"), _WHOLE_SLICE),
        **dict.fromkeys(("vit-dynamo_raw", "vit_explicit-dynamo_raw", "vit_head_size-dynamo_raw"), _WHOLE_SLICE),
        **dict.fromkeys(("vit_scale-dynamo_raw", "vit_separate-dynamo_raw"), _WHOLE_SLICE),
        **dict.fromkeys(("bert-dynamo_raw", "bert_two_inputs-dynamo_raw"), _WHOLE_SLICE),
        "shufflenet-dynamo_raw": _LISTS,
        "mlp_norm-dynamo": "dynamo folds BatchNormalization into a linear layer, TorchScript does not",
    },
    "twins": {},
    "mother": {
        "lstm": _RECURRENT,
        "gru": _RECURRENT,
        "vit_head_size": "heads of other sizes are left out with a fused qkv",
    },
    "deeper": {"shufflenet": _SHUFFLE, "densenet_depth": _DENSE},
    "mixed": {
        **{"signal": _EXPANDED, "signal_plain": _EXPANDED, "softplus": _THRESHOLD},
        **dict.fromkeys(("encoder", "encoder_norm_first"), _PACKED),
        "mlp_norm": "the mother of members with and without BatchNormalization has none",
    },
    "hatch": dict.fromkeys(_ATTENTION, _NORMS),
    "hatch deeper": {"encoder": _NORMS},
    "hatch mixed": {"signal": _EXPANDED, "signal_plain": _EXPANDED, "softplus": _THRESHOLD},
}
"""What is asked -> family, or family and exporter -> why it does not work yet. A deeper ensemble fails where a wider
one does, and so on: see `_WEAKER`."""

_WEAKER = {
    "deeper": ("mother",),
    "mixed": ("mother", "deeper"),
    "hatch": ("mother",),
    "hatch deeper": ("mother", "deeper", "hatch"),
    "hatch mixed": ("mother", "deeper", "hatch", "hatch deeper"),
}
"""What is asked -> what it asks as well."""


def known(what: str, name: str, exporter: str) -> str:
    """Why this does not work yet, '' where it does."""
    for asked in (what, *_WEAKER.get(what, ())):
        for key in (name, f"{name}-{exporter}"):
            if key in KNOWN[asked]:
                return KNOWN[asked][key]
    return ""


def cases(what: str, exporter: str = "script_eval") -> list[Any]:
    """Families as test parameters: slow where they are not among the quick ones, failing where they are known to."""
    found = []
    for name in FAMILIES:
        marks = [] if name in QUICK and exporter == "script_eval" else [pytest.mark.slow]
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


def check_mother(members: Sequence[Model]) -> None:
    """The mother is like the first member, the least of all; every member embeds her; she reads back as planned."""
    mother, structure = planned(members)
    assert outline(structure) == outline(describe(members[0]))
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


@pytest.mark.parametrize(("name", "exporter"), cases("deeper"))
def test_wider_and_deeper_members_have_a_mother(name: str, exporter: str, member: Read) -> None:
    check_mother(ensemble(name, member, (exporter, exporter, exporter)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exporter"), cases("mixed"))
def test_members_of_several_exporters_have_a_mother(name: str, exporter: str, member: Read) -> None:
    check_mother(ensemble(name, member, MIXED))


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
        assert found.model.nodes == each.nodes
        assert not np.array_equal(logits(each, fresh), logits(mother, fresh))


@pytest.mark.parametrize(("name", "exporter"), cases("hatch"))
def test_wider_members_hatch(name: str, exporter: str, member: Read) -> None:
    check_hatching(name, ensemble(name, member, (exporter, exporter)))


@pytest.mark.parametrize(("name", "exporter"), cases("hatch deeper"))
def test_wider_and_deeper_members_hatch(name: str, exporter: str, member: Read) -> None:
    check_hatching(name, ensemble(name, member, (exporter, exporter, exporter)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exporter"), cases("hatch mixed"))
def test_members_of_several_exporters_hatch(name: str, exporter: str, member: Read) -> None:
    check_hatching(name, ensemble(name, member, MIXED))
