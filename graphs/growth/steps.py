"""The steps of a growth in the order in which they may be done, the network after each, and which of them broke it.

Kernels are enlarged first, then units are inserted at the mother's widths, then channel groups are widened. After any
number of steps stands a network that hatches exactly from the mother: the member without what is not done yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mnx.graphs.growth.units import has_layer
from mnx.graphs.growth.wider import made, makers
from mnx.graphs.model import Model, Shape
from mnx.graphs.mothers.alignment import Alignment, Branch, Insertion
from mnx.graphs.mothers.carve import carve, drawn
from mnx.graphs.mothers.correspondence import Correspondence
from mnx.graphs.mothers.kernels import Window, window
from mnx.graphs.mothers.matching import How
from mnx.graphs.mothers.mother import embedded
from mnx.graphs.suggest import listed
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op, Structure, ops_of

_FEW = 3


@dataclass(frozen=True)
class Step:
    """One step of a growth.

    Attributes:
        kind: 'kernel', 'insert' or 'widen'.
        text: what is done, for people.
        nodes: the member's nodes that it enlarges or inserts, or that make the channels it adds.
        old: kernel, or width of the group, before; () where a unit is inserted.
        new: likewise behind.
        calibrated: inserted normalisations whose scale and shift are measured on data.
        left_out: what carving the member leaves out where the step is not done.
        branches: likewise, of a Concat.
        widths: channel group of the member -> its width where the step is not done.
        windows: Conv of the member -> its kernel window where the step is not done.
        follows: channel group of a layer in code -> the one that stands in its place where the step is not done.
        free: 'wide' or 'whole' where the groups are those of that form of the structure.
    """

    kind: str
    text: str
    nodes: tuple[str, ...]
    old: Shape = ()
    new: Shape = ()
    calibrated: tuple[str, ...] = ()
    left_out: tuple[Insertion, ...] = ()
    branches: tuple[Branch, ...] = ()
    widths: Mapping[int, int] = field(default_factory=dict)
    windows: Mapping[str, Window] = field(default_factory=dict)
    follows: Mapping[int, int] = field(default_factory=dict)
    free: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kind": self.kind,
            "text": self.text,
            "nodes": list(self.nodes),
            "old": list(self.old),
            "new": list(self.new),
            "calibrated": list(self.calibrated),
        }


def steps_of(mother: Structure, member: Structure) -> tuple[Step, ...]:
    """The steps that make a member of its mother.

    Raises:
        GraphError: the member cannot be grown from this mother; the message says why.
    """
    known = embedded(mother, member)
    free = {id(member.wide): "wide", id(member.whole): "whole"}.get(id(known.member), "")
    member, alignment, found = known.member, known.alignment, known.found
    passages = alignment.passages[1]
    room = {
        group: width * (passages[group].copies if group in passages else 1) for group, width in found.carried.items()
    }
    widened = {group: width for group, width in room.items() if 0 < width < member.groups[group]}
    steps = (
        *_enlarged(alignment),
        *_inserted(alignment, member, found),
        *map(_branch, alignment.branches_right),
        *(_widened(member, group, width) for group, width in sorted(widened.items())),
    )
    return tuple(replace(step, free=free) for step in steps)


def after(member: Model, structure: Structure, steps: Sequence[Step], count: int) -> Model:
    """The network that has only the first `count` steps done, with the member's weights where they fit.

    Args:
        member: the network that all steps lead to.
        structure: its structure.
        steps: as `steps_of` gives them.
        count: how many are done.
    """
    undone = steps[count:]
    structure = next((getattr(structure, step.free) for step in steps if step.free), structure)
    narrow = {group: width for step in reversed(undone) for group, width in step.widths.items()}
    widths = {**structure.groups, **narrow}
    for step in undone:
        widths |= {group: widths[source] for group, source in step.follows.items()}
    windows = {node: small for step in undone for node, small in step.windows.items()}
    units = [unit for step in undone for unit in step.left_out]
    branches = [branch for step in undone for branch in step.branches]
    carved = carve(member, structure, units, widths, windows, branches)
    fresh = drawn(carved, describe(carved), 0)
    own = {p.name: member.weights[p.name] for op in structure.ops() for p in op.parameters}
    fits = {name for name, array in own.items() if name in fresh.weights and array.shape == fresh.weights[name].shape}
    return fresh.with_weights({name: own[name] for name in fits})


def broken_step(mother: Model, member: Model, fails: Callable[[Model], bool]) -> Step | None:
    """The first step after which a growth fails, by bisection; None where it fails before any, or not at all.

    Args:
        mother: what is grown from.
        member: what is grown.
        fails: whether growing this network, which has some of the steps done, from the mother fails.

    Raises:
        GraphError: the member cannot be grown from this mother.
    """
    structure = describe(member)
    steps = steps_of(describe(mother), structure)
    good, bad = 0, len(steps)
    if not steps or fails(after(member, structure, steps, good)) or not fails(after(member, structure, steps, bad)):
        return None
    while bad - good > 1:
        middle = (good + bad) // 2
        if fails(after(member, structure, steps, middle)):
            bad = middle
        else:
            good = middle
    return steps[bad - 1]


def _enlarged(alignment: Alignment) -> Iterator[Step]:
    """One step for every kernel; layers that share one are enlarged together."""
    together: dict[str, list[tuple[Op, Op]]] = {}
    for left, right in alignment.matches:
        if window(left) != window(right):
            together.setdefault(right.parameters[0].name, []).append((left, right))
    for pairs in together.values():
        small, large = (window(op) for op in pairs[0])
        if small is not None and large is not None:
            names = tuple(right.name for _, right in pairs)
            sizes = (small.size, large.size)
            before, behind = ("x".join(map(str, size)) for size in sizes)
            windows = dict.fromkeys(names, small)
            text = f"enlarge the kernel of {listed(names)} from {before} to {behind}"
            yield Step("kernel", text, names, *sizes, windows=windows)


def _inserted(alignment: Alignment, member: Structure, found: Correspondence) -> Iterator[Step]:
    """One step for every layer or section, with what stands behind it alone: its normalisation, its activation."""
    ops = list(member.ops())
    order = {op.value: place for place, op in enumerate(ops)}
    names = {op.value: op.name for op in ops}
    together: list[list[Insertion]] = []
    for each in sorted(alignment.only_right, key=lambda insertion: order[insertion.unit.value]):
        if together and each.before.value == together[-1][-1].unit.value and not has_layer((each.unit,)):
            together[-1].append(each)
        else:
            together.append([each])
    for insertions in together:
        place = names.get(insertions[0].before.value, "")
        widths = {group: 0 for insertion in insertions for group in insertion.beside}
        coded = [insertion.passage.group for insertion in insertions if insertion.passage is not None]
        widths |= {group: found.carried[group] for group in coded}
        arriving = {part.group for axis in insertions[0].before.axes for part in axis if part.group is not None}
        follows = dict.fromkeys(coded, *arriving) if len(arriving) == 1 else {}
        step = _insertion(insertions, f"behind {place}" if place else "behind the input")
        yield replace(step, widths=widths, follows=follows)


def _insertion(insertions: Sequence[Insertion], place: str) -> Step:
    inside = tuple(op.name for op in ops_of(tuple(insertion.unit for insertion in insertions)))
    how = {op.name: (op, how) for insertion in insertions for op, how in insertion.ops}
    adds = any(each is How.ZERO for _, each in how.values())
    norms = [op.name for op, each in how.values() if op.op == "BatchNormalization" and each is How.IDENTITY]
    what = counted_ops(inside)
    manner = _manner(insertions, adds)
    calibration = ", its normalisation calibrated on data" if norms else ""
    text = f"insert {what} {place} {manner}{calibration}"
    return Step("insert", text, inside, calibrated=tuple(norms), left_out=tuple(insertions))


def _manner(insertions: Sequence[Insertion], adds: bool) -> str:
    ways = [insertion.passage.kind for insertion in insertions if insertion.passage is not None]
    exchanges = [insertion.exchange for insertion in insertions if insertion.exchange is not None]
    if ways:
        return {"pair": "in pairs", "shift": "shifted", "small": "made small"}[ways[0]] + ", undone behind"
    if any(insertion.beside for insertion in insertions):
        return "as channels beside what passes"
    if any(exchange.source for exchange in exchanges):
        return "as a section that adds zero, with the scale of the normalisation before it"
    if exchanges:
        return "as a constant gate, undone beside it"
    return "as a section that adds zero" if adds else "as the identity"


def _branch(branch: Branch) -> Step:
    inside = tuple(op.name for op in ops_of(branch.series))
    text = f"add a branch of {counted_ops(inside)} to {branch.join.name}, as channels beside what passes"
    return Step("insert", text, inside, branches=(branch,), widths=dict.fromkeys(branch.beside, 0))


def counted_ops(names: Sequence[str]) -> str:
    """Names of ops, or the first and the last of many."""
    return listed(names) if len(names) <= _FEW else f"{names[0]} to {names[-1]} ({len(names)} ops)"


def _widened(member: Structure, group: int, old: int) -> Step:
    new, ops = member.groups[group], makers(member, group)
    sizes = {part.outer * part.inner for op in ops for axis in made(op) for part in axis if part.group == group}
    channels = "channels" if sizes <= {1} else f"blocks of {' or '.join(map(str, sorted(sizes)))} channels"
    layers = [op.name for op in ops if has_layer((op,))] or [op.name for op in ops]
    tied = ", tied together," if len(layers) > 1 else ""
    text = f"widen {listed(layers)}{tied} from {old} to {new} {channels}"
    return Step("widen", text, tuple(op.name for op in ops), (old,), (new,), widths={group: old})
