"""The tables that a run ends with: every network, and the ensemble against its baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from mnx.cli.output import Grid, Part, branch, grid, large, number, percent, seconds
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


def _networks(document: Mapping[str, Any]) -> Grid:
    """Every mother, and below her the members of her cluster by size."""
    compare, members = document["compare"], document["members"]["networks"]
    scratch = document[compare]["networks"] if compare else {}
    headers = [
        "~network",
        ">parameters",
        ">from\nmother",
        ">hatched\naccuracy",
        ">trained\naccuracy",
        ">epochs",
        ">time",
    ]
    made = grid(*headers, *([">scratch\naccuracy", "?>epochs", "?>time"] if compare else []))
    for cluster, mother in document["mothers"]["networks"].items():
        accuracy = percent(mother["accuracy"])
        made.add(cluster, number(mother["parameters"]), "mother", "", accuracy, *_cost(mother), style="bold")
        inside = [name for name, member in members.items() if member["cluster"] == cluster]
        inside.sort(key=lambda name: (members[name]["parameters"], name))
        for name in inside:
            member = members[name]
            made.add(
                branch(name == inside[-1]) + name,
                number(member["parameters"]),
                percent(member["share"], 0),
                percent(member["accuracy_at_start"]),
                percent(member["accuracy"]),
                *_cost(member),
                *([percent(scratch[name]["accuracy"]), *_cost(scratch[name])] if compare else []),
            )
    return made


def _cost(network: Mapping[str, Any]) -> tuple[str, str]:
    return str(network["epochs"]), seconds(network["seconds"])


def _ensembles(document: Mapping[str, Any]) -> Grid:
    made = grid("ensemble", ">accuracy", ">NLL", "?>ECE", ">mean member", "?>disagreement", ">multiply-adds", ">time")
    rows = [("MotherNets", document["members"]["ensemble"], document["cost"])]
    if document["compare"]:
        other = document[document["compare"]]
        rows.append((NAMES[document["compare"]], other["ensemble"], other))
    for name, ensemble, cost in rows:
        averaged = ensemble["averaged"]
        made.add(
            name,
            percent(averaged["accuracy"]),
            f"{averaged['nll']:.4f}",
            f"{averaged['ece']:.4f}",
            percent(ensemble["mean_member"]),
            percent(ensemble["disagreement"]),
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
