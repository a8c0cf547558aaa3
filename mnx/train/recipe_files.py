"""Recipes by name, from TOML files, and with keys set on a command line."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from mnx.errors import MnxError
from mnx.graphs.files import lasting
from mnx.train.recipe import RANGES, STAGES, Recipe, in_words, of_stages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LARGEST = sys.float_info.max
"""Numbers beyond it are no numbers of a recipe's."""
FOLDER = resources.files("mnx.train") / "recipes"


def names() -> list[str]:
    """The recipes that come with mnx."""
    found = FOLDER.iterdir()
    return sorted(file.name.removesuffix(".toml") for file in found if file.name.endswith(".toml"))


def text_of(name: str) -> str:
    """The file of a recipe that comes with mnx.

    Raises:
        MnxError: there is none of this name.
    """
    if name not in names():
        raise MnxError(f"no recipe '{name}'; there are {', '.join(names())}, or give a .toml file")
    return (FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def recipe(settings: Mapping[str, str] | None = None, source: str | None = None) -> Recipe:
    """A recipe with some keys set from text, as given on a command line.

    Args:
        settings: by key; 'members.lr' sets a key of one stage, 'lr' that of all.
        source: the name of one that comes with mnx, or a TOML file; None for the default.

    Raises:
        MnxError: there is no such recipe, a key is unknown, or a value is not of its type or range.
    """
    return with_keys(Recipe() if source is None else from_toml(*read(source)), settings or {})


def with_keys(found: Recipe, settings: Mapping[str, str]) -> Recipe:
    """A recipe with some keys set from text, see `recipe`.

    Raises:
        MnxError: a key is unknown, or a value is not of its type or range.
    """
    stages = {stage: dict(keys) for stage, keys in found.stages.items()}
    common: dict[str, Any] = {}
    for key, text in settings.items():
        stage, dot, name = key.rpartition(".")
        value = _parsed(key, _type(name, key), text)
        if not dot:
            common[name] = value
            for keys in stages.values():
                keys.pop(name, None)
        elif stage in STAGES:
            stages.setdefault(stage, {})[name] = value
        else:
            raise MnxError(f"recipe: {key}: no stage '{stage}'; there are {', '.join(STAGES)}")
    return dataclasses.replace(found, **common, stages=stages)


def from_toml(text: str, where: str) -> Recipe:
    """The recipe in a TOML file: keys, and tables [mothers], [members], [independent] with other values.

    The tables may stand in one that is called stages, as `Recipe.to_json` has them. A table that is not there
    has the default's keys for this stage, less those that the file sets for all.

    Raises:
        MnxError: it is no TOML, a key is unknown, or a value is not of its type or range.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MnxError(f"{where} is no TOML: {error}") from None
    given = {key: value for key, value in document.items() if key not in (*STAGES, "stages")}
    stages = {stage: {k: v for k, v in keys.items() if k not in given} for stage, keys in of_stages().items()}
    try:
        return from_document({**given, "stages": stages | _tables(document)})
    except MnxError as error:
        raise MnxError(f"{where}: {error}") from None


def from_document(document: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data, as `Recipe.to_json` makes it; keys that are missing have their defaults.

    Raises:
        MnxError: a key is unknown, or a value is not of its type or range.
    """
    if tables := [key for key, value in document.items() if isinstance(value, Mapping) and key != "stages"]:
        raise MnxError(f"recipe: no stage '{tables[0]}'; there are {', '.join(STAGES)}")
    common = {key: _checked(key, value) for key, value in document.items() if key != "stages"}
    stages: dict[str, dict[str, Any]] = {}
    for stage, keys in document.get("stages", {}).items():
        if not isinstance(keys, Mapping):
            raise MnxError(f"recipe: {stage} = {keys}: give a table of keys")
        stages[stage] = {key: _checked(f"{stage}.{key}", value) for key, value in keys.items()}
    return Recipe(**common, stages=stages) if "stages" in document else Recipe(**common)


def _tables(document: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of stages in a file."""
    found = {key: value for key, value in document.items() if key in STAGES}
    inner = document.get("stages", {})
    if not isinstance(inner, Mapping):
        raise MnxError(f"recipe: stages = {in_words(inner)}: give tables, [mothers], [members] or [independent]")
    if twice := sorted(found.keys() & inner.keys()):
        raise MnxError(f"recipe: [{twice[0]}] and [stages.{twice[0]}] are the same table: give one of the two")
    return {**found, **inner}


def read(source: str) -> tuple[str, str]:
    """The text of a recipe that comes with mnx, by name, or of a TOML file, and what it is called in errors.

    Raises:
        MnxError: there is neither, or the file cannot be read.
    """
    path = Path(source)
    if path.suffix != ".toml" and not path.is_file():
        return text_of(source), f"recipe {source}"
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise MnxError(f"the recipe {path} cannot be read: {error}") from None


def _type(name: str, key: str) -> type:
    types = {each.name: type(each.default) for each in dataclasses.fields(Recipe) if each.name != "stages"}
    if name not in types:
        raise MnxError(f"recipe: unknown key '{key}'; there are {', '.join(types)}")
    return types[name]


def _checked(key: str, value: Any) -> Any:
    """A value of a document as the field has it."""
    kind = _type(key.rpartition(".")[2], key)
    if kind is tuple and isinstance(value, list | tuple) and all(_is(float, each) for each in value):
        return tuple(map(float, value))
    if key.rpartition(".")[2] == "teacher" and isinstance(value, str):
        return lasting(value) if value else ""
    if kind is not tuple and _is(kind, value) and (kind is str or abs(value) <= _LARGEST):
        return kind(value)
    said = f'"{value}"' if isinstance(value, str) else in_words(value)
    raise MnxError(f"recipe: {key} = {said}: give {_words(key, kind)}")


def _is(kind: type, value: Any) -> bool:
    return isinstance(value, int | float if kind is float else kind) and (kind is bool) == isinstance(value, bool)


def _parsed(key: str, kind: type, text: str) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise MnxError(f"recipe: {key} = {text}: give true or false")
        return text.lower() == "true"
    if key.rpartition(".")[2] == "teacher":
        return lasting(text)
    try:
        if kind is tuple:
            return tuple(float(part) for part in text.strip("()[]").split(",") if part.strip())
        value = kind(text)
        if kind is int and abs(value) > _LARGEST:
            raise ValueError
        return value
    except ValueError:
        raise MnxError(f"recipe: {key} = {text}: give {_words(key, kind)}") from None


def _words(key: str, kind: type) -> str:
    name = key.rpartition(".")[2]
    return RANGES[name][1] if name in RANGES else "true or false" if kind is bool else f"a {kind.__name__}"
