"""Recipes on the command line: printed, read from files, with keys and budgets on top, kept with the run."""

import json
from pathlib import Path

import pytest
from calling import Call

from mnx.train.recipe import Recipe
from mnx.train.recipe_files import from_toml, names, recipe


@pytest.mark.parametrize("name", names())
def test_a_printed_recipe_is_that_recipe(call: Call, name: str) -> None:
    printed = call("recipe", name)
    assert printed.code == 0
    assert from_toml(printed.out, "printed") == recipe(source=name)
    assert json.loads(call("recipe", name, "--json").out)["recipe"] == recipe(source=name).to_json()


def test_the_list_names_all_and_every_key_is_explained(call: Call) -> None:
    assert set(json.loads(call("recipe", "--json").out)["recipes"]) == set(names())
    keys = json.loads(call("recipe", "--keys", "--json").out)["keys"]
    assert keys.keys() == vars(Recipe()).keys() - {"stages"}
    assert all(key["about"] and key["legal"] for key in keys.values())
    assert keys["anneal"]["stages"] == {"mothers": 0}


def test_an_unknown_recipe_gets_the_list(call: Call) -> None:
    found = call("recipe", "quick")
    assert found.code == 1
    assert "no recipe 'quick'; there are default, fast, paper" in found.err


def test_a_run_is_trained_by_a_file_with_keys_on_top_and_remembers_them(call: Call, members: list[Path]) -> None:
    Path("mine.toml").write_text("epochs = 2\nlr = 0.02\n[members]\nlr = 0.01\n", encoding="utf-8")
    assert call("mother", *members).code == 0
    begun = call("train", "--data", "digits", "--recipe", "mine.toml", "--set", "batch=64")
    assert begun.code == 0, begun.err
    kept = json.loads(Path("mnx-run/settings.json").read_text())["recipe"]
    assert (kept["epochs"], kept["lr"], kept["batch"], kept["stages"]["members"]["lr"]) == (2, 0.02, 64, 0.01)
    assert call("train", "--recipe", "mine.toml", "--set", "batch=64").code == 0
    other = call("train", "--recipe", "fast")
    assert other.code == 1
    assert "this run is trained with" in other.err
    assert call("hatch").code == 0
    assert call("train").code == 0


def test_budgets_are_keys_of_the_recipe(call: Call, members: list[Path]) -> None:
    assert call("mother", *members).code == 0
    assert call("train", "--data", "digits", "--flops", "2e7", "--seconds", "100", "--epochs", "9").code == 0
    kept = json.loads(Path("mnx-run/settings.json").read_text())["recipe"]
    assert (kept["multiply_adds"], kept["seconds"], kept["epochs"]) == (2e7, 100.0, 9)
    (training,) = Path("mnx-run/mothers").rglob("training.json")
    assert json.loads(training.read_text())["multiply_adds"] <= 2e7
    twice = call("train", "--epochs", "9", "--set", "epochs=9")
    assert twice.code == 2
    assert "'epochs' of the recipe is given twice" in twice.err


def test_a_recipe_with_augmentation_and_an_average_trains_images(call: Call) -> None:
    assert call("zoo", "resnet", "--output", "members").code == 0
    found = call(
        *(
            "run",
            "members/R8.onnx",
            "members/R8W.onnx",
            "--data",
            "digits",
            "--recipe",
            "fast",
            "--epochs",
            "6",
            "--json",
        ),
        *(
            "--train-limit",
            "300",
            "--set",
            "batch=64",
            "--set",
            "mixup=0.2",
            "--set",
            "cutout=2",
            "--set",
            "crop=1",
            "--set",
            "average=0.5",
        ),
    )
    assert found.code == 0, found.err
    assert json.loads(found.out)["members"]["ensemble"]["averaged"]["accuracy"] > 0.3


def test_a_file_is_checked_and_printed(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("# mine\nlr = 0.02\n")
    assert call("recipe", path).out == "# mine\nlr = 0.02\n"
    assert json.loads(call("recipe", path, "--json").out)["recipe"]["lr"] == 0.02
    path.write_text("lr = 200\n")
    assert "mine.toml: recipe: lr = 200.0: give a number above 0 and below 100" in call("recipe", path).err
