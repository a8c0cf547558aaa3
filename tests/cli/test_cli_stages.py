"""The stage commands one after another, and the examples of every help, run as they stand."""

import json
from pathlib import Path

import pytest
from calling import Call, contents
from test_cli_help import examples

QUICK = ("--epochs", "2")


def test_stages_say_what_comes_next_and_do_nothing_twice(call: Call, members: list[Path], tmp_path: Path) -> None:
    stages = [
        (("mother", *members), "mnx train --data D"),
        (("train", "--data", "digits", *QUICK), "mnx hatch"),
        (("hatch",), "mnx train"),
        (("train",), "mnx combine"),
        (("combine",), "mnx score"),
    ]
    for arguments, following in stages:
        done = call(*arguments)
        assert done.code == 0
        assert done.out.splitlines()[-1] == f"next: {following}"
        before = contents(tmp_path)
        again = json.loads(call(*arguments, "--json").out)
        assert again["next"] == following
        assert contents(tmp_path) == before
    assert "P64-64" in call("score").out
    assert "nothing to do: all members are trained" in call("train").out
    assert "nothing to do: all 3 members are hatched" in call("hatch").out


def test_stages_name_another_run_folder_in_what_comes_next(call: Call, members: list[Path]) -> None:
    done = call("mother", *members, "-o", "my run", "-q")
    assert done.out.splitlines()[-1] == "next: mnx train -o 'my run' --data D"


def test_a_dry_run_writes_nothing(call: Call, members: list[Path], tmp_path: Path) -> None:
    done = call("mother", *members, "--dry-run", "--clusters", "2")
    assert done.code == 0
    assert "3 members in 2 clusters (clusters = 2)" in done.out
    assert not list(tmp_path.iterdir())
    document = json.loads(call("mother", *members, "--dry-run", "--json").out)
    assert document["written"] is False
    assert [cluster["members"] for cluster in document["clusters"]] == [["P64", "P96", "P64-64"]]
    assert not list(tmp_path.iterdir())


def test_train_again_with_force(call: Call, members: list[Path], tmp_path: Path) -> None:
    call("mother", *members)
    call("train", "--data", "digits", *QUICK)
    trained = tmp_path / "mnx-run" / "mothers" / "cluster1" / "training.json"
    assert len(json.loads(trained.read_text())["epochs"]) == 2
    done = json.loads(call("train", "--data", "digits", "--epochs", "3", "--force", "--json").out)
    assert done["trained"] == ["cluster1"]
    assert len(json.loads(trained.read_text())["epochs"]) == 3
    assert json.loads((tmp_path / "mnx-run" / "settings.json").read_text())["recipe"]["epochs"] == 3
    call("hatch")
    assert json.loads(call("train", "--json").out)["stage"] == "members"
    again = json.loads(call("train", "--force", "--json").out)
    assert again["trained"] == ["P64", "P64-64", "P96"]


def test_untrained_members_never_replace_hatched_ones(call: Call, members: list[Path], tmp_path: Path) -> None:
    call("mother", *members)
    look = call("hatch", "--untrained")
    assert look.code == 0
    assert "from untrained mothers" in look.out
    assert look.out.splitlines()[-1] == "next: mnx train --data D"
    call("train", "--data", "digits", *QUICK)
    assert json.loads(call("hatch", "--json").out)["hatched"] == ["P64", "P64-64", "P96"]
    before = contents(tmp_path)
    refused = call("hatch", "--untrained")
    assert refused.code == 1
    assert "replace them with --force" in refused.err
    assert contents(tmp_path) == before
    assert call("hatch", "--untrained", "--force").code == 0


def test_certificates_are_shown(call: Call, members: list[Path]) -> None:
    call("mother", *members)
    call("train", "--data", "digits", *QUICK)
    document = json.loads(call("hatch", "--json").out)
    checks = document["certificates"]["P96"]["checks"]
    assert [check["inputs"] for check in checks] == ["random", "training", "validation", "extreme"]
    assert all(check["passed"] and check["binding"] for check in checks)
    shown = call("hatch").out
    lines = [line.split() for line in shown.splitlines()]
    assert ["P64", "random", "64", "eval", "0"] in [words[:5] for words in lines]
    assert all(len(line.rstrip()) <= 100 for line in shown.splitlines())


def test_certificates_of_an_earlier_version_are_made_again_with_force(
    call: Call, members: list[Path], tmp_path: Path
) -> None:
    call("mother", *members)
    call("hatch", "--untrained")
    file = tmp_path / "mnx-run" / "members" / "P96" / "certificate.json"
    old = json.loads(file.read_text())
    del old["schema"]
    file.write_text(json.dumps(old))
    refused = call("hatch", "--untrained")
    assert refused.code == 1
    assert "another version of mnx wrote it" in refused.err
    assert "hatch again with 'mnx hatch --force" in refused.err
    assert call("hatch", "--untrained", "--force").code == 0
    assert call("hatch", "--untrained").code == 0


