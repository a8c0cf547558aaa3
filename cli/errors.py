"""What the user sees of an error: one message on stderr, an exit code, and with --json a document on stdout.

The document is {"error": message, "exit_code": code}.
"""

from __future__ import annotations

import errno
import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NoReturn

import click

from mnx.errors import MnxError
from mnx.graphs.errors import GraphError, NotPreserved
from mnx.lock import working_in

COULD_NOT: Final = 1
NOT_PRESERVED: Final = 3
INTERRUPTED: Final = 130


class Command(click.Command):
    """A command whose errors are messages. What is not an error of the user's is a bug and shows its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command."""
        try:
            with _alone(ctx):
                return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except NotPreserved as error:
            _end(ctx, str(error), NOT_PRESERVED)
        except (GraphError, MnxError) as error:
            _end(ctx, str(error), COULD_NOT)
        except OSError as error:
            if error.errno is None:
                raise
            _end(ctx, _system_text(ctx, error), COULD_NOT)
        except MemoryError as error:
            _end(ctx, f"not enough memory: {error or 'ask for less'}{_resumption(ctx)}", COULD_NOT)
        except KeyboardInterrupt:
            _end(ctx, f"interrupted{_resumption(ctx)}", INTERRUPTED)


def _alone(ctx: click.Context) -> AbstractContextManager[None]:
    """Two commands at once on one run folder would undo each other's work."""
    if "run" not in ctx.params:
        return nullcontext()
    return working_in(ctx.params["run"])


def _end(ctx: click.Context, message: str, code: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    if ctx.params.get("as_json"):
        speak(message, code)
    ctx.exit(code)


def speak(message: str, code: int) -> None:
    """The error as a document on stdout."""
    click.echo(json.dumps({"error": message, "exit_code": code}))


def _system_text(ctx: click.Context, error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}: free some space{_resumption(ctx)}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{error.filename or 'a file'} may not be read or written: change its permissions or choose another place"
        )
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def _resumption(ctx: click.Context) -> str:
    """How to go on; commands that write no run, or have written no plan yet, have nothing to go on with."""
    if "run" not in ctx.params or ctx.params.get("dry_run") or ctx.params.get("sweep"):
        return ""
    if not (ctx.params["run"] / "plan.json").exists():  # as RunFolder.plan_file, which imports heavy libraries
        return "; nothing was finished: the same command begins anew"
    again = " without --force" if ctx.params.get("force") else ""
    return (
        f"; what was finished is kept in {ctx.params['run']}: the same command{again} goes on from there and ends with "
        "the same result"
    )
