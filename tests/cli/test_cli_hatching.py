"""The options of hatching and of momentum: what they write, show and refuse."""

import json
from pathlib import Path

import pytest
from calling import Call, contents
from test_cli_errors import refused

PAPER = ("--split", "equal", "--noise", "0.01", "--perturb", "0.9,0.1", "--perturb-layers", "upper")
SAID = {"shrink": 0.9, "fresh": 0.1, "noise": 0.01, "layers": "upper"}
QUICK = ("--data", "digits", "--epochs", "2", "--threads", "1")
CERTIFICATE = Path("mnx-run/members/P64/certificate.json")


@pytest.fixture
def mothered(call: Call, members: list[Path], tmp_path: Path) -> Path:
    """A folder with a run whose mother is trained."""
    assert call("mother", *members[:2], "-q").code == 0
    assert call("train", *QUICK, "-q").code == 0
    return tmp_path


def setting(folder: Path, key: str) -> object:
    return json.loads((folder / "mnx-run" / "settings.json").read_text())["recipe"][key]


def test_a_perturbed_hatching_is_recorded_and_shown(call: Call, mothered: Path) -> None:
    done = call("hatch", *PAPER)
    assert done.code == 0
    words = " ".join(done.out.split())
    assert "0.9 of the old and 0.1 of fresh weights in upper layers, noise of 0.01 standard deviations" in words
    assert "so that what is written differs from its mother" in words
    assert all(len(line.rstrip()) <= 100 for line in done.out.splitlines())
    document = json.loads((mothered / CERTIFICATE).read_text())
    assert (document["split"], document["perturbed"]) == ("equal", SAID)
    spoken = json.loads(call("hatch", "--json").out)
    assert spoken["certificates"]["P64"]["perturbed"] == SAID
    assert spoken["hatched"] == []


def test_a_hatching_as_it_is_says_nothing_of_it(call: Call, mothered: Path) -> None:
    assert "perturbed" not in call("hatch").out
    assert json.loads((mothered / CERTIFICATE).read_text())["perturbed"] == {}


def test_another_way_is_refused_until_it_is_forced(call: Call, mothered: Path) -> None:
    assert call("hatch", *PAPER, "-q").code == 0
    for options in (("--split", "random"), ("--noise", "0.02"), ("--split", "equal", "--fresh", "0.5")):
        refused(call, mothered, ("hatch", *options), "hatch all again with 'mnx hatch --force -o mnx-run'")
    assert call("hatch", *PAPER, "-q").code == 0
    again = json.loads(call("hatch", "--noise", "0.02", "--force", "--json").out)
    assert len(again["hatched"]) == 2
    assert again["certificates"]["P64"]["perturbed"]["noise"] == 0.02


def test_a_whole_run_passes_the_options_on(call: Call, members: list[Path], tmp_path: Path) -> None:
    begin = ("run", *members[:2], *QUICK, "-q")
    assert call(*begin, *PAPER).code == 0
    document = json.loads((tmp_path / CERTIFICATE).read_text())
    assert (document["split"], document["perturbed"]) == ("equal", SAID)
    before = contents(tmp_path)
    assert call(*begin, *PAPER).code == 0
    assert call(*begin).code == 0
    assert contents(tmp_path) == before
    refused(call, tmp_path, (*begin, "--split", "random"), "is hatched already, in another way")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--perturb", "nonsense"), "--perturb nonsense: give LAMBDA,GAMMA, for example 0.8,0.1"),
        (("--perturb", "0.9"), "--perturb 0.9: give LAMBDA,GAMMA"),
        (("--perturb", "0.9,0.1,0.1"), "give LAMBDA,GAMMA"),
        (("--perturb", ""), "give LAMBDA,GAMMA"),
        (("--perturb", "1.5,0"), "give lambda from 0 to 1"),
        (("--perturb", "0.9,-1"), "gamma and noise of 0 or more"),
        (("--perturb", "nan,0"), "give lambda from 0 to 1"),
        (("--noise", "-0.1"), "-0.1 is not in the range"),
        (("--noise", "nan"), "noise of 0 or more"),
        (("--noise", "inf"), "noise of 0 or more"),
        (("--noise", "much"), "'much' is not a valid float"),
        (("--fresh", "1.5"), "1.5 is not in the range"),
        (("--fresh", "nan"), "give the share of further channels, from 0 to 1"),
        (("--split", "half"), "'half'"),
        (("--perturb-layers", "lower", "--perturb", "0.9,0"), "'lower'"),
        (("--perturb-layers", "upper"), "give --perturb 0.8,0.1 too"),
    ],
)
@pytest.mark.parametrize("stage", ["hatch", "run"])
def test_what_cannot_be_is_wrong_usage(
    stage: str, options: tuple[str, ...], words: str, call: Call, members: list[Path], tmp_path: Path
) -> None:
    begin = ("run", *members, *QUICK) if stage == "run" else ("hatch",)
    found = call(*begin, *options, "--json")
    assert found.code == 2
    assert words in json.loads(found.out)["error"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [("--fresh-momentum",), ("--set", "carry=false")])
