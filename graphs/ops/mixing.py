"""Ops that mix over an axis without a parameter for it: its width never changes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mnx.graphs.model import Attribute
from mnx.graphs.ops.axes import Axes, Ties, fixed
from mnx.graphs.ops.rule import Interval, Kind, Role, Rule, Site, Slot, output_cost


def _tie_softmax(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The axis that shares are taken over is fixed; the others stay."""
    ties.fix(axes[0][site.axis(-1)])
    return axes[0]


def _along(site: Site) -> tuple[tuple[str, Attribute], ...]:
    return (("axis", site.axis(-1)),)


def _shares(site: Site, arriving: Sequence[Interval]) -> Interval:
    return 0.0, 1.0


def _tie_recurrent(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The features that arrive may grow; the state is mixed with itself through gates and stays as it is."""
    ties.same(axes[1][2], axes[0][2], site.where)
    return tuple(fixed(size) for size in site.outputs[0])


def _recurrent_cost(site: Site) -> int:
    return site.shapes[0][0] * sum(prod(shape) for shape in site.shapes[1:3])


_STAYS = (Role.FIXED,)

SOFTMAX = Rule(tie=_tie_softmax, range=_shares, signature=_along, cost=output_cost, mixes=True)
LOG_SOFTMAX = Rule(tie=_tie_softmax, signature=_along, cost=output_cost, mixes=True)


def recurrent(usual: tuple[str, ...], matching: dict[str, Attribute]) -> Rule:
    """A rule for a recurrent layer: an opaque unit that matches only one of the same hidden size.

    Args:
        usual: the activations of one direction where none are given.
        matching: attributes of this layer alone that must agree, with their defaults.
    """

    def signature(site: Site) -> tuple[tuple[str, Attribute], ...]:
        both = site.node.attributes.get("direction", "forward") == "bidirectional"
        return (("activations", site.node.attributes.get("activations", usual * (2 if both else 1))),)

    return Rule(
        tie=_tie_recurrent,
        slots={
            1: Slot(Kind.WEIGHT, (Role.FIXED, Role.FIXED, Role.CONTRACT)),
            2: Slot(Kind.WEIGHT, _STAYS),
            3: Slot(Kind.BIAS, _STAYS),
        },
        matching={"hidden_size": 0, "direction": "forward", "layout": 0, **matching},
        signature=signature,
        cost=_recurrent_cost,
        mixes=True,
        doc="its hidden size never changes: gates mix the state with itself",
    )


LSTM = recurrent(("Sigmoid", "Tanh", "Tanh"), {"input_forget": 0})
GRU = recurrent(("Sigmoid", "Tanh"), {"linear_before_reset": 0})
RNN = recurrent(("Tanh",), {})
