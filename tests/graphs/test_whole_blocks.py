"""Blocks of channels that grow in number: grouped convolutions and GroupNormalization with blocks of one width."""

from collections.abc import Sequence

import numpy as np
import pytest
from hand_made import Net
from kinds import group_normed
from strategies import batch_for, doubled, planned, trained

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import grow, hatch
from mnx.graphs.model import Model
from mnx.graphs.run import run
from mnx.graphs.trees.describe import describe
from mnx.graphs.zoo import layers


def grouped(name: str, count: int, block: int, made: int, depth: int = 1) -> Model:
    """Convolutions by `count` blocks of channels, each from `block` channels to `made`, between plain ones."""
    net = Net(name)
    x = net.conv_relu(layers.INPUT, count * block)
    for _ in range(depth):
        x = net.relu(net.blocks(x, count, count * made, 3))
        x = net.conv_relu(x, count * block, 1)
    return net.finish(x)


def changing(name: str, *counts: int) -> Model:
    """Convolutions by these numbers of blocks, each of two channels, one behind the other."""
    net = Net(name)
    x = layers.INPUT
    for count in counts:
        x = net.conv_relu(x, 2 * count)
        x = net.relu(net.blocks(x, count, 2 * count, 3))
    return net.finish(x)


ENSEMBLES = {
    "more blocks": [grouped("a", 2, 2, 2), grouped("b", 4, 2, 2), grouped("c", 3, 2, 2)],
    "more blocks that widen": [grouped("a", 2, 3, 4), grouped("b", 5, 3, 4)],
    "more blocks and layers": [grouped("a", 2, 3, 3), grouped("b", 4, 3, 3, 2), grouped("c", 5, 3, 3, 3)],
    "wider blocks": [grouped("a", 2, 2, 2), grouped("b", 2, 4, 4)],
    "more blocks here and there": [changing("a", 2, 2), changing("b", 2, 4), changing("c", 4, 2)],
    "more normalised blocks": [group_normed("a", 2, 4), group_normed("b", 4, 8), group_normed("c", 3, 6)],
    "wider normalised blocks": [group_normed("a", 2, 4), group_normed("b", 2, 8)],
}


def check_that_members_hatch(members: Sequence[Model]) -> None:
    mother = trained(planned(members)[0])
    batches = {"random": batch_for(mother, 1), "real": batch_for(mother, 2)}
    for member in members:
        for split, fresh in (("random", 0.0), ("equal", 0.5)):
            assert hatch(mother, member, batches, "real", 0, split, fresh).certificate.passed


@pytest.mark.parametrize("name", ENSEMBLES)
def test_members_share_the_mother_with_the_least_blocks(name: str) -> None:
    members = ENSEMBLES[name]
    for order in (members, members[::-1]):
        assert planned(order)[1].parameter_count == planned(members[:1])[1].parameter_count
    check_that_members_hatch(members)


SINGLE = "wider normalised blocks"
"""GroupNormalization takes its statistics in float32, by its own definition (stash_type)."""


@pytest.mark.parametrize("name", [name for name in ENSEMBLES if name != SINGLE])
def test_in_double_precision_only_rounding_is_left(name: str) -> None:
    mother = doubled(trained(planned(ENSEMBLES[name])[0]))
    batch = batch_for(mother, 3)
    (expected,) = run(mother, batch, precision="float64").values()
    for member in ENSEMBLES[name]:
        (found,) = run(grow(mother, member, batch, Style())[0], batch, precision="float64").values()
        assert float(np.abs(found - expected).max()) < 1e-12


def test_blocks_of_the_same_numbers_in_another_order_share_the_lesser_of_each() -> None:
    members = [changing("b", 2, 4), changing("c", 4, 2)]
    assert planned(members)[1].parameter_count == describe(changing("a", 2, 2)).parameter_count


def test_blocks_of_another_number_and_width_share_no_mother() -> None:
    with pytest.raises(GraphError, match="their widths are built differently"):
        planned([grouped("a", 2, 3, 3), grouped("b", 4, 4, 4)])
