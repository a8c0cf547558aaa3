"""Planning: members that fit together, and what already stands in the run folder."""

import json
import shutil
from pathlib import Path

import pytest
from small_runs import NAMES, contents, planned, write_members

from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Node, Port
from mnx.graphs.trees.describe import describe
from mnx.graphs.zoo.mlp import mlp
from mnx.plan import Plan
from mnx.planning import every_tau, keep, plan_members, propose
from mnx.workspace import STAGES, RunFolder, file_hash

INPUT = (1, 8, 8)


@pytest.fixture
def members(tmp_path: Path) -> list[Path]:
    return write_members(tmp_path / "members")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def plan(paths: list[Path], run: RunFolder, **settings: float | str | bool | None) -> Plan:
    return plan_members(paths, run, Events(), **settings)  # type: ignore[arg-type]


def test_a_plan_says_all_of_members_and_clusters(members: list[Path], run: RunFolder) -> None:
    found = plan(members[::-1], run, seed=3)
    assert found == run.plan()
    assert [member.name for member in found.members] == sorted(NAMES)
    assert (found.seed, found.interface.width, found.interface.inputs[0].shape, dict(found.rule)) == (
        3,
        10,
        INPUT,
        {"tau": 0.5, "mothers": 2, "count": "all", "norm": "auto"},
    )
    [cluster] = found.clusters
    assert sorted(cluster.members) == sorted(NAMES)
    mother = describe(onnx_file.read(run.start_file("mothers", cluster.name)))
    assert (cluster.parameters, cluster.multiply_adds) == (mother.parameter_count, mother.cost)
    for member, path in zip(found.members, members, strict=True):
        structure = describe(onnx_file.read(path))
        assert (member.path, member.sha256, member.cluster) == (str(path), file_hash(path), cluster.name)
        assert (member.parameters, member.multiply_adds) == (structure.parameter_count, structure.cost)
        assert member.share == cluster.parameters / member.parameters
        assert len(member.matched) + len(member.inserted) == len(list(structure.ops()))
        assert len(member.matched) == len(list(mother.ops()))


def test_the_cluster_is_recorded(members: list[Path], run: RunFolder) -> None:
    heard: list[Event] = []
    plan_members(members, run, Events(None, [heard.append]))
    assert [event["event"] for event in heard] == ["read"] * 3 + ["cluster"]
    assert [event["done"] for event in heard[:3]] == [1, 2, 3]
    [line] = run.events_file.read_text().splitlines()
    assert json.loads(line) == heard[3]
    assert (heard[3]["network"], heard[3]["tau"], len(heard[3]["members"])) == ("cluster1", 0.5, 3)


def test_the_rule_decides_the_clusters(members: list[Path], tmp_path: Path) -> None:
    assert len(plan(members, RunFolder(tmp_path / "tau"), tau=1.0).clusters) == 3
    two = plan(members, RunFolder(tmp_path / "two"), clusters=2)
    assert len(two.clusters) == 2
    assert dict(two.rule) == {"clusters": 2, "count": "all", "norm": "auto"}


def test_the_plan_says_what_shares_are_shares_of(members: list[Path], run: RunFolder) -> None:
    found = plan(members, run, tau=0.3, counted="flops")
    assert dict(found.rule) == {"tau": 0.3, "mothers": 2, "count": "flops", "norm": "auto"}
    assert run.plan().counted == "flops"
    for member in found.members:
        assert member.share == found.cluster(member.cluster).multiply_adds / member.multiply_adds
    assert plan(members, run) == plan(members, run, counted="flops") == found
    with pytest.raises(MnxError, match=r"planned with --tau 0\.3 --seed 0 --count flops, not --count all"):
        plan(members, run, counted="all")


def test_a_plan_of_before_counts_all_parameters(members: list[Path], run: RunFolder) -> None:
    found = plan(members, run)
    document = json.loads(run.plan_file.read_text())
    del document["rule"]["count"]
    run.plan_file.write_text(json.dumps(document))
    assert run.plan().counted == "all"
    assert plan(members, run, counted="all").members == found.members


