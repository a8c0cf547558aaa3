"""The options that commands share, each defined once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.growing import SPLITS
from mnx.graphs.growth.perturb import LAYERS, Perturbation
from mnx.graphs.trees.counting import COUNTS
from mnx.hatching import Hatching
from mnx.norms import NORMS
from mnx.pipeline import DEFAULT_RUN
from mnx.train.recipe_files import names

F = TypeVar("F", bound=Callable[..., Any])


def members_argument(function: F) -> F:
    """The members' files."""
    return click.argument(
        "members", nargs=-1, required=True, metavar="MEMBER.onnx...", type=click.Path(path_type=Path)
    )(function)


def run_option(function: F) -> F:
    """-o/--run."""
    return click.option(
        "-o",
        "--run",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_RUN,
        show_default=True,
        help="The run folder.",
    )(function)


def planning_options(function: F) -> F:
    """--tau, --mothers, --clusters, --count, --norm, --seed."""
    return _all(
        click.option(
            "--tau",
            type=click.FloatRange(min=0, min_open=True, max=1),
            metavar="SHARE",
            help="Fewest clusters whose mother has at least this share of every member.  [default: 0.5]",
        ),
        click.option(
            "--mothers",
            type=click.IntRange(min=1),
            metavar="N",
            help="Divide the members of each cluster among N mothers of one structure, as far as each has two: those "
            "hatched from one mother disagree less than those of two.  [default: 2]",
        ),
        click.option(
            "--clusters",
            type=click.IntRange(min=1),
            metavar="N",
            help="So many clusters, with the most parameters in their mothers, instead.",
        ),
        click.option(
            "--count",
            "counted",
            type=click.Choice(list(COUNTS)),
            help="What shares are shares of: all trained parameters, those of convolutions only, or multiply-adds.  "
            "[default: all]",
        ),
        click.option(
            "--norm",
            type=click.Choice(NORMS),
            help="Train with the BatchNormalization that exports folded away, and fold it again at the end: in deep "
            "convolutional members that have none, in none, or in every member.  [default: auto]",
        ),
        seed_option("Of all that is drawn in this run.  [default: 0]"),
    )(function)


def one_rule(tau: float | None, mothers: int | None, clusters: int | None) -> None:
    """Refuse two ways to find clusters at once.

    Raises:
        click.UsageError: both are given.
    """
    for name, value in (("--tau", tau), ("--mothers", mothers)):
        if value is not None and clusters is not None:
            raise click.UsageError(f"{name} and --clusters exclude each other: give one")


def data_options(function: F) -> F:
    """--data, --train-limit."""
    return _all(
        click.option(
            "--data",
            metavar="DATA",
            help="digits, a .npz file, or a folder: .npy files, MNIST's files, CIFAR's binary files, images by class.  "
            "[default: what the run was trained with]",
        ),
        click.option("--train-limit", type=click.IntRange(min=2), metavar="N", help="Use at most N training examples."),
    )(function)


def training_options(function: F) -> F:
    """--recipe, --set, --epochs, --seconds, --flops, --fresh-momentum, --device, --threads, --jobs, --fuse and on.

    What concerns the recipe reaches the command as `recipe`, keys and texts, and `source`, a name or a file.
    """

    @wraps(function)
    def collected(
        *arguments: Any,
        settings: Sequence[str],
        epochs: int | None,
        seconds: float | None,
        flops: float | None,
        fresh_momentum: bool,
        **others: Any,
    ) -> Any:
        budgets = {"epochs": epochs, "seconds": seconds, "multiply_adds": flops}
        return function(*arguments, recipe=recipe_settings(settings, budgets, fresh_momentum), **others)

    return _all(
        click.option(
            "--recipe",
            "source",
            metavar="NAME|FILE.toml",
            help=f"How to train: {', '.join(names())}, or a file; 'mnx recipe NAME' prints one.  [default: default]",
        ),
        click.option(
            "--epochs",
            type=click.IntRange(min=1),
            metavar="N",
            help="At most so many epochs a network; as --set epochs=N.",
        ),
        click.option(
            "--seconds",
            type=click.FloatRange(min=0, min_open=True),
            metavar="S",
            help="At most so much time a network, as whole epochs at its pace; as --set seconds=S.",
        ),
        click.option(
            "--flops",
            type=click.FloatRange(min=0, min_open=True),
            metavar="N",
            help="At most so many multiply-adds a network, as whole epochs; as --set multiply_adds=N.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Set a key of the recipe (lr, batch, patience, mirror, ...), or that of one stage (members.lr); may "
            "be repeated. 'mnx recipe --keys' lists them.",
        ),
        click.option(
            "--fresh-momentum",
            is_flag=True,
            help="Members' optimisers begin afresh, not with their mother's momentum; as --set carry=false. Until "
            "the first member is trained.",
        ),
        click.option(
            "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to train."
        ),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            metavar="N",
            help="Threads of the CPU for each network; kept with the run, since another number may change last bits.  "
            "[default: the cores, shared out among the networks of a stage]",
        ),
        click.option(
            "--jobs",
            type=click.IntRange(min=1),
            metavar="N",
            help="Train so many networks, or groups of --fuse, at once, each in its own process; results are the same "
            "with any number.  "
            "[default: as many as cores and memory take, where that pays]",
        ),
        click.option(
            "--fuse",
            type=click.IntRange(min=1),
            metavar="N",
            help="Train so many networks of a cluster on the same batches, in one session; they end with other weights "
            "than apart, so that the number is kept with the run. On one thread steps of small perceptrons are 1.4 to "
            "4 times faster by it, of larger ones on augmented images 1.1 to 1.4 times, those of convolutions hardly.  "
            "[default: 1]",
        ),
        click.option(
            "--tensorboard",
            "curves",
            is_flag=True,
            help="Write curves for TensorBoard into the folder tensorboard of the run.",
        ),
    )(cast(F, collected))


