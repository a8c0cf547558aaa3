"""What `mnx mother` says beside the clusters: what is counted, what training will cost, what every tau gives."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from calling import Call

from mnx.cli.output import shortened
from mnx.forecast import ASSUMED
from mnx.graphs import onnx_file

WIDTHS = pytest.mark.parametrize("width", [80, 120])


LONG = "a_very_long_name_that_a_framework_has_given_" * 2


def words(text: str) -> str:
    return " ".join(text.split())


@WIDTHS
def test_the_forecast_stands_below_the_clusters(
    width: int, call: Call, members: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = call("mother", *members, "--dry-run", "--data", "digits", "--rate", "1e9").out
    assert all(len(line) <= width for line in out.splitlines())
    assert "for 1,294 training examples" in out
    assert "all trained parameters are counted" in out
    assert "of training from scratch (" in words(out)
    assert f"assumed: {ASSUMED.scratch} epochs from scratch (measured " in words(out)
    assert "scratch time" in words(out) or "scratch" in out


def test_the_forecast_as_json(call: Call, members: list[Path]) -> None:
    given = ("--epochs-scratch", "10", "--epochs-mother", "8", "--epochs-member", "2")
    document = json.loads(call("mother", *members, "--dry-run", *given, "--json").out)["forecast"]
    assert document["epochs"] == {"scratch": 10, "mother": 8, "member": 2}
    assert document["examples"] is None and document["measured_range"] is None
    assert document["total"]["share"] == document["total"]["total"] / document["total"]["scratch"]
    assert document["pays"]


def test_a_run_that_has_trained_forecasts_in_time(call: Call, members: list[Path]) -> None:
    call("run", *members, "--data", "digits", "--epochs", "2", "-q")
    document = json.loads(call("mother", *members, "--json").out)["forecast"]
    assert document["rate"] > 0
    assert document["examples"] == 1280  # whole batches
    assert document["total"]["seconds"] > 0


def test_where_mothering_cannot_pay_the_figures_are_shown_and_nothing_is_refused(
    call: Call, members: list[Path]
) -> None:
    alone = call("mother", *members, "--tau", "1.0", "--dry-run")
    assert alone.code == 0
    share = (ASSUMED.mother + ASSUMED.member) / ASSUMED.scratch
    assert f"{100 * share:.0f} % of training from scratch" in words(alone.out)
    dear = call("mother", *members, "--epochs-mother", "500", "--dry-run")
    assert dear.code == 0
    assert "mothering cannot pay here" in words(dear.out)
    assert "--sweep" in dear.out


def test_a_run_says_what_it_is_expected_to_cost(call: Call, members: list[Path]) -> None:
    brief = ["--data", "digits", "--set", "mothers.epochs=3", "--set", "members.epochs=1"]
    loud = call("run", *members, *brief)
    assert "expected cost: " in loud.err
    assert "cannot pay" not in loud.err
    again = call("run", *members, *brief)
    assert "expected cost" not in again.err
    # mothers and members that take as long as members from scratch cannot pay
    equal = call("run", *members, "--data", "digits", "--epochs", "2", "-o", "equal")
    assert "mothering cannot pay here" in equal.err
    alone = call("run", *members, "--data", "digits", "--epochs", "2", "--tau", "1.0", "-o", "alone")
    assert alone.code == 0
    assert "mothering cannot pay here" in alone.err


def test_what_is_counted_is_shown_and_kept(call: Call, members: list[Path], tmp_path: Path) -> None:
    out = call("mother", *members, "--count", "flops").out
    assert "multiply-adds of a forward pass are counted" in words(out)
    assert json.loads((tmp_path / "mnx-run" / "plan.json").read_text())["rule"] == {
        "tau": 0.5,
        "mothers": 2,
        "count": "flops",
        "norm": "auto",
    }
    refused = call("mother", *members, "--count", "conv", "-o", "other")
    assert refused.code == 1
    assert "plan without it, or choose another --count" in refused.err
    other = call("run", *members, "--data", "digits", "--count", "all")
    assert other.code == 1
    assert "planned with --tau 0.5 --seed 0 --count flops, not --count all" in words(other.err)


def test_members_are_divided_among_mothers_of_one_structure(call: Call, members: list[Path], tmp_path: Path) -> None:
    fourth = members[0].with_name("fourth.onnx")
    shutil.copy(members[0], fourth)
    four = [*members, fourth]
    assert "4 members in 2 clusters (tau = 0.5, mothers = 2)" in words(call("mother", *four).out)
    mothers = [
        onnx_file.read(tmp_path / "mnx-run" / "mothers" / f"cluster{number}" / "mother.onnx") for number in (1, 2)
    ]
    first, second = (mother.weights for mother in mothers)
    assert {name: array.shape for name, array in first.items()} == {name: array.shape for name, array in second.items()}
    assert any(not np.array_equal(first[name], second[name]) for name in first)
    both = call("run", *four, "--data", "digits", "--mothers", "2", "--clusters", "2")
    assert (both.code, "--mothers and --clusters exclude each other" in both.err) == (2, True)
    other = call("run", *four, "--data", "digits", "--mothers", "1")
    assert other.code == 1
    assert "planned with --tau 0.5 --mothers 2 --seed 0, not --mothers 1" in words(other.err)
    assert "4 members in 1 cluster (tau = 0.5)" in words(call("mother", *four, "--mothers", "1", "-o", "one").out)


@WIDTHS
def test_the_sweep_shows_what_every_tau_gives(
    width: int, call: Call, members: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    found = call("mother", *members, "--sweep", "-q")
    assert found.code == 0
    assert all(len(line) <= width for line in found.out.splitlines())
    assert not list(tmp_path.iterdir())
    document = json.loads(call("mother", *members, "--sweep", "--json").out)
    assert document["count"] == "all"
    rows = document["sweep"]
    assert rows[0]["tau"] == 1 and rows[-1]["above"] == 0
    for row in rows:
        tau = str(row["tau"])
        plan = json.loads(call("mother", *members, "--tau", tau, "--dry-run", "--json").out)
        assert [cluster["members"] for cluster in plan["clusters"]] == row["clusters"]
        assert row["forecast"]["total"]["share"] == plan["forecast"]["total"]["share"]
        assert row["mothers"] == sum(cluster["parameters"] for cluster in plan["clusters"])
    shown = [line.split()[0] for line in found.out.splitlines() if line.strip()[:2] in ("0.", "1.")]
    assert len(shown) == len(rows)
    for text, row in zip(shown, rows, strict=True):
        assert row["above"] < float(text) <= row["tau"]


@WIDTHS
def test_long_names_are_shortened_and_stay_on_one_line(
    width: int, call: Call, members: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    files = [tmp_path / f"{LONG}{path.name}" for path in members]
    for path, file in zip(members, files, strict=True):
        file.write_bytes(path.read_bytes())
    begin = ("run", *files, "--data", "digits", "--epochs", "2", "-q", "--compare", "independent")
    for out in (call("mother", *files, "--dry-run", "-q").out, call(*begin).out):
        assert all(len(line) <= width for line in out.splitlines())
        for path in members:
            (line,) = (line for line in out.splitlines() if path.stem in line.split("  ")[0].split("_"))
            assert line.startswith(("├ …", "└ …")) and "%" in line
    swept = call("mother", *files, "--sweep", "-q").out
    assert all(len(line) <= width for line in swept.splitlines())
    assert f"{shortened(LONG + 'P64')}" in swept


def test_a_name_loses_its_beginning_and_keeps_its_branch() -> None:
    assert shortened("│ ├ features.10.Conv", 12) == "│ ├ …10.Conv"
    assert shortened("├ P64", 12) == "├ P64"
    assert shortened("features.10.Conv", 8) == "…10.Conv"


def test_the_next_command_has_the_data_that_were_given(call: Call, members: list[Path], tmp_path: Path) -> None:
    assert "next: mnx train -o r --data digits" in call("mother", *members, "--data", "digits", "-o", "r", "-q").out
    assert "next: mnx train --data D" in call("mother", *members, "-q").out


def test_what_is_trained_in_another_form_is_said_and_can_be_declined(call: Call, members: list[Path]) -> None:
    plain = call("mother", *members, "--dry-run")
    assert "BatchNormalization" not in plain.out
    found = words(call("mother", *members, "--dry-run", "--norm", "restore").out)
    assert "BatchNormalization is put back for training behind layers that lost it (1 of P64, 2 of P64-64" in found
    document = json.loads(call("mother", *members, "--norm", "restore", "--json").out)
    assert document["rule"]["norm"] == "restore"
    assert {each["name"]: each["restored"] for each in document["members"]} == {"P64": 1, "P64-64": 2, "P96": 1}
    refused = call("mother", *members, "--norm", "keep")
    assert refused.code == 1
    assert "was planned with --tau 0.5 --seed 0 --norm restore, not --norm keep" in words(refused.err)