def test_a_retrained_ensemble_is_combined_again(call: Call, members: list[Path], tmp_path: Path) -> None:
    call("run", *members, "--data", "digits", *QUICK)
    first = contents(tmp_path)["mnx-run/ensemble.onnx"]
    for name in ("training.json", "trained.onnx"):
        (tmp_path / "mnx-run" / "members" / "P64" / name).unlink()
    assert call("combine").code == 1
    assert json.loads(call("train", "--json").out)["trained"] == ["P64"]
    assert json.loads(call("combine", "--json").out)["next"] == "mnx score"
    assert contents(tmp_path)["mnx-run/ensemble.onnx"] == first  # the same seed trains the same weights


def test_snapshots_are_said_wherever_networks_are_counted(call: Call, members: list[Path]) -> None:
    cycles = ("--set", "members.schedule=cycles", "--set", "members.cycle=1", "--set", "members.snapshots=true")
    done = call("run", *members, "--data", "digits", "--epochs", "2", *cycles)
    assert done.code == 0
    assert "3 members and 3 snapshots combined: " in done.err
    for text in (done.out, call("score").out):
        header, row = [line for line in text.splitlines() if line.startswith(("ensemble  ", "MotherNets  "))]
        assert header.split()[1] == "networks"
        assert row.split()[1] == "6"
    document = json.loads(call("score", "--json").out)["members"]
    assert document["ensemble"]["networks"] == 6
    assert [len(network["snapshots"]) for network in document["networks"].values()] == [1, 1, 1]
    assert "averages 3 members and 3 snapshots of them" in call("combine").out
    assert json.loads(call("combine", "--json").out)["networks"] == 6
    assert "snapshots" in call("train").out
    trained = json.loads(call("train", "--json").out)["networks"]
    assert [network["snapshots"] for network in trained.values()] == [1, 1, 1]


def test_without_snapshots_no_table_speaks_of_them(call: Call, members: list[Path]) -> None:
    done = call("run", *members, "--data", "digits", "--epochs", "1")
    said = [done.out, done.err, *(call(command).out for command in ("score", "combine", "train"))]
    assert not any("snapshot" in text or "networks" in text for text in said)


def test_score_of_files(call: Call, members: list[Path], tmp_path: Path) -> None:
    without = json.loads(call("score", "--data", "digits", *members[:2], "--json").out)
    assert list(without["files"]) == [str(path) for path in members[:2]]
    assert without["ensemble"]["averaged"]["accuracy"] < 0.5
    assert "no data" in call("score", members[0]).err
    assert not list(tmp_path.iterdir())
    run = json.loads(call("run", *members, "--data", "digits", *QUICK, "--seed", "5", "--json").out)
    scored = json.loads(call("score", "mnx-run/ensemble.onnx", "--json").out)
    assert scored["files"]["mnx-run/ensemble.onnx"] == pytest.approx(run["members"]["ensemble"]["averaged"], abs=1e-6)
    assert scored["ensemble"] is None
    text = call("score", "mnx-run/ensemble.onnx", members[0]).out
    assert "all, averaged" in text


def shell(arguments: list[str]) -> list[str]:
    """Arguments with patterns replaced by the files that they match, as a shell does."""
    return [found for each in arguments for found in (sorted(map(str, Path().glob(each))) if "*" in each else [each])]


def test_every_example_runs_as_it_stands(call: Call, tmp_path: Path) -> None:
    stages = ("zoo", "mother", "train", "hatch", "train", "combine", "score")
    for name in (*stages, "show", "diff", "verify", "grow", "ops", "doctor"):
        for arguments in examples(name):
            done = call(*shell(arguments))
            assert done.code == 0, done.err
            assert done.out


@pytest.mark.slow
def test_the_example_of_run_runs_as_it_stands(call: Call, tmp_path: Path) -> None:
    call("zoo", "mlp", "--output", "members")
    for arguments in examples("run"):
        assert call(*shell(arguments)).code == 0


def test_members_that_share_no_mother_are_told_what_to_do(call: Call, members: list[Path]) -> None:
    found = call("mother", *members, "--tau", "1.0", "--dry-run")
    assert found.code == 0
    assert "no two members share a mother (tau = 1.0)" in " ".join(found.out.split())
    assert "no two members" not in call("mother", *members, "--clusters", "1", "--dry-run").out