def style_options(function: F) -> F:
    """--split and --fresh; None where they are not given."""
    return _all(
        click.option(
            "--split",
            type=click.Choice(SPLITS),
            help="How the copies of a channel share its outgoing weights: by random draws that add up, or equally.  "
            f"[default: {SPLITS[0]}]",
        ),
        click.option(
            "--fresh",
            type=click.FloatRange(0, 1),
            metavar="SHARE",
            help="The share of further channels that are new, with outgoing weights that cancel, not copies.  "
            "[default: 0]",
        ),
    )(function)


def hatching_options(function: F) -> F:
    """--split, --fresh, --noise, --perturb and --perturb-layers."""
    return _all(
        style_options,
        click.option(
            "--noise",
            type=click.FloatRange(min=0),
            metavar="S",
            help="Add Gaussian noise behind the certificate, of S standard deviations of each weight.",
        ),
        click.option(
            "--perturb",
            metavar="LAMBDA,GAMMA",
            help="Shrink and perturb weights behind the certificate: LAMBDA times the old plus GAMMA times fresh ones.",
        ),
        click.option(
            "--perturb-layers",
            type=click.Choice(LAYERS),
            help="Which weights --perturb changes: all, or those of the half of the layers nearer to the output.  "
            f"[default: {LAYERS[0]}]",
        ),
    )(function)


def hatching(
    split: str | None, fresh: float | None, noise: float | None, perturb: str | None, layers: str | None
) -> Hatching | None:
    """What the options of `hatching_options` say, None where none is given.

    Raises:
        click.UsageError: --perturb is not two numbers, one is out of its range, or --perturb-layers stands alone.
    """
    if layers is not None and perturb is None:
        raise click.UsageError("--perturb-layers says which weights --perturb changes: give --perturb 0.8,0.1 too")
    if all(option is None for option in (split, fresh, noise, perturb)):
        return None
    try:
        shrink, new = map(float, ("1,0" if perturb is None else perturb).split(","))
    except ValueError:
        raise click.UsageError(f"--perturb {perturb}: give LAMBDA,GAMMA, for example 0.8,0.1") from None
    try:
        perturbation = Perturbation(shrink, new, noise or 0.0, layers or LAYERS[0])
        return Hatching(split or SPLITS[0], fresh or 0.0, perturbation)
    except GraphError as error:
        raise click.UsageError(str(error)) from None


def seed_option(text: str) -> Callable[[F], F]:
    """--seed."""
    return click.option("--seed", type=click.IntRange(min=0), metavar="N", help=text)


def force_option(text: str) -> Callable[[F], F]:
    """--force."""
    return click.option("--force", is_flag=True, help=text)


def json_option(function: F) -> F:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")(function)


def quiet_option(function: F) -> F:
    """-q/--quiet."""
    return click.option("-q", "--quiet", is_flag=True, help="Show no progress.")(function)


def recipe_settings(
    settings: Sequence[str], budgets: Mapping[str, float | None], fresh_momentum: bool = False
) -> dict[str, str]:
    """What --set, the options for budgets and --fresh-momentum say, as the recipe's keys and texts.

    Raises:
        click.UsageError: a setting is not KEY=VALUE, or a key is given twice.
    """
    found: dict[str, str] = {}
    given = [*settings, *(f"{key}={value}" for key, value in budgets.items() if value is not None)]
    given += ["carry=false"] if fresh_momentum else []
    for text in given:
        key, equals, value = text.partition("=")
        if not (equals and key.strip() and value.strip()):
            raise click.UsageError(f"--set {text}: give KEY=VALUE, for example --set lr=0.01")
        if key.strip() in found:
            raise click.UsageError(f"'{key.strip()}' of the recipe is given twice")
        found[key.strip()] = value.strip()
    return found


def _all(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator, listed in this order in the help."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
