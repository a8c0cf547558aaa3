"""Hatching in several ways: what a certificate says of it, what stands in the file, and one way for a run."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_runs import NAMES, contents, opened, planned

from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.graphs.errors import GraphError
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.growth.perturb import Perturbation, perturbed
from mnx.graphs.model import Model
from mnx.graphs.run import run
from mnx.graphs.verify import difference
from mnx.hatching import Hatching
from mnx.methods.mothernets import hatch_members, train_members, train_mothers
from mnx.pipeline import hatch_next, run_all
from mnx.session import Session, calibration_inputs
from mnx.workspace import RunFolder, file_hash

PAPER = Hatching("equal", 0.0, Perturbation(0.9, 0.1, 0.01, "upper"))
WAYS = {
    "default": Hatching(),
    "equal": Hatching("equal"),
    "fresh": Hatching(fresh=0.5),
    "noise": Hatching("equal", 0.0, Perturbation(noise=0.01)),
    "all": PAPER,
}


@pytest.fixture(scope="module")
def mothered_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose mother is trained."""
    folder = tmp_path_factory.mktemp("mothered")
    train_mothers(opened(planned(folder)))
    return folder


@pytest.fixture
def mothered(mothered_once: Path, tmp_path: Path) -> Session:
    """The same run, for a test of its own."""
    shutil.copytree(mothered_once / "run", tmp_path / "run")
    return opened(RunFolder(tmp_path / "run"))


def certified(session: Session, name: str, how: Hatching) -> Model:
    """The member as it was when it was certified, hatched here again."""
    path = session.run.trained_file("mothers", "cluster1")
    mother = dataclasses.replace(onnx_file.read(path), name="cluster1")
    probes, calibration = calibration_inputs(session, mother)
    member = onnx_file.read({each.name: Path(each.path) for each in session.plan.members}[name])
    batches = {key: probe.batch for key, probe in probes.items()}
    return hatch(mother, member, batches, calibration, session.plan.seed, how.split, how.fresh).model


@pytest.mark.parametrize("way", WAYS)
def test_the_file_is_the_certified_network_changed_as_the_certificate_says(way: str, mothered: Session) -> None:
    hatch_members(mothered, hatching=WAYS[way])
    mother = onnx_file.read(mothered.run.trained_file("mothers", "cluster1"))
    x = mothered.dataset.test.x(slice(64))
    for name in NAMES:
        document = json.loads(mothered.run.certificate_file(name).read_text())
        how = WAYS[way]
        wanted = dataclasses.asdict(how.perturbation) if how.perturbation.changes else {}
        assert (document["split"], document["fresh"], document["perturbed"]) == (how.split, how.fresh, wanted)
        before = certified(mothered, name, how)
        found = onnx_file.read(mothered.run.start_file("members", name))
        said = Perturbation(**document["perturbed"])
        expected = perturbed(before, said, document["seed"])
        assert all(np.array_equal(array, found.weights[key]) for key, array in expected.weights.items())
        logits = [next(iter(run(each, x).values())) for each in (mother, before, found)]
        assert difference(logits[0], logits[1]).passed
        assert difference(logits[0], logits[2]).passed is not how.perturbation.changes
        assert document["passed"] is True
        assert document["sha256"]["hatched"] == file_hash(mothered.run.start_file("members", name))


def test_the_paper_s_way_in_numbers(mothered: Session) -> None:
    hatch_members(mothered, hatching=PAPER)
    document = json.loads(mothered.run.certificate_file("P96").read_text())
    assert document["split"] == "equal"
    assert document["perturbed"] == {"shrink": 0.9, "fresh": 0.1, "noise": 0.01, "layers": "upper"}


def test_ways_give_other_files_and_all_train_on(mothered: Session, tmp_path: Path) -> None:
    found = set()
    for way, how in WAYS.items():
        shutil.copytree(mothered.run.path, tmp_path / way)
        session = opened(RunFolder(tmp_path / way))
        hatch_members(session, hatching=how)
        found.add(file_hash(session.run.start_file("members", "P96")))
        assert len(train_members(session)) == 3
    assert len(found) == len(WAYS)


@pytest.mark.parametrize("way", ["default", "all"])
def test_another_way_is_refused_where_members_are_hatched(way: str, mothered: Session) -> None:
    stands, asked = (WAYS[way], WAYS["noise"])
    hatch_members(mothered, hatching=stands)
    before = contents(mothered.run.path)
    words = (
        r"P64 is hatched already, in another way \(split .*; now split equal, .*noise of 0\.01.*'mnx hatch --force -o"
    )
    with pytest.raises(MnxError, match=words):
        hatch_next(mothered, hatching=asked)
    with pytest.raises(MnxError, match=words):
        run_all(mothered, hatching=asked)
    assert hatch_next(mothered, hatching=stands) == {}
    assert hatch_next(mothered) == {}
    assert contents(mothered.run.path) == before
    assert set(hatch_next(mothered, force=True, hatching=asked)) == set(NAMES)
    assert mothered.run.certificate("P64").perturbed["noise"] == 0.01


def interrupted(session: Session, how: Hatching | None) -> None:
    """Hatch the first member, and no more."""

    def listen(event: Event) -> None:
        if event["event"] == "hatch" and event["done"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hatch_next(dataclasses.replace(session, events=Events(None, [listen])), hatching=how)


@pytest.mark.parametrize("way", WAYS)
def test_members_that_are_left_are_hatched_as_the_others_were(way: str, mothered: Session, tmp_path: Path) -> None:
    shutil.copytree(mothered.run.path, tmp_path / "whole")
    whole = opened(RunFolder(tmp_path / "whole"))
    hatch_next(whole, hatching=WAYS[way])
    interrupted(mothered, WAYS[way])
    assert len(hatch_next(mothered)) == 2
    for name in NAMES:
        one, other = (each.run.start_file("members", name) for each in (mothered, whole))
        assert file_hash(one) == file_hash(other)


def test_nothing_is_hatched_in_another_way_beside_others(mothered: Session) -> None:
    interrupted(mothered, PAPER)
    before = contents(mothered.run.path)
    with pytest.raises(MnxError, match="P64 is hatched already, in another way"):
        hatch_next(mothered, hatching=Hatching())
    assert contents(mothered.run.path) == before
    assert len(hatch_next(mothered, force=True)) == 3  # afresh, by default
    assert mothered.run.certificate("P64").perturbed == {}


def test_a_perturbation_that_changes_nothing_is_none() -> None:
    nothing = Hatching(perturbation=Perturbation(layers="upper"))
    assert nothing.alike(Hatching())
    assert nothing.perturbed == {}
    assert not Hatching("equal").alike(Hatching())
    assert not PAPER.alike(Hatching("equal"))


@pytest.mark.parametrize(("split", "fresh", "words"), [("half", 0.0, "unknown split"), ("equal", 2.0, "from 0 to 1")])
def test_a_way_that_there_is_not_is_refused(split: str, fresh: float, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        Hatching(split, fresh)
