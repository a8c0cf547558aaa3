"""`mnx ops`: the table of op rules."""

from __future__ import annotations

import click

from mnx.cli.errors import Command
from mnx.cli.options import json_option
from mnx.cli.output import grid, show
from mnx.graphs.ops.rule import Rule, never
from mnx.graphs.ops.table import RULES
from mnx.train.lint import VERIFIED


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> None:
    """List the ops that mnx knows and what it knows of them.

    Parameters with the roles of their axes: an axis makes channels (produce), sums over them (contract), or lies over
    space (kernel). An op that can be the identity can be inserted when a member is hatched.

    \b
    Example:
      mnx ops
    """
    document = {"ops": {name: _document(name, rule) for name, rule in RULES.items()}}
    made = grid("op", "parameters", "identity", "commutes", "trains", "notes")
    for name, rule in RULES.items():
        made.add(
            name,
            "\n".join(
                f"{slot.kind.value}: {', '.join(role.value for role in slot.roles)}" for slot in rule.slots.values()
            ),
            "yes" if rule.identity is not never else "",
            "yes" if rule.commutative else "",
            "yes" if name in VERIFIED else "",
            rule.doc,
        )
    show(document, as_json, made)


def _document(name: str, rule: Rule) -> dict[str, object]:
    return {
        "parameters": [
            {"input": index, "kind": slot.kind.value, "axes": [role.value for role in slot.roles]}
            for index, slot in rule.slots.items()
        ],
        "must_agree": sorted(rule.matching),
        "identity": rule.identity is not never,
        "commutative": rule.commutative,
        "gradient": VERIFIED.get(name),
        "doc": rule.doc,
    }
