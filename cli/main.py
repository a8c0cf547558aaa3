"""The command `mnx`: a table of commands, each in its own file, imported when it is called."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from typing import Any, cast

import click

from mnx import __version__
from mnx.cli.errors import INTERRUPTED, speak

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("mnx.cli.run", "Do all of it: from member files to a trained, certified, scored ensemble."),
    "mother": ("mnx.cli.mother", "Find the mothers: cluster the members, carve a mother for each cluster."),
    "train": ("mnx.cli.train", "Train the mothers, or the members once they are hatched."),
    "watch": ("mnx.cli.watch", "Follow a run from another terminal, until nobody works in it any more."),
    "hatch": ("mnx.cli.hatch", "Hatch every member from its mother, with a certificate for each."),
    "combine": ("mnx.cli.combine", "Write one ensemble graph of all trained members."),
    "score": ("mnx.cli.score", "Score a run's networks, or any ONNX files, on test data."),
    "show": ("mnx.cli.show", "Print a model's structure: ops, widths, kernels, costs, channel groups."),
    "grow": ("mnx.cli.grow", "Grow a model to more width, depth or larger kernels without changing what it computes."),
    "diff": ("mnx.cli.diff", "Compare two members: what they share, what each has alone, or why they have no mother."),
    "verify": ("mnx.cli.verify", "Measure whether two models compute the same function."),
    "recipe": ("mnx.cli.recipe", "Print a recipe of training, to be used as it is or changed."),
    "ops": ("mnx.cli.ops", "List the ops that mnx knows and what it knows of them."),
    "zoo": ("mnx.cli.zoo", "Write the members of a sample ensemble; list them without a name."),
    "doctor": ("mnx.cli.doctor", "Tell versions, engines, devices, and what is missing for training."),
}
"""Name -> the file whose `command` it is, and the first line of its help. A new command is one file and one entry."""


JSON = "mnx.json"
"""Under this key the context says whether the arguments ask for JSON; wrong ones may never reach a command."""


class Commands(click.Group):
    """A group that imports a command's file when the command is called, not before."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the group's own arguments."""
        spoken = "--json" in args[: args.index("--") if "--" in args else None]
        try:
            ctx = super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            _tell(error, spoken)
            raise
        ctx.meta[JSON] = spoken
        return ctx

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`."""
        if cmd_name not in COMMANDS:
            return None
        return cast(click.Command, importlib.import_module(COMMANDS[cmd_name][0]).command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with; a typo is answered with the nearest name."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else " 'mnx --help' lists all."
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, doc) for name, (_, doc) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command; an interrupt while its file is imported ends quietly too."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            _tell(error, bool(ctx.meta.get(JSON)))
            raise
        except KeyboardInterrupt:
            click.echo("Error: interrupted", err=True)
            if ctx.meta.get(JSON):
                speak("interrupted", INTERRUPTED)
            ctx.exit(INTERRUPTED)


def _tell(error: click.UsageError, spoken: bool) -> None:
    """With --json wrong usage is a document too; the message and the usage follow on stderr."""
    if spoken:
        speak(error.format_message(), error.exit_code)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="mnx")
def mnx() -> None:
    """Train ensembles of different neural networks fast, by the method of MotherNets, on ONNX graphs.

    \b
    Example:
      mnx zoo mlp --output members
      mnx run members/*.onnx --data digits
    """


def main() -> None:
    """Run the command line. Names that the terminal cannot show are replaced, never an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    mnx(prog_name="mnx")
