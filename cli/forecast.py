"""How `mnx mother` shows what training will cost, and what every tau would give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import floor
from typing import Any, TypeVar

import click

from mnx.cli.output import Grid, Part, grid, large, number, percent, seconds, shortened
from mnx.cluster import Clustering
from mnx.forecast import ASSUMED, MEASURED, Epochs, Forecast, Price, forecast, passes_of
from mnx.graphs.trees.counting import COUNTS, count

F = TypeVar("F", bound=Callable[..., Any])

NOUNS = {"scratch": "from scratch", "mother": "of a mother", "member": "of a hatched member"}


def forecast_options(function: F) -> F:
    """--epochs-scratch, --epochs-mother, --epochs-member, --rate."""
    above_zero = click.FloatRange(min=0, min_open=True)
    rate = click.option(
        "--rate", type=above_zero, metavar="R", help="Multiply-adds a second.  [default: as this run has trained]"
    )
    function = rate(function)
    for key, noun in reversed(NOUNS.items()):
        text = f"Epochs {noun}, for the forecast.  [default: {getattr(ASSUMED, key)}]"
        function = click.option(f"--epochs-{key}", type=above_zero, metavar="E", help=text)(function)
    return function


def epochs_given(scratch: float | None, mother: float | None, member: float | None) -> Epochs | None:
    """The epochs that were given, with those assumed for the others; None where none were."""
    given = {"scratch": scratch, "mother": mother, "member": member}
    changes = {key: value for key, value in given.items() if value is not None}
    return replace(ASSUMED, **changes) if changes else None


def forecast_parts(expected: Forecast, advise: bool = True) -> list[Part]:
    """The forecast as a table, what it assumes, and advice where mothering cannot pay."""
    what = f"for {number(expected.examples)} training examples" if expected.examples else "for each training example"
    span = ""
    if expected.least is not None and expected.most is not None:
        span = f" ({percent(expected.least, 0)} to {percent(expected.most, 0)} with the epochs of measured runs)"
    return [
        "",
        f"expected multiply-adds of training, {what}",
        _prices(expected),
        f"{percent(expected.total.share, 0)} of training from scratch{span}",
        f"assumed: {_epochs(expected.epochs)}; a step is 3 forward passes",
        *(_advice(expected) if advise else []),
    ]


def _prices(expected: Forecast) -> Grid:
    timed = expected.seconds(1) is not None
    made = grid(
        "", ">mother", ">members", ">in all", ">from scratch", ">share", *([">time", ">scratch\ntime"] if timed else [])
    )
    for name, price in expected.clusters.items():
        made.add(name, *_price(expected, price))
    if len(expected.clusters) > 1:
        made.add("all", *_price(expected, expected.total), style="bold")
    return made


def _price(expected: Forecast, price: Price) -> list[str]:
    times = [expected.seconds(value) for value in (price.total, price.scratch)]
    figures = [large(value) for value in (price.mothers, price.members, price.total, price.scratch)]
    return [*figures, percent(price.share, 0), *(seconds(time) for time in times if time is not None)]


def _epochs(epochs: Epochs) -> str:
    """`25 epochs from scratch (measured 19 to 31), ...`."""
    texts = []
    for key, noun in NOUNS.items():
        known = [getattr(each, key) for each in MEASURED.values()]
        texts.append(f"{getattr(epochs, key):g} epochs {noun} (measured {min(known):.0f} to {max(known):.0f})")
    return ", ".join(texts)


def _advice(expected: Forecast) -> list[Part]:
    if expected.pays:
        return []
    return [
        f"mothering cannot pay here: {percent(expected.total.share, 0)} of what the members cost from scratch. Let "
        "more members share a mother (--sweep shows what each tau gives), or train them without one"
    ]


def sweep_parts(found: Sequence[Clustering], epochs: Epochs | None) -> list[Part]:
    """What every tau gives, as a table."""
    counted = found[0].clusters[0].counted
    made = grid(">tau up to", ">clusters", ">mothers'\ncount", ">least\nshare", ">expected\ncost", "members by cluster")
    for row in found:
        made.add(
            _tau_text(row),
            str(len(row.clusters)),
            number(_mothers(row)),
            percent(row.least_share, 0),
            percent(forecast(passes_of(row.clusters), epochs).total.share, 0),
            " | ".join(" ".join(shortened(member.name) for member in cluster.members) for cluster in row.clusters),
        )
    return [
        made,
        f"{COUNTS[counted].words} are counted; the cost is a share of that of training from scratch",
        "next: mnx mother MEMBER.onnx... --tau T" + (f" --count {counted}" if counted != next(iter(COUNTS)) else ""),
    ]


def sweep_json(found: Sequence[Clustering], epochs: Epochs | None) -> dict[str, Any]:
    """What every tau gives, as plain data; a row holds for every tau that is greater than `above`, at most `tau`."""
    return {
        "count": found[0].clusters[0].counted,
        "sweep": [
            {
                "above": row.above,
                "tau": row.tau,
                "clusters": [[member.name for member in cluster.members] for cluster in row.clusters],
                "mothers": _mothers(row),
                "least_share": row.least_share,
                "forecast": forecast(passes_of(row.clusters), epochs).to_json(),
            }
            for row in found
        ],
    }


def _mothers(row: Clustering) -> int:
    return sum(count(cluster.structure, cluster.counted) for cluster in row.clusters)


def _tau_text(row: Clustering) -> str:
    """The largest tau of a row, rounded down to so few digits that it still lies in the row."""
    for digits in range(2, 17):
        tau = floor(row.tau * 10**digits) / 10**digits
        if tau > row.above:
            return f"{tau:.{digits}f}"
    return repr(row.tau)
