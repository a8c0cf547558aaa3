"""`mnx recipe`: the recipes that come with mnx, and the keys that a recipe may have."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any

import click

from mnx.cli.errors import Command
from mnx.cli.options import json_option
from mnx.cli.output import Grid, grid, show
from mnx.train.recipe import RANGES, STAGES, Recipe, in_words
from mnx.train.recipe_files import names, read, recipe, text_of


@click.command(cls=Command)
@click.argument("name", metavar="[NAME|FILE]", required=False)
@click.option("--keys", is_flag=True, help="List the keys of a recipe: default, legal values, what they mean.")
@json_option
def command(name: str | None, keys: bool, as_json: bool) -> None:
    """Print a recipe of training, to be used as it is or changed.

    Without a name: list those that come with mnx. A recipe is a TOML file of keys for all networks, and of tables
    [mothers], [members] and [independent] with other values for these: write one that is printed here to a file, change
    it, and train with --recipe FILE.toml. A file is checked and printed likewise.

    \b
    Example:
      mnx recipe fast
      mnx recipe mine.toml
      mnx recipe --keys
    """
    if keys:
        found = _keys()
        show({"keys": found}, as_json, _table(found))
    elif name is None:
        first = {each: " ".join(line.strip("# ") for line in _head(each)) for each in names()}
        made = grid("~recipe", "about")
        for each, about in first.items():
            made.add(each, about)
        show({"recipes": first}, as_json, made, "mnx recipe NAME prints one; --recipe NAME trains with it")
    else:
        show({"name": name, "recipe": recipe(source=name).to_json()}, as_json, read(name)[0].rstrip())


def _head(name: str) -> list[str]:
    """The comment that a recipe begins with."""
    lines = text_of(name).splitlines()
    return lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]


def _keys() -> dict[str, dict[str, Any]]:
    """Every key with its default, its legal values and what it means."""
    meanings = _meanings()
    found = {}
    for field in dataclasses.fields(Recipe):
        if field.name != "stages":
            legal = RANGES[field.name][1] if field.name in RANGES else "true or false"
            own = {stage: getattr(Recipe().of(stage), field.name) for stage in STAGES}
            stages = {stage: value for stage, value in own.items() if value != field.default}
            found[field.name] = {
                "default": field.default,
                "stages": stages,
                "legal": legal,
                "about": meanings[field.name],
            }
    return found


def _meanings() -> dict[str, str]:
    """What the docstring of `Recipe` says of each key."""
    text = inspect.getdoc(Recipe) or ""
    entries = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", text[text.index("Attributes:") :], re.M | re.S)
    return {name: " ".join(words.split()).rstrip(".").replace("`", "") for name, words in entries}


def _table(keys: Mapping[str, Mapping[str, Any]]) -> Grid:
    made = grid("~key", "~default", "legal", "about")
    for name, key in keys.items():
        default = in_words(key["default"]) or "none"
        others = [f"{stage} {in_words(value)}" for stage, value in key["stages"].items()]
        made.add(name, "; ".join([default, *others]), key["legal"], key["about"])
    return made
