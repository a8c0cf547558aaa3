"""Broken twins of every rule of growth: the certificate must catch each and name the op that it broke."""

import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
from growth_pairs import PAIRS
from strategies import batch_for, trained
from twins import TWINS, Twin

from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth import codes, growing, insert, maps, means, queries, shares
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.mothers import align, correspondence, exchanges, passages
from mnx.graphs.trees import attention, centred

RULES: Mapping[str, ModuleType] = {
    "centred": centred,
    "codes": codes,
    "exchanges": exchanges,
    "growing": growing,
    "insert": insert,
    "maps": maps,
    "means": means,
    "passages": passages,
    "queries": queries,
    "shares": shares,
}
"""Where numbers of a grown network are made, or what may be made of them is decided."""

USERS: Mapping[str, ModuleType] = {
    **RULES,
    "align": align,
    "attention": attention,
    "correspondence": correspondence,
}
"""Where their functions are called by name."""


_DRAWS = "any draws are right"
_DATA = "gives what it holds"
_FINDS = "tells what a layer is; what is made of it has twins"
_NAMES = "says which values must repeat which, so that an error names an op"
_PARTS = "cuts work into parts"

UNNUMBERED: Mapping[str, str] = {
    "maps.random_of": _DRAWS,
    "growing.Growing._fresh": _DRAWS,
    "shares.copied": _DRAWS,
    "codes.Code.shift": _DATA,
    "passages.Passage.copies": _DATA,
    "passages.Run.units": _DATA,
    "shares._Copies.count": _DATA,
    "growing.Growing.changed": _NAMES,
    "growing.Growing.is_coded": _NAMES,
    "growing.Growing.veiled": _NAMES,
    "maps.reordering": "measures rounding",
    "maps.is_same": _PARTS,
    "maps.run_length": _PARTS,
    "maps._empty": _PARTS,
    "shares._along": _PARTS,
    "centred._Search._has": _FINDS,
    "centred._Search._is_layer_norm": _FINDS,
    "centred._Search._makes": _FINDS,
    "centred._Search._only_reader": _FINDS,
    "centred._Search._simple": _FINDS,
    "centred._Search._want": _FINDS,
    "centred._groups": _FINDS,
    "centred.rigid": _FINDS,
    "exchanges._sums": _FINDS,
    "growing._channels": _FINDS,
    "passages._has_shift": _FINDS,
    "passages._makes_channels": _FINDS,
    "passages._may_stand_between": _FINDS,
    "passages._one_number": _FINDS,
    "passages._reads": _FINDS,
    "passages._settled": _FINDS,
    "passages.gate_of": _FINDS,
    "passages.own_group": _FINDS,
    "passages.run_at": _FINDS,
}
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
    with pytest.raises(GraphError, match=r"share no mother|cannot be grown"):
        hatched(pair)


@pytest.mark.parametrize("name", TWINS)
def test_a_broken_twin_is_caught_and_its_op_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = TWINS[name]
    broken(twin, monkeypatch)
    with pytest.raises(NotPreserved, match=rf"n does not compute the function of m: .*node '{twin.node}' \("):
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
    assert every - has == set(UNNUMBERED)
