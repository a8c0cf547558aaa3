"""Which of the arrays of an archive or a folder are what: by their names.

    one input           x_train  y_train  x_test  y_test          or x  y, which the seed splits
    several inputs      NAME_train for each  y_train  NAME_test for each  y_test      or NAME for each  y

NAME is the members' name of the input, as it is or with _ in place of all but letters and digits. One input may go by
its own name too. Where no name of several inputs stands there, an archive's arrays are the inputs in its own order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mnx.data.raw import Inputs, RawData, split_by_seed
from mnx.errors import MnxError
from mnx.graphs.model import Array, Port


class Names(NamedTuple):
    """The names of the arrays; none of a test part where the source has none."""

    x: tuple[str, ...]
    y: str
    x_test: tuple[str, ...] = ()
    y_test: str = ""


def names_in(found: Sequence[str], ports: Sequence[Port], where: str, ordered: bool) -> Names:
    """The names of inputs and targets among those that are there.

    Args:
        found: all names.
        ports: the members' inputs.
        where: names the source in errors.
        ordered: whether the order of the names means something.

    Raises:
        MnxError: names are missing.
    """
    own = [tuple(port.name for port in ports), tuple(re.sub(r"\W", "_", port.name) for port in ports)]
    if len(ports) == 1:
        own.insert(0, ("x",))
    for train, test in (("_train", "_test"), ("", "")):
        stems = list(own)
        if ordered and len(ports) > 1 and not any(name + train in found for names in own for name in names):
            stems.append(_in_order(found, train))
        for names in stems:
            if len(names) != len(ports):
                continue
            made = Names(tuple(name + train for name in names), f"y{train}")
            if test:
                made = Names(made.x, made.y, tuple(name + test for name in names), f"y{test}")
            if all(name in found for name in (*made.x, made.y, *made.x_test, made.y_test) if name):
                return made
    whole = (*own[0], "y")
    parts = [f"{name}{part}" for part in ("_train", "_test") for name in whole]
    raise MnxError(
        f"{where} holds {', '.join(found) or 'nothing'}; name the arrays {', '.join(parts)} or {', '.join(whole)}"
        + (f" (the members' inputs are {', '.join(port.name for port in ports)})" if len(ports) > 1 else "")
    )


def made(name: str, names: Names, arrays: Mapping[str, Array], seed: int, where: str) -> RawData:
    """Raw data of arrays by name, a part of which by `seed` is the test part where there is none.

    Raises:
        MnxError: as `split_by_seed`.
    """

    def inputs(chosen: tuple[str, ...]) -> Inputs:
        return arrays[chosen[0]] if len(chosen) == 1 else tuple(arrays[each] for each in chosen)

    if names.y_test:
        return RawData(name, inputs(names.x), arrays[names.y], inputs(names.x_test), arrays[names.y_test])
    return split_by_seed(name, inputs(names.x), arrays[names.y], seed, where)


def _in_order(found: Sequence[str], ending: str) -> tuple[str, ...]:
    """The stems of all arrays but the targets that end so."""
    if ending:
        return tuple(name.removesuffix(ending) for name in found if name.endswith(ending) and name != f"y{ending}")
    return tuple(name for name in found if name != "y")
