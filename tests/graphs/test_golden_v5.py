"""The golden vector: V5 of the MotherNets paper at full size, its mother and what she shares with each member."""

from math import prod

import pytest
from strategies import planned

from mnx.graphs.mothers.mother import embed, stand_in
from mnx.graphs.trees.structure import Structure
from mnx.graphs.zoo.vgg import v5

Plan = tuple[Structure, list[Structure]]

BLOCKS = [[64, 64], [128, 128], [128, 128], [512, 512], [256, 256]]


@pytest.fixture(scope="module")
def plan() -> Plan:
    members = v5(classes=1000, input_shape=(3, 224, 224), hidden=(4096, 4096), hollow=True)
    return planned(members)[1], [stand_in(member)[1] for member in members]


def weights_of(structure: Structure, op: str) -> int:
    return sum(prod(parameter.shape) for found in structure.ops() if found.op == op for parameter in found.parameters)


def test_the_mother_of_v5(plan: Plan) -> None:
    mother, _ = plan
    blocks: list[list[int]] = [[]]
    for op in mother.ops():
        if op.op == "MaxPool":
            blocks.append([])
        elif op.op == "Conv":
            assert op.parameters[0].shape[2:] == (3, 3)
            blocks[-1].append(op.shape[0])
    assert blocks == [*BLOCKS, []]
    assert [op.shape for op in mother.ops() if op.op == "Gemm"] == [(4096,), (4096,), (1000,)]


def test_shares_of_all_parameters(plan: Plan) -> None:
    mother, members = plan
    shares = {member.name: round(mother.parameter_count / member.parameter_count, 2) for member in members}
    assert shares == {"V13": 0.58, "V16": 0.58, "V16A": 0.60, "V16B": 0.56, "V19": 0.54}


def test_shares_of_the_convolutions_only(plan: Plan) -> None:
    mother, members = plan
    ours = weights_of(mother, "Conv")
    shares = {member.name: round(ours / weights_of(member, "Conv"), 2) for member in members}
    assert shares == {"V13": 0.56, "V16": 0.53, "V16A": 0.81, "V16B": 0.36, "V19": 0.26}


def test_every_member_contains_the_mother(plan: Plan) -> None:
    mother, members = plan
    for member in members:
        alignment, _ = embed(mother, member)
        assert len(alignment.matches) == len(list(mother.ops()))
