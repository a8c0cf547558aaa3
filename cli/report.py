"""The tables that a run ends with: every network, and the ensemble against its baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.text import Text

from mnx.cli.output import Grid, Part, branch, grid, large, number, percent, score_name, seconds
from mnx.metrics import HEADLINES
from mnx.workspace import RunFolder

NAMES: Mapping[str, str] = {"independent": "from scratch"}
"""What a baseline is called for people."""


def report_parts(document: Mapping[str, Any], run: RunFolder) -> list[Part]:
    """What `mnx run` and `mnx score` print of a score document."""
    examples, mothers = number(document["test_examples"]), document["mothers"]["networks"]
    noun = "mother" if len(mothers) == 1 else "mothers"
    parts: list[Part] = [
        Text(
            f"{document['data']}: {examples} test examples, {len(document['members']['networks'])} members, "
            f"{len(mothers)} {noun}"
        ),
        _networks(document),
        _ensembles(document),
    ]
    if document["compare"]:
        parts.append(_verdict(document))
    return [*parts, Text(f"ensemble: {run.ensemble_file}")]


SHOWN: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "accuracy": ("accuracy", percent),
    "nll": ("NLL", "{:.4f}".format),
    "ece": ("ECE", "{:.4f}".format),
    "average_precision": ("mean average\nprecision", percent),
    "r2": ("R2", percent),
    "rmse": ("RMSE", "{:.4g}".format),
    "mae": ("MAE", "{:.4g}".format),
}
"""Score -> its header, and how it is written. The order is that of columns."""


def score_cells(found: Mapping[str, Any]) -> dict[str, str]:
    """Header -> cell of the scores that one network has."""
    return {header: written(found[name]) for name, (header, written) in SHOWN.items() if name in found}


def _networks(document: Mapping[str, Any]) -> Grid:
    """Every mother, and below her the members of her cluster by size."""
    compare, members = document["compare"], document["members"]["networks"]
    scratch = document[compare]["networks"] if compare else {}
    key, called = HEADLINES[document["task"]], score_name(document["task"])
    headers = [
        "~network",
        ">parameters",
        ">from\nmother",
        f">hatched\n{called}",
        f">trained\n{called}",
        ">epochs",
        ">time",
    ]
    made = grid(*headers, *([f">scratch\n{called}", "?>epochs", "?>time"] if compare else []))
    for cluster, mother in document["mothers"]["networks"].items():
        score = percent(mother[key])
        made.add(cluster, number(mother["parameters"]), "mother", "", score, *_cost(mother), style="bold")
        inside = [name for name, member in members.items() if member["cluster"] == cluster]
        inside.sort(key=lambda name: (members[name]["parameters"], name))
        for name in inside:
            member = members[name]
            made.add(
                branch(name == inside[-1]) + name,
                number(member["parameters"]),
                percent(member["share"], 0),
                percent(member[f"{key}_at_start"]),
                percent(member[key]),
                *_cost(member),
                *([percent(scratch[name][key]), *_cost(scratch[name])] if compare else []),
            )
    return made


def _cost(network: Mapping[str, Any]) -> tuple[str, str]:
    return str(network["epochs"]), seconds(network["seconds"])


def _ensembles(document: Mapping[str, Any]) -> Grid:
    rows = [("MotherNets", document["members"]["ensemble"], document["cost"])]
    if document["compare"]:
        other = document[document["compare"]]
        rows.append((NAMES[document["compare"]], other["ensemble"], other))
    decisive, *others = score_cells(rows[0][1]["averaged"])
    last = [f"?>{header}" for header in others[1:]]
    headers = [f">{decisive}", f">{others[0]}", *last, ">mean member", "?>disagreement", ">multiply-adds", ">time"]
    counts = {name: ensemble.get("networks", 0) for name, ensemble, _ in rows}
    snapshots = max(counts.values()) > len(document["members"]["networks"])
    made = grid("ensemble", *([">networks"] if snapshots else []), *headers)
    differ = "{:.4g}".format if document["task"] == "numbers" else percent
    for name, ensemble, cost in rows:
        made.add(
            name,
            *([number(counts[name])] if snapshots else []),
            *score_cells(ensemble["averaged"]).values(),
            percent(ensemble["mean_member"]),
            differ(ensemble["disagreement"]),
            large(cost["multiply_adds"]),
            seconds(cost["seconds"]),
            style="bold" if name == "MotherNets" else "",
        )
    return made


def _verdict(document: Mapping[str, Any]) -> Text:
    shares = document["cost_against"]
    return Text(
        f"MotherNets took {percent(shares['multiply_adds'], 0)} of the multiply-adds and "
        f"{percent(shares['seconds'], 0)} of the time of training {NAMES[document['compare']]}, mothers included."
    )
