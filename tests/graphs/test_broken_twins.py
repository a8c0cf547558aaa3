"""Broken twins of every rule of growth: the certificate must catch each and name the op that it broke."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import growth_twins as twins
import numpy as np
import pytest
from growth_pairs import PAIRS
from growth_twins import Breaking, always, at_call, each, then
from strategies import batch_for, trained

from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth import codes, growing, insert, maps, means, shares
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.mothers import align, correspondence, exchanges, matching, passages
from mnx.graphs.ops.rule import Kind
from mnx.graphs.trees import centred

RULES: Mapping[str, ModuleType] = {
    "centred": centred,
    "codes": codes,
    "exchanges": exchanges,
    "growing": growing,
    "insert": insert,
    "maps": maps,
    "means": means,
    "passages": passages,
    "shares": shares,
}
"""Where numbers of a grown network are made, or what may be made of them is decided."""

USERS: Mapping[str, ModuleType] = {**RULES, "align": align, "correspondence": correspondence, "matching": matching}
"""Where their functions are called by name."""


@dataclass(frozen=True)
class Twin:
    """A rule by the name it is called by and how it is broken, where this shows first, and in which style.

    `node` is '' where no value of the member repeats one of the mother behind the place that is broken.
    """

    rule: str
    breaking: Breaking
    pair: str
    node: str = ""
    split: str = "random"
    fresh: float = 0.0


GROW = "growing.Growing."
NORMS = "deeper with norms"

TWINS: Mapping[str, Twin] = {
    # Shares.
    "every copy of a column gets all of it": Twin("growing.shared", twins.whole_columns, "wider", "fc2"),
    "every copy gets all, equal split": Twin("growing.shared", twins.whole_columns, "wider", "fc2", "equal"),
    "shares add up to a thousandth too much": Twin("growing.shared", twins.sums_too_large(1.001), "wider", "fc2"),
    "draws that add up to nothing": Twin("growing.shared", twins.draws_as_they_are, "wider", "fc2"),
    "shares by the average number of copies": Twin(
        "growing.shared", twins.shares_by_average_count, "wider", "fc2", "equal"
    ),
    "no column has copies": Twin("shares._sharing", always([]), "wider", "fc2"),
    "columns without shares": Twin(GROW + "_columns", twins.columns_repeated, "wider", "fc2"),
    "fresh columns that add up to something": Twin(
        "shares.taken", twins.fresh_columns_of(0.1), "wider", "fc2", fresh=1.0
    ),
    "channels beside that are read": Twin(
        "shares.taken", twins.fresh_columns_of(0.1), "a further layer of a dense block"
    ),
    # Maps.
    "rows by another map": Twin("growing.axis_map", at_call(0, twins.rolled), "wider", "fc1"),
    "columns by another map": Twin("growing.axis_map", at_call(4, twins.rolled), "wider", "fc2"),
    "biases by another map": Twin("growing.axis_map", at_call(2, twins.rolled), "wider", "fc1"),
    "scales by another map": Twin("growing.axis_map", at_call(2, twins.rolled), "wider with norms", "fc1_norm"),
    "means by another map": Twin("growing.axis_map", at_call(4, twins.rolled), "wider with norms", "fc1_norm"),
    "flattened channels innermost": Twin("growing.axis_map", twins.channels_innermost, "wider images", "flatten"),
    "branches that all begin at 0": Twin("growing.axis_map", twins.parts_without_offset, "concat", "concat"),
    "a map that forgets a channel": Twin("growing.growth_map", then(twins.without_first), "wider"),
    "a group's map that forgets a channel": Twin(GROW + "_drawn_map", then(twins.without_first), "wider"),
    "an axis's map off by one": Twin(GROW + "axis", at_call(0, twins.rolled), "wider"),
    "rows off by one": Twin(GROW + "_rows", at_call(0, twins.rolled), "wider"),
    "heads by another map": Twin("growing.axis_map", at_call(0, twins.rolled), "wider heads"),
    "fresh channels that should be alike and are not": Twin("growing.taken", twins.own_fresh_rows, "wider", fresh=1.0),
    # Parameters.
    "biases not repeated": Twin(GROW + "_parameter", twins.only_first_copies(Kind.BIAS, 0.0), "wider", "fc1"),
    "scales not repeated": Twin(
        GROW + "_parameter", twins.only_first_copies(Kind.SCALE, 1.0), "wider with norms", "fc1_norm"
    ),
    "shifts not repeated": Twin(
        GROW + "_parameter", twins.only_first_copies(Kind.SHIFT, 0.0), "wider with norms", "fc1_norm"
    ),
    "means not repeated": Twin(
        GROW + "_parameter", twins.only_first_copies(Kind.MEAN, 0.0), "wider with norms", "fc1_norm"
    ),
    "variances not repeated": Twin(
        GROW + "_parameter", twins.only_first_copies(Kind.VARIANCE, 1.0), "wider with norms", "fc1_norm"
    ),
    "parameters a thousandth too large": Twin(GROW + "parameters", then(each(twins.off)), "wider"),
    "weights a thousandth too large": Twin(GROW + "weights", then(each(twins.off)), "wider"),
    "the mother's own a thousandth too large": Twin(GROW + "matched", then(each(twins.off)), "wider"),
    "biases that the member has no place for, lost": Twin(
        "growing.missing_bias", always(""), "norms where there were none"
    ),
    "biases that no mean takes up": Twin(GROW + "_behind", always({}), "norms where there were none"),
    # Kernels.
    "a kernel in the corner": Twin("growing.placed", twins.kernel_in_the_corner, "larger kernel", "conv1_1"),
    "a kernel one row off": Twin("growing.placed", twins.kernel_one_row_off, "larger kernel", "conv1_1"),
    "a dilated kernel in the corner": Twin("growing.placed", twins.kernel_in_the_corner, "larger dilated kernel"),
    "a kernel of a signal in the corner": Twin(
        "growing.placed", twins.kernel_in_the_corner, "larger kernel on a signal"
    ),
    "a kernel of even size in the corner": Twin(
        "growing.placed", twins.kernel_in_the_corner, "larger kernel of even size"
    ),
    "a kernel mirrored": Twin(GROW + "_placed", then(twins.flipped), "larger kernel of even size"),
    "a single tap in the corner": Twin("growing.placed", twins.kernel_in_the_corner, "deeper images", "conv1_2"),
    "a single tap that reads a neighbour": Twin("growing._single_tap", then(twins.tap_in_the_corner), "deeper images"),
    # Insertions.
    "an inserted linear layer off by one": Twin("growing.identity", twins.unit_off_by_one, "deeper", "fc2"),
    "an inserted convolution off by one": Twin("growing.identity", twins.unit_off_by_one, "deeper images", "conv1_2"),
    "an inserted convolution in groups off by one": Twin("growing.identity", twins.unit_off_by_one, "deeper in groups"),
    "an inserted depthwise convolution a thousandth too large": Twin(
        "insert.IDENTITIES.Conv", then(each(twins.off)), "deeper channel by channel"
    ),
    "an inserted layer of tokens a thousandth too large": Twin(
        "insert.IDENTITIES.MatMul", then(each(twins.off)), "deeper on tokens"
    ),
    "an inserted layer of vectors a thousandth too large": Twin(
        "insert.IDENTITIES.Gemm", then(each(twins.off)), "deeper"
    ),
    "an inserted bias that is not 0": Twin("insert.IDENTITIES.Add", then(each(np.ones_like)), "a bias"),
    "an inserted scale that is not 1": Twin("insert.IDENTITIES.Mul", then(each(np.zeros_like)), "a scale"),
    "an inserted slope that is not 1": Twin("insert.IDENTITIES.PRelu", then(each(np.zeros_like)), "a slope"),
    "inserted ops as they were drawn": Twin("growing.inserted", always([]), "deeper"),
    "an inserted norm not calibrated": Twin("growing.identity", twins.norm_as_it_starts, NORMS, "fc2_norm"),
    "an inserted norm without its shift": Twin("growing.identity", twins.norm_without(Kind.SHIFT), NORMS, "fc2_norm"),
    "an inserted norm without its mean": Twin("growing.identity", twins.norm_without(Kind.MEAN), NORMS, "fc2_norm"),
    "an inserted norm without its scale": Twin("growing.identity", twins.norm_without(Kind.SCALE), NORMS, "fc2_norm"),
    "an inserted norm a thousandth off": Twin("insert.IDENTITIES.BatchNormalization", then(each(twins.off)), NORMS),
    "calibration by the unbiased variance": Twin(
        "growing.channel_statistics", twins.unbiased_variance, NORMS, "fc2_norm"
    ),
    "statistics of nothing": Twin(GROW + "statistics", then(lambda found: (0 * found[0], found[1])), NORMS),
    "calibration on other values": Twin(GROW + "_value", then(twins.off), NORMS),
    "a new residual branch not zeroed": Twin(
        "growing.zero", twins.branch_left_open(Kind.SCALE), "more residual blocks", "block1_2.add"
    ),
    "a new residual branch with a shift": Twin(
        "growing.zero", twins.branch_left_open(Kind.SHIFT), "more residual blocks", "block1_2.add"
    ),
    # Codes.
    "a pair without its signs": Twin("growing.code_of", then(twins.half_signs), "pairs"),
    "a pair decoded by another factor": Twin("growing.code_of", then(twins.gain_off), "pairs"),
    "a leaky pair decoded by another factor": Twin("growing.code_of", then(twins.gain_off), "leaky pairs"),
    "a leaky pair taken for a plain one": Twin("passages.bend", then(twins.plain_mirror), "leaky pairs"),
    "the copies of a pair taken for one another": Twin(GROW + "_doubled", at_call(0, twins.marks_rolled), "pairs"),
    "the copies of a pair taken for one another in an axis": Twin(
        "growing.doubled", at_call(0, twins.marks_rolled), "pairs"
    ),
    "copies marked by the other": Twin("codes._marks", at_call(0, lambda marks: 1 - marks), "pairs"),
    "rows without code": Twin("growing.coded_rows", lambda rule: lambda op, p, value, code, e, m: value[e], "pairs"),
    "columns that take no gain back": Twin("growing.decoded_columns", twins.ungained, "leaky pairs"),
    "groups in code not known": Twin(GROW + "_coded", always([]), "shifted"),
    "rows between norms that are not repeated": Twin(GROW + "_old", always(0), "pairs behind two norms"),
    "a shift that no bias makes": Twin("growing.coded_rows", twins.without_shift, "shifted"),
    "a shift that is not taken back": Twin("growing.constant_behind", always(np.zeros(1)), "shifted"),
    "a shift that a bias does not take back": Twin(GROW + "_constant", always(np.zeros(1)), "shifted"),
    "a shift that nothing takes back": Twin(GROW + "_decoding", lambda rule: lambda s, op, values: values, "shifted"),
    "a shift taken back of other channels": Twin(GROW + "_is_of", then(np.logical_not), "shifted"),
    "a shift short of the straight part": Twin("align.passages", twins.less_shifted, "shifted"),
    "a shift before a norm that takes it off": Twin(
        "passages._coding", lambda rule: lambda run: run.between[:1], "shifted behind two norms"
    ),
    "a shift before zeros around an image": Twin("passages._decodes", always(True), "shifted before padding"),
    "SiLU straight from 2 on": Twin("passages.SILU_IS_STRAIGHT", lambda _: 2.0, "shifted SiLU"),
    "a pair before a maximum": Twin("passages._settling", twins.past_everything, "pairs before a maximum"),
    "numbers too large for tanh": Twin("growing.SMALL", lambda _: 0.3, "small"),
    "numbers that tanh gets as they are": Twin(GROW + "_largest", always(0.0), "small"),
    "SiLU at least 0": Twin("align.gated_range", then(lambda found: found and (0.0, 1e9)), "a ReLU behind SiLU"),
    "any product with oneself a SiLU": Twin(
        "passages.is_gated", lambda rule: lambda unit: getattr(unit, "join", None) is not None, "x softplus(x)"
    ),
    # Exchanges.
    "a factor not taken over": Twin("align.gate_at", then(twins.not_taken_over), "a gate before"),
    "a factor not taken over behind": Twin("align.gate_at", then(twins.not_taken_over), "a gate behind"),
    "a gate taken for open": Twin("exchanges._level", then(lambda level: level and 1.0), "a gate before"),
    "an activation that takes a factor": Twin("exchanges._gives_rows", always(True), "a gate behind HardSwish"),
    "columns that take no factor": Twin("exchanges._behind", always(((), ())), "a gate behind HardSwish"),
    "nothing taken over": Twin(GROW + "_exchanged", lambda rule: lambda self, weights: dict(weights), "a gate before"),
    "a scale not handed over": Twin("align.norm_at", then(twins.not_handed_over), "a norm behind the sum"),
    "a normalisation twice with a large epsilon": Twin(
        "exchanges._is_norm",
        lambda rule: lambda op: op.op == "LayerNormalization",
        "a norm of large epsilon behind the sum",
    ),
    # Means.
    "a naive LayerNormalization": Twin("means.Means.scaled", twins.without_scale, "a mean"),
    "zeros for means": Twin("means.Means.row", always(0.0), "a mean"),
    "zeros for means in blocks": Twin("means.Means.row", always(0.0), "a mean of residual blocks"),
    "rows at the mean that are zero": Twin(GROW + "_at_mean", always(0.0), "a mean"),
    "channels at the mean taken for fresh ones": Twin("means.Means.group_of", always(None), "a mean"),
    "an epsilon that is not scaled": Twin("means.Means.attributes", always({}), "a mean with a large epsilon"),
    "a map with fresh channels for a mean": Twin("growing.map_with_means", lambda rule: maps.growth_map, "a mean"),
    "a mean of what is bent": Twin("centred._Search._traced", always(True), "a mean of what is bent"),
    "a mean before its layer scale": Twin(
        "centred._Search._traced_operand", twins.no_demand, "a mean of residual blocks"
    ),
    "channels at the mean taken for zeros": Twin(
        "centred._Search._settle", twins.every_op_settled, "a mean read before its norm"
    ),
}

UNNUMBERED: Mapping[str, str] = {}
"""Functions that make no number, and why no twin of theirs can be wrong."""

REFUSED = (
    "shifted before padding",
    "a ReLU behind SiLU",
    "x softplus(x)",
    "a norm of large epsilon behind the sum",
    "a mean of what is bent",
)
"""Pairs that no unbroken rule grows."""


def hatched(pair: str, split: str = "random", fresh: float = 0.0) -> bool:
    small, large = (model.replace(name=name) for model, name in zip(PAIRS[pair], "mn", strict=True))
    mother = trained(small)
    inputs = {"random": batch_for(mother, 1), "real": batch_for(mother, 2, 24)}
    return hatch(mother, large, inputs, "real", 0, split, fresh).certificate.passed


def resolved(rule: str) -> tuple[Any, str]:
    """What holds a rule, and its name there."""
    module, *path, attribute = rule.split(".")
    owner: Any = USERS[module]
    for step in path:
        owner = getattr(owner, step)
    return owner, attribute


def broken(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute = resolved(twin.rule)
    if isinstance(owner, dict):
        monkeypatch.setitem(owner, attribute, twin.breaking(owner[attribute]))
    else:
        monkeypatch.setattr(owner, attribute, twin.breaking(getattr(owner, attribute)))


@pytest.mark.parametrize("split", ["random", "equal"])
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair not in REFUSED])
def test_unbroken_rules_pass(pair: str, split: str) -> None:
    assert hatched(pair, split)


@pytest.mark.parametrize("pair", REFUSED)
def test_unbroken_rules_refuse_what_cannot_be(pair: str) -> None:
    with pytest.raises(GraphError, match="share no mother|cannot be grown"):
        hatched(pair)


@pytest.mark.parametrize("name", TWINS)
def test_a_broken_twin_is_caught_and_its_op_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = TWINS[name]
    broken(twin, monkeypatch)
    with pytest.raises(NotPreserved, match=rf"n does not compute the function of m: .*node '{twin.node}"):
        hatched(twin.pair, twin.split, twin.fresh)


def test_a_twin_that_is_never_asked_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(TWINS["a kernel in the corner"], monkeypatch)
    assert hatched("wider")


def functions(module: ModuleType) -> Iterator[str]:
    """The functions and methods that a module defines, by their qualified names."""
    for _, found in inspect.getmembers(module):
        members = [found, *(member for _, member in inspect.getmembers(found))] if inspect.isclass(found) else [found]
        for member in members:
            member = member.fget if isinstance(member, property) else member
            if inspect.isfunction(member) and member.__module__ == module.__name__:
                yield f"{module.__name__.rpartition('.')[2]}.{member.__qualname__}"


def test_every_function_that_makes_a_number_has_a_twin() -> None:
    owners = [(*resolved(twin.rule),) for twin in TWINS.values()]
    rules = [owner[name] if isinstance(owner, dict) else getattr(owner, name) for owner, name in owners]
    has = {f"{r.__module__.rpartition('.')[2]}.{r.__qualname__}" for r in rules if inspect.isfunction(r)}
    every = {name for module in RULES.values() for name in functions(module)}
    every = {name for name in every if not name.rpartition(".")[2].startswith("__")}
    assert every == has | set(UNNUMBERED)
    assert not has & set(UNNUMBERED)
