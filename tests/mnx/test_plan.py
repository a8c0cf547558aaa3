"""Plans: what is written reads back, and what is not a plan of this version is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_training import examples

from mnx.errors import MnxError
from mnx.graphs.interface import PLAIN, SIGMOID, SOFTMAX, Interface
from mnx.graphs.model import Port
from mnx.graphs.probes import Content
from mnx.plan import VERSION, Plan, PlannedCluster, PlannedMember, load, save

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)
NUMBERS = st.integers(0, 10**12)
MEMBERS = st.builds(
    PlannedMember,
    name=WORDS,
    path=WORDS,
    sha256=WORDS,
    cluster=WORDS,
    parameters=NUMBERS,
    multiply_adds=NUMBERS,
    share=st.floats(0, 1),
    matched=st.lists(st.tuples(WORDS, WORDS), max_size=3).map(tuple),
    inserted=st.lists(st.tuples(WORDS, WORDS, WORDS), max_size=3).map(tuple),
)
CLUSTERS = st.builds(
    PlannedCluster,
    name=WORDS,
    members=st.lists(WORDS, max_size=3).map(tuple),
    parameters=NUMBERS,
    multiply_adds=NUMBERS,
)
PORTS = st.builds(Port, WORDS, st.just("float32"), st.lists(NUMBERS, max_size=4).map(tuple))
PLANS = st.builds(
    Plan,
    rule=st.one_of(st.fixed_dictionaries({"tau": st.floats(0.01, 1)}), st.fixed_dictionaries({"clusters": NUMBERS})),
    seed=NUMBERS,
    interface=st.builds(
        Interface,
        st.lists(PORTS, min_size=1, max_size=3).map(tuple),
        NUMBERS,
        st.sampled_from([SOFTMAX, SIGMOID, PLAIN]),
        st.lists(st.builds(Content, st.sampled_from(["ids", "mask", "numbers"]), NUMBERS), max_size=3).map(tuple),
    ),
    clusters=st.lists(CLUSTERS, max_size=2).map(tuple),
    members=st.lists(MEMBERS, max_size=2).map(tuple),
)

PLAN = Plan(
    rule={"tau": 0.5},
    seed=3,
    interface=Interface((Port("x", "float32", (1, 8, 8)),), 10, SOFTMAX),
    clusters=(PlannedCluster("cluster1", ("a",), 10, 20), PlannedCluster("cluster2", ("b",), 30, 40)),
    members=(PlannedMember("a", "a.onnx", "f00", "cluster1", 12, 24, 0.83, (("fc", "fc"),), (("r", "Relu", "free"),)),),
)


@examples(60)
@given(plan=PLANS)
def test_what_is_written_reads_back(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    save(plan, path)
    assert load(path) == plan
    assert json.loads(path.read_text())["version"] == VERSION


def test_a_cluster_is_found_by_name() -> None:
    assert PLAN.cluster("cluster2").members == ("b",)


def test_a_plan_of_another_version_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(PLAN.to_json() | {"version": VERSION + 1}))
    with pytest.raises(MnxError, match=r"plan\.json was written by another version of mnx; .* --force"):
        load(path)


BROKEN = {
    "empty": "",
    "torn": json.dumps(PLAN.to_json())[:200],
    "number": "5",
    "text": '"plan"',
    "null": "null",
    "list": "[1, 2]",
    "object": "{}",
    "no version": json.dumps(dataclasses.asdict(PLAN)),
    "no members": json.dumps({key: value for key, value in PLAN.to_json().items() if key != "members"}),
    "unknown field": json.dumps(PLAN.to_json() | {"clusters": [{"name": "c", "members": [], "colour": "red"}]}),
    "other kinds": json.dumps(PLAN.to_json() | {"members": [3], "inputs": 4}),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_plan_is_refused_with_the_cure(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(MnxError, match=r"plan\.json is not a plan \(.*\); plan the members again with --force"):
        load(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MnxError, match="is not a plan"):
        load(tmp_path / "plan.json")


def test_fields_are_plain_data() -> None:
    document: dict[str, Any] = json.loads(json.dumps(PLAN.to_json()))
    assert document["rule"] == {"tau": 0.5}
    assert document["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 8, 8]}]
    assert document["members"][0]["inserted"] == [["r", "Relu", "free"]]
    assert (document["width"], document["head"], document["contents"]) == (10, "Softmax", [])