def test_momentum_can_be_left_behind_when_members_are_trained(
    options: tuple[str, ...], call: Call, mothered: Path
) -> None:
    assert setting(mothered, "carry") is True
    assert call("hatch", "-q").code == 0
    assert call("train", *options, "-q").code == 0
    assert setting(mothered, "carry") is False
    for again in (call("train", *options), call("train")):
        assert again.code == 0
        assert "nothing to do" in again.out


def test_momentum_is_left_behind_from_the_start(call: Call, members: list[Path], tmp_path: Path) -> None:
    assert call("run", *members[:2], *QUICK, "--fresh-momentum", "-q").code == 0
    assert setting(tmp_path, "carry") is False
    assert call("run", *members[:2], *QUICK, "--fresh-momentum", "-q").code == 0


def test_momentum_once_members_are_trained(call: Call, members: list[Path], tmp_path: Path) -> None:
    assert call("run", *members[:2], *QUICK, "-q").code == 0
    assert setting(tmp_path, "carry") is True
    refused(call, tmp_path, ("train", "--fresh-momentum"), "trained with carry = true, not false")
    twice = call("train", "--fresh-momentum", "--set", "carry=true")
    assert twice.code == 2
    assert "'carry' of the recipe is given twice" in twice.err
    refused(call, tmp_path, ("train", "--set", "carry=yes"), "carry = yes: give true or false")
    assert call("train", "--force", "--fresh-momentum", "-q").code == 0
    assert setting(tmp_path, "carry") is False


@pytest.mark.parametrize("stage", ["members", "mothers"])
def test_a_broken_momentum_says_what_to_do(stage: str, call: Call, mothered: Path) -> None:
    assert call("hatch", "-q").code == 0
    (path, *_) = sorted((mothered / "mnx-run" / stage).rglob("optimiser.npz"))
    path.write_bytes(b"PK")
    cure = "'mnx hatch --force -o mnx-run'" if stage == "members" else "'mnx train --force -o mnx-run'"
    command = ("train",) if stage == "members" else ("hatch", "--force")
    found = call(*command)
    assert found.code == 1
    assert cure in found.err
    assert "Traceback" not in found.err
    path.unlink()
    assert call(*command, "-q").code == 0


def test_help_says_what_the_options_do(call: Call) -> None:
    for command in ("hatch", "run"):
        shown = " ".join(call(command, "--help").out.split())
        for option in ("--split [random|equal]", "--noise S", "--perturb LAMBDA,GAMMA", "--perturb-layers [all|upper]"):
            assert option in shown
        assert "behind the certificate" in shown
    for command in ("train", "run"):
        assert "--fresh-momentum" in call(command, "--help").out
    assert "--noise" not in call("grow", "--help").out
