"""`mnx hatch`: hatch the members of a run from their mothers."""

from __future__ import annotations

from pathlib import Path

import click

from mnx.cli.certificates import certificate_parts
from mnx.cli.errors import Command
from mnx.cli.options import (
    data_options,
    force_option,
    hatching,
    hatching_options,
    json_option,
    quiet_option,
    run_option,
)
from mnx.cli.output import show
from mnx.cli.progress import progress
from mnx.pipeline import hatch_next, next_step
from mnx.session import networks, open_session
from mnx.workspace import RunFolder


@click.command(cls=Command)
@click.option("--untrained", is_flag=True, help="Hatch from the carved mothers, for a look before any training.")
@hatching_options
@data_options
@run_option
@force_option("Hatch again, in place of what stands there.")
@json_option
@quiet_option
def command(
    untrained: bool,
    split: str | None,
    fresh: float | None,
    noise: float | None,
    perturb: str | None,
    perturb_layers: str | None,
    data: str | None,
    train_limit: int | None,
    run: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Hatch every member from its mother, with a certificate for each.

    A hatched member computes exactly its mother's function; the certificate is the measured proof, on random, extreme
    and real examples. Where it fails, nothing is written for that member and the exit code is 3. --noise and --perturb
    change weights behind the certificate, which says so: what is written then computes nearly that function.

    \b
    Example:
      mnx hatch
    """
    folder, how = RunFolder(run), hatching(split, fresh, noise, perturb, perturb_layers)
    with progress(quiet) as events:
        session = open_session(folder, events, data, train_limit)
        hatched = hatch_next(session, untrained, force, how)
    names = networks(session.plan, "members")
    certificates = {name: folder.certificate(name) for name in names}
    following = next_step(folder)
    documents = {name: certificate.to_json() for name, certificate in certificates.items()}
    document = {"run": str(run), "hatched": list(hatched), "certificates": documents, "next": following}
    source = "untrained mothers" if untrained else "trained mothers"
    headline = (
        f"hatched {len(hatched)} of {len(names)} members from {source}"
        if hatched
        else f"nothing to do: all {len(names)} members are hatched from {source}"
    )
    show(document, as_json, headline, *certificate_parts(certificates, "member"), f"next: {following}")
