"""`mnx doctor`: what this installation can do."""

from __future__ import annotations

import click

from mnx.cli.errors import COULD_NOT, Command
from mnx.cli.options import json_option
from mnx.cli.output import grid, show
from mnx.diagnosis import diagnose


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> None:
    """Tell versions, engines, devices, and what is missing for training.

    The test of a device is a real step of training. The exit code is 0 where training on the CPU works, else 1.

    \b
    Example:
      mnx doctor
    """
    found = diagnose()
    versions, machine, engines = grid("package", "version"), grid("machine", ""), grid("engine", "device", "state")
    for package, version in found["versions"].items():
        versions.add(package, version or "not installed", style="" if version else "dim")
    for key, value in found["machine"].items():
        machine.add(key, str(value))
    for engine in found["engines"]:
        engines.add(engine["engine"], engine["device"], "works" if engine["works"] else engine["reason"])
    advice = [f"! {line}" for line in found["advice"]]
    verdict = "training on the CPU works" if found["ready"] else "training on the CPU does NOT work"
    show(found, as_json, versions, machine, engines, *advice, verdict)
    if not found["ready"]:
        click.get_current_context().exit(COULD_NOT)
