"""`mnx ops`: the table of op rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from mnx.cli.errors import Command
from mnx.cli.options import json_option
from mnx.cli.output import Grid, Part, grid, show
from mnx.graphs.errors import GraphError
from mnx.graphs.ops.rule import Role, Rule, never
from mnx.graphs.ops.table import RULES
from mnx.graphs.suggest import did_you_mean
from mnx.train.lint import VERIFIED

AXES: Mapping[Role, str] = {Role.PRODUCE: "out", Role.CONTRACT: "in", Role.KERNEL: "space", Role.FIXED: "fixed"}
"""What a parameter's axis does, in a word."""

LEGEND = (
    "axes: out makes channels, in is summed over, space is the kernel, fixed never changes",
    "identity: can be inserted when a member is hatched; mixes: its width grows by rules of its own",
    "trains: its gradient has been verified; 'mnx ops OP' and --json say more",
)


@click.command(cls=Command)
@click.argument("ops", nargs=-1, metavar="[OP]...")
@json_option
def command(ops: tuple[str, ...], as_json: bool) -> None:
    """List the ops that mnx knows and what it knows of them.

    The axes of an op's parameters make channels (out), are summed over (in), lie over space, or are fixed. With the
    names of ops: all that is known of these.

    \b
    Example:
      mnx ops
      mnx ops Conv BatchNormalization
    """
    for name in ops:
        if name not in RULES:
            raise GraphError(f"{name} has no rule; 'mnx ops' lists what has{did_you_mean(name, RULES)}")
    chosen = {name: RULES[name] for name in ops or RULES}
    document = {"ops": {name: _document(name, rule) for name, rule in chosen.items()}}
    parts: list[Part] = [part for name in chosen for part in _all_of(name, document["ops"][name])]
    show(document, as_json, *(parts if ops else [_table(chosen), *LEGEND]))


def _table(rules: Mapping[str, Rule]) -> Grid:
    made = grid("=op", "=parameters: axes", "=iden-\ntity", "=mixes", "=com-\nmutes", "=trains", "?ties", "?notes")
    for name, rule in rules.items():
        made.add(
            name,
            "\n".join(_slots(rule)),
            _yes(rule.identity is not never),
            _yes(rule.mixes),
            _yes(rule.commutative),
            _yes(name in VERIFIED),
            _first_line(rule),
            rule.doc,
        )
    return made


def _slots(rule: Rule) -> Iterator[str]:
    """`weight: out, in, space`; slots with equal axes in one line, two at most."""
    known: dict[str, list[str]] = {}
    for slot in rule.slots.values():
        known.setdefault(", ".join(AXES[role] for role in slot.roles), []).append(slot.kind.value)
    for axes, kinds in known.items():
        names = list(dict.fromkeys(kinds))
        for start in range(0, len(names), 2):
            end = ":" if start + 2 >= len(names) else ","
            yield f"{', '.join(names[start : start + 2])}{end}" + (f" {axes}" if end == ":" else "")


def _yes(true: bool) -> str:
    return "yes" if true else ""


def _all_of(name: str, document: Mapping[str, Any]) -> Iterator[Part]:
    """All that is known of one op, a line a thing."""
    made = grid(f"={name}", "")
    for slot in document["parameters"]:
        axes = ", ".join(AXES[Role(role)] for role in slot["axes"])
        made.add(f"input {slot['input']}", f"{slot['kind']}: {axes}" + ("; or a value" if slot["operand"] else ""))
    if document["ties"]:
        made.add("ties", document["ties"])
    made.add("must agree", ", ".join(document["must_agree"]) or "nothing but its place")
    made.add("identity", "on some values or all: can be inserted" if document["identity"] else "never")
    for key in ("linear", "mixes", "commutative"):
        made.add(key, "yes" if document[key] else "no")
    made.add("gradient", document["gradient"] or "not verified: not trained through")
    if document["doc"]:
        made.add("notes", document["doc"])
    yield made


def _document(name: str, rule: Rule) -> dict[str, Any]:
    return {
        "parameters": [
            {
                "input": index,
                "kind": slot.kind.value,
                "axes": [role.value for role in slot.roles],
                "operand": slot.operand,
            }
            for index, slot in rule.slots.items()
        ],
        "ties": _first_line(rule),
        "must_agree": sorted(rule.matching),
        "identity": rule.identity is not never,
        "linear": rule.linear,
        "mixes": rule.mixes,
        "commutative": rule.commutative,
        "gradient": VERIFIED.get(name),
        "doc": rule.doc,
    }


def _first_line(rule: Rule) -> str:
    """What the function that ties the axes says of itself, if anything."""
    return " ".join((rule.tie.__doc__ or "").split("\n\n")[0].split())
