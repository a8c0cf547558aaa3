"""The structure tree as plain data."""

import json

from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure_json import structure_json
from mnx.graphs.zoo.ensembles import ensemble


def test_a_residual_network_as_json() -> None:
    structure = describe(ensemble("resnet")[0])
    document = structure_json(structure)
    assert json.loads(json.dumps(document)) == document
    assert document["input"] == [1, 8, 8]
    assert document["parameters"] == structure.parameter_count
    stem, block = document["series"][0], document["series"][3]
    assert stem["op"] == "Conv" and stem["kernel"] == [3, 3] and stem["output"] == [8, 8, 8]
    assert stem["parameters"][0] == {
        "name": "stem.weight",
        "kind": "weight",
        "shape": [8, 1, 3, 3],
        "axes": ["g0", "1", "3", "3"],
    }
    assert [len(branch) for branch in block["parallel"]] == [5, 0]
    assert block["join"]["op"] == "Add"


def test_totals_are_sums_over_the_tree() -> None:
    for model in ensemble("v5-bn"):
        document = structure_json(describe(model))
        assert document["parameters"] == sum(unit["parameter_count"] for unit in document["series"])
        assert document["multiply_adds"] == sum(unit["multiply_adds"] for unit in document["series"])


def test_a_group_lists_every_axis_that_it_ties_once() -> None:
    document = structure_json(describe(ensemble("mlp")[0]))
    (group,) = document["groups"]
    assert group["width"] == 64
    assert len(group["ties"]) == len(set(group["ties"])) == 3  # the weight's rows, its bias, the next weight's columns