def test_every_tau_is_looked_at_without_writing(members: list[Path], run: RunFolder) -> None:
    heard: list[Event] = []
    rows = every_tau(members, run, Events(None, [heard.append]))
    assert [event["event"] for event in heard] == ["read"] * 3
    assert [len(row.clusters) for row in rows] == sorted((len(row.clusters) for row in rows), reverse=True)
    assert not run.path.exists()


def test_a_proposal_writes_nothing_until_it_is_kept(members: list[Path], run: RunFolder) -> None:
    proposal = propose(members, run, Events())
    assert not run.path.exists()
    assert not proposal.standing
    assert keep(proposal, run, Events()) == run.plan() == proposal.plan
    assert propose(members, run, Events()).standing


def test_mothers_have_the_plan_s_weights(tmp_path: Path) -> None:
    hashes = [
        file_hash(planned(tmp_path / name, seed=seed).start_file("mothers", "cluster1"))
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_same_members_again_change_nothing(members: list[Path], run: RunFolder, tmp_path: Path) -> None:
    first = plan(members, run, tau=0.4, seed=2)
    before = contents(run.path)
    assert plan(members, run) == plan(members, run, tau=0.4, seed=2) == first
    moved = [Path(shutil.copy(path, tmp_path / path.name)) for path in members]
    assert plan(moved, run) == first
    assert contents(run.path) == before


def test_no_members_are_refused(run: RunFolder) -> None:
    with pytest.raises(MnxError, match="no members: give at least one"):
        plan([], run)


def test_two_files_of_one_name_are_refused(members: list[Path], run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    twin = Path(shutil.copy(members[0], tmp_path / "other" / members[0].name))
    with pytest.raises(MnxError, match=rf"two members are called '{twin.stem}': .* rename one"):
        plan([*members, twin], run)
    with pytest.raises(MnxError, match=f"{members[0].name} is given 2 times: give every member once"):
        plan([members[0], members[0]], run)
    assert not run.path.exists()


@pytest.mark.parametrize(
    ("shape", "classes", "words"),
    [
        ((1, 8, 9), 10, r"different inputs: odd has an input of float32 \(1, 8, 9\), P.* \(1, 8, 8\); leave one out"),
        (INPUT, 7, "different classes: odd has 7 classes, P.* 10 classes; leave one out"),
    ],
)
def test_members_of_other_inputs_or_classes_are_refused(
    shape: tuple[int, ...], classes: int, words: str, members: list[Path], run: RunFolder, tmp_path: Path
) -> None:
    onnx_file.write(mlp("odd", shape, (64,), classes), tmp_path / "odd.onnx")
    with pytest.raises(MnxError, match=words):
        plan([*members, tmp_path / "odd.onnx"], run)
    assert not run.path.exists()


def test_a_network_that_says_yes_or_no_to_each_class_is_planned_with_its_like(run: RunFolder, tmp_path: Path) -> None:
    model = mlp("labels", INPUT, (8,), 4)
    for name, op in (("labels", "Sigmoid"), ("choice", "Softmax"), ("plain", "")):
        head = (Node("each", op, (model.outputs[0].name,), ("probabilities",)),) if op else ()
        onnx_file.write(model.replace(head=head), tmp_path / f"{name}.onnx")
    with pytest.raises(GraphError, match=r"choice ends in Softmax, which chooses one class, labels in Sigmoid"):
        plan([tmp_path / "labels.onnx", tmp_path / "choice.onnx"], run)
    assert not run.path.exists()
    assert plan([tmp_path / "labels.onnx", tmp_path / "plain.onnx"], run).interface.head == "Sigmoid"


def test_a_network_that_is_no_classifier_is_refused(run: RunFolder, tmp_path: Path) -> None:
    model = mlp("images", INPUT, (), 4)
    onnx_file.write(
        model.replace(
            nodes=(Node("relu", "Relu", ("input",), ("relu",)),), weights={}, outputs=(Port("relu", "float32", INPUT),)
        ),
        tmp_path / "images.onnx",
    )
    with pytest.raises((MnxError, GraphError), match="images"):
        plan([tmp_path / "images.onnx"], run)
    assert not run.path.exists()


@pytest.mark.parametrize("stage", STAGES)
def test_members_among_the_run_s_own_files_are_refused(stage: str, members: list[Path], run: RunFolder) -> None:
    own = run.path / stage / "mine.onnx"
    own.parent.mkdir(parents=True)
    shutil.copy(members[0], own)
    with pytest.raises(MnxError, match=r"mine\.onnx lies where the run .* keeps its own files"):
        plan([*members, own], run)
    assert own.exists()


def test_a_missing_or_broken_file_is_refused_by_name(members: list[Path], run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"there is no file .*P65\.onnx"):
        plan([*members, members[0].with_name("P65.onnx")], run)
    (tmp_path / "torn.onnx").write_bytes(members[0].read_bytes()[:300])
    with pytest.raises(GraphError, match=r"torn\.onnx"):
        plan([*members, tmp_path / "torn.onnx"], run)
    assert not run.path.exists()


def test_a_run_of_other_members_is_not_replaced_without_force(members: list[Path], run: RunFolder) -> None:
    plan(members[:2], run)
    before = contents(run.path)
    with pytest.raises(MnxError, match=r"holds a run of other members \(new: P96\): .* --force"):
        plan(members, run)
    with pytest.raises(MnxError, match=r"\(not given: P64-64\)"):
        plan(members[:1], run)
    onnx_file.write(mlp("P64", INPUT, (64,), 10, seed=9), members[0])
    with pytest.raises(MnxError, match=r"\(changed: P64\)"):
        plan(members[:2], run)
    assert contents(run.path) == before


@pytest.mark.parametrize(("key", "value"), [("tau", 0.6), ("clusters", 2), ("seed", 1)])
def test_other_settings_are_refused_by_name(key: str, value: float, members: list[Path], run: RunFolder) -> None:
    plan(members, run)
    before = contents(run.path)
    with pytest.raises(MnxError, match=rf"planned with --tau 0.5 --seed 0, not --{key} {value}: .* --force"):
        plan(members, run, **{key: value})
    assert contents(run.path) == before


def test_force_replaces_the_run_and_all_it_wrote(members: list[Path], run: RunFolder) -> None:
    plan(members, run, tau=1.0)
    run.settings_file.write_text("{}")
    run.events_file.write_text("old\n")
    (run.path / "notes.txt").write_text("mine")
    found = plan(members[:2], run, clusters=1, seed=4, force=True)
    assert run.plan() == found
    assert [member.name for member in found.members] == [path.stem for path in members[:2]]
    left = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert left == {"plan.json", "events.jsonl", "notes.txt", "mothers/cluster1/mother.onnx"}
    assert "old" not in run.events_file.read_text()


def test_force_on_members_that_do_not_fit_leaves_the_run(members: list[Path], run: RunFolder, tmp_path: Path) -> None:
    plan(members, run)
    before = contents(run.path)
    onnx_file.write(mlp("odd", (1, 9, 9), (64,), 10), tmp_path / "odd.onnx")
    with pytest.raises(MnxError, match="different inputs"):
        plan([*members, tmp_path / "odd.onnx"], run, force=True)
    assert contents(run.path) == before


def test_a_broken_plan_is_replaced_with_force(members: list[Path], run: RunFolder) -> None:
    run.path.mkdir()
    run.plan_file.write_text("{")
    with pytest.raises(MnxError, match="is not a plan"):
        plan(members, run)
    assert len(plan(members, run, force=True).members) == 3


def test_a_mother_that_is_gone_is_carved_again(members: list[Path], run: RunFolder) -> None:
    standing = plan(members, run)
    place = run.start_file("mothers", standing.clusters[0].name)
    before = place.read_bytes()
    place.unlink()
    assert plan(members, run) == standing
    assert place.read_bytes() == before
