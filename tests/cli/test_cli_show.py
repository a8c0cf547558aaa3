"""The commands that only look: show, ops, zoo, doctor; and progress."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.parser
import pytest
from calling import Call
from rich.console import Console

from mnx import diagnosis
from mnx.cli.output import Grid, large, percent, seconds
from mnx.cli.progress import Bar
from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.ops.table import RULES
from mnx.graphs.trees.structure import BATCH
from mnx.graphs.zoo.ensembles import ENSEMBLES, ensemble


def test_show_prints_the_tree_and_the_groups(call: Call, tmp_path: Path) -> None:
    onnx_file.write(ensemble("resnet")[0], tmp_path / "R8.onnx")
    out = call("show", "R8.onnx").out
    assert "19,810 trained parameters" in out
    lines = [line.rstrip() for line in out.splitlines()]
    assert any(line.startswith("├ shortcut") for line in lines)
    assert any(line.startswith("└ Add") and "block1_1.add" in line for line in lines)
    group = next(line for line in lines if line.startswith("g0 "))
    assert "stem.weight[0], stem_norm.*, block1_1.first.weight[1]" in group
    document = json.loads(call("show", "R8.onnx", "--json").out)
    assert document["parameters"] == 19810
    assert document["changes"] == []


def test_show_tells_of_a_head(call: Call, members: list[Path], tmp_path: Path) -> None:
    call("run", *members, "--data", "digits", "--epochs", "2", "-q")
    document = json.loads(call("show", members[0], "--json").out)
    assert document["head"] == []
    whole = json.loads(call("show", "mnx-run/ensemble.onnx", "--json").out)
    assert whole["parameters"] == sum(json.loads(call("show", path, "--json").out)["parameters"] for path in members)


def test_ops_lists_every_rule(call: Call) -> None:
    document = json.loads(call("ops", "--json").out)["ops"]
    assert set(document) == set(RULES)
    assert document["Conv"]["parameters"][0] == {
        "input": 1,
        "kind": "weight",
        "axes": ["produce", "contract", "kernel"],
        "operand": False,
    }
    assert document["Max"]["commutative"] and not document["Max"]["identity"]
    assert document["LayerNormalization"]["mixes"] and not document["Relu"]["mixes"]
    assert document["Conv"]["gradient"] == "as it is, with explicit pads"
    listed = call("ops").out
    assert all(name in listed for name in RULES)


def test_ops_tells_all_of_one_op(call: Call) -> None:
    out = call("ops", "Conv").out
    assert "weight: out, in, space" in out
    assert "dilations, strides" in out
    assert "as it is, with explicit pads" in out
    assert "Gemm" not in out
    assert list(json.loads(call("ops", "Conv", "--json").out)["ops"]) == ["Conv"]
    wrong = call("ops", "Convolution")
    assert wrong.code == 1
    assert "Convolution has no rule" in wrong.err


def test_every_rule_says_how_it_ties_axes_and_ops_prints_it(call: Call) -> None:
    document = json.loads(call("ops", *RULES, "--json").out)["ops"]
    assert [name for name, rule in RULES.items() if not (rule.tie.__doc__ or "").strip()] == []
    assert [name for name in RULES if not document[name]["ties"]] == []
    printed = " ".join(call("ops", *RULES).out.split())
    assert [name for name in RULES if f"ties {document[name]['ties']}"[:40] not in printed] == []


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_wider_than_the_terminal_nor_breaks_a_word(
    width: int, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    model = ensemble("resnet")[0]
    nodes = tuple(replace(node, name=f"/a/very/long/module/path/{node.name}") for node in model.nodes)
    onnx_file.write(model.replace(nodes=nodes), tmp_path / "R8.onnx")
    shown = call("show", "R8.onnx").out
    listed = call("ops").out
    for out in (shown, listed):
        assert all(len(line) <= width for line in out.splitlines())
    table = shown.split("\n\n")[1].splitlines()
    assert sum("path/" in line or "…" in line for line in table) == len(nodes)  # one line an op
    assert all(name in listed for name in RULES)


def test_show_says_what_a_model_is_without_names(call: Call, tmp_path: Path) -> None:
    for seed in (1, 2):
        onnx_file.write(ensemble("resnet", seed=seed)[0], tmp_path / f"R{seed}.onnx")
    trees = [json.loads(call("show", f"R{seed}.onnx", "--json").out)["tree"] for seed in (1, 2)]
    assert trees[0] == trees[1]


def written(folder: Path, text: str) -> Path:
    onnx.save(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> net {text}'), folder / "net.onnx")
    return folder / "net.onnx"


TURNED = f"""(float[n, 5, 3] x) => (float[n, 2] y)
<float[1, 6, 3] w = {{{", ".join(map(str, range(18)))}}}, float[1, 6, 2] r = {{{", ".join(map(str, range(12)))}}},
 int64[1] zero = {{0}}, float[2, 2] v = {{1, 2, 3, 4}}, float[2] b = {{1, 2}}>
{{ t = Transpose<perm = [1, 0, 2]>(x) all, last = GRU<hidden_size = 2>(t, w, r) h = Squeeze(last, zero)
   y = Gemm<transB = 1>(h, v, b) }}"""
"""Its batch stands at axis 1 until the end."""


def test_the_batch_is_n_where_it_is_not_the_first_axis(call: Call, tmp_path: Path) -> None:
    path = written(tmp_path, TURNED)
    out = call("show", path).out
    assert "5xnx3" in out
    document = json.loads(call("show", path, "--json").out)
    shapes = {unit["op"]: (unit["output"], unit["axes"]) for unit in document["series"]}
    assert shapes["Transpose"] == ([5, "n", 3], ["5", "n", "3"])
    assert shapes["Gemm"] == ([2], ["2"])
    compared = call("diff", path, path)
    assert "5xnx3" in compared.out
    everything = out + json.dumps(document) + compared.out + call("diff", path, path, "--json").out
    assert str(BATCH) not in everything


def test_show_says_the_input_that_the_user_gives(call: Call, tmp_path: Path) -> None:
    text = """(float[n, 8, 6, 3] image) => (float[n, 2] y)
    <float[2, 3, 1, 1] w = {1, 2, 3, 4, 5, 6}, float[2] b = {1, 2}>
    { t = Transpose<perm = [0, 3, 1, 2]>(image) c = Conv(t, w, b) p = GlobalAveragePool(c) y = Flatten(p) }"""
    path = written(tmp_path, text)
    assert "input 'image' float32 8x6x3, read as 3x8x6" in call("show", path).out
    assert json.loads(call("show", path, "--json").out)["given"] == [
        {"name": "image", "dtype": "float32", "shape": [8, 6, 3]}
    ]


def test_zoo_lists_and_writes(call: Call, tmp_path: Path) -> None:
    listed = json.loads(call("zoo", "--json").out)
    assert set(listed) == set(ENSEMBLES)
    assert listed["mlp"]["P64"]["parameters"] == 4810
    assert not list(tmp_path.iterdir())
    done = json.loads(call("zoo", "mlp", "--output", "m", "--classes", "3", "--input", "2,5,5", "--json").out)
    model = onnx_file.read(tmp_path / done["files"][0])
    assert model.inputs[0].shape == (2, 5, 5)
    assert model.outputs[0].shape == (3,)
    assert call("zoo", "mpl", "--output", "m").code == 1


def test_doctor_trains_a_step(call: Call) -> None:
    found = call("doctor", "--json")
    assert found.code == 0
    document = json.loads(found.out)
    assert document["ready"]
    assert document["engines"][0] == {"engine": "ort", "device": "cpu", "works": True, "reason": ""}
    text = call("doctor").out
    assert "training on the CPU works" in text
    assert "numpy" in text


def test_doctor_says_what_is_missing(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> None:
        raise MnxError("there is no runtime")

    monkeypatch.setattr(diagnosis, "engine", missing)
    found = call("doctor", "--json")
    assert found.code == 1
    document = json.loads(found.out)
    assert {engine["reason"] for engine in document["engines"]} == {"there is no runtime"}
    assert any("pip install" in line for line in document["advice"])


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        ({"onnxruntime": "1.20", "onnxruntime-training-cpu": "1.19.2"}, "install the same module over each other"),
        ({"onnxruntime": "1.20"}, "pip uninstall -y onnxruntime; pip install 'mothernets[cpu]'"),
        ({}, "no onnxruntime that trains: pip install 'mothernets[cpu]'"),
    ],
)
def test_doctor_warns_of_the_wrong_runtimes(
    installed: dict[str, str], words: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "_version", installed.get)
    assert any(words in line for line in json.loads(call("doctor", "--json").out)["advice"])


def test_progress_is_on_stderr_and_can_be_silenced(call: Call, members: list[Path]) -> None:
    loud = call("mother", *members)
    assert "cluster1: 4,810 parameters for P64, P96, P64-64" in loud.err
    assert not call("mother", *members, "-o", "other", "-q").err


def rendered(bar: Bar, width: int = 100) -> str:
    """What a bar shows now, without colours."""
    written = io.StringIO()
    Console(file=written, width=width).print(bar.shown())
    return written.getvalue()


def test_the_bar_shows_stage_network_epoch_and_what_is_finished() -> None:
    written = io.StringIO()
    with Bar(Console(file=written, force_terminal=True, width=100, height=20)) as bar:
        bar({"event": "read", "network": "P64", "done": 1, "total": 2})
        costs = dict.fromkeys(("P64", "P96", "P64-64"), 1)
        stage = {"event": "stage", "stage": "members", "networks": costs, "trained": []}
        bar({**stage, "limit": 9, "jobs": 2, "threads": 1})
        for name in ("P64", "P96"):
            bar({"event": "start", "stage": "members", "network": name, "limit": 9, "number": 2, "total": 5})
            for step in (1, 2):
                common = {
                    "event": "step",
                    "stage": "members",
                    "network": name,
                    "epoch": 3,
                    "steps": 4,
                    "task": "classes",
                }
                bar({**common, "step": step, "loss": 0.5, "accuracy": 0.75})
        written.write(rendered(bar))
        finished = {"event": "trained", "stage": "members", "network": "P64", "epochs": 9}
        bar({**finished, "validation_score": 0.9, "seconds": 1.25})
    text = written.getvalue()
    for name in ("P64", "P96"):
        assert re.search(rf"{name}\s+\S+\s+3/9\s+loss 0.500 train 75.0 % ", text)
    assert "waiting" in text
    assert "members 0/3 trained, 2 at once" in text
    assert "members P64: trained, 9 epochs, validation 90.0 %, 1.25 s" in text


def test_narrow_terminals_lose_optional_columns_first() -> None:
    table = Grid(("name", ">number", "?>luxury"))
    table.add("P64", "12345", "67890", style="bold")
    for width, expected in ((80, True), (14, False)):
        console = Console(width=width, file=io.StringIO())
        headers = [str(column.header) for column in table.fitted(console).columns]
        assert ("luxury" in headers) is expected
        assert "number" in headers


def test_narrow_terminals_shorten_names_at_their_beginning_first() -> None:
    table = Grid(("=op", "~node", "?>luxury"))
    table.add("Conv", "/features/features.10/Conv", "67890")
    written = io.StringIO()
    console = Console(width=32, file=written)
    console.print(table.fitted(console))
    assert "…/features.10/Conv" in written.getvalue()
    assert "67890" in written.getvalue()
    narrow = table.fitted(Console(width=20, file=io.StringIO()))
    assert [str(column.header) for column in narrow.columns] == ["op", "node"]


def test_numbers_are_written_alike() -> None:
    assert [large(value) for value in (7, 4736, 17000, 2846146560)] == ["7", "4.74 k", "17.0 k", "2.85 G"]
    assert [large(value) for value in (999_400, 999_600, 1.3e18)] == ["999 k", "1.00 M", "1.30 E"]
    assert [seconds(value) for value in (0.5, 12.34, 75, 3723)] == ["0.50 s", "12.3 s", "1:15 min", "1:02:03 h"]
    assert percent(0.9634) == "96.3 %"
