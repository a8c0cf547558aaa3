"""How certificates look: a table of every comparison, and what its drift rows mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mnx.cli.output import Grid, Part, grid, number, small

DRIFT = "drift: by batch statistics of data that inserted normalisation was not calibrated on; reported, not binding"


def certificate_parts(certificates: Mapping[str, Mapping[str, Any]]) -> Iterator[Part]:
    """The table of certificates (member -> `Certificate.to_json`), and a note where it needs one."""
    yield _table(certificates)
    if any(not check["binding"] for each in certificates.values() for check in each["checks"]):
        yield DRIFT


def _table(certificates: Mapping[str, Mapping[str, Any]]) -> Grid:
    made = grid("~member", "inputs", "?>examples", "mode", ">largest\ndifference", ">tolerance", "")
    for name, certificate in certificates.items():
        for row, check in enumerate(certificate["checks"]):
            passed, binding = check["passed"], check["binding"]
            made.add(
                name if row == 0 else "",
                check["inputs"],
                number(check["examples"]),
                check["mode"],
                small(check["difference"]["largest"]),
                small(check["difference"]["tolerance"]),
                ("equal" if passed else "differs") if binding else "drift",
                style="" if binding else "dim",
            )
    return made
