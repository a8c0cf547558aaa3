"""Members are handed back as their users gave them: opset, names, metadata and float types, through a whole run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto
from small_runs import NAMES, contents, opened

from mnx.ensemble import predicted_by
from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.graphs.model import Model, Origin, Precision, model_hash
from mnx.graphs.zoo.ensembles import ensemble
from mnx.pipeline import hatch_next, run_all
from mnx.planning import plan_members
from mnx.train.recipe_files import recipe
from mnx.workspace import ORIGINAL, RunFolder

SINGLE = Precision()
HALF = Precision("float16", "float32", "float32")
ORIGINS = {
    "P64": Origin(13, 7, "main_graph", "", "what it is", "pytorch", "2.0", batch={"input": "batch_size"}),
    "P96": Origin(17, 8, "other", "", "", "tf2onnx", "1.17", batch={"input": "unk__1"}),
    "P64-64": Origin(23, 11, "newest", "", "", "jax2onnx", "0.17", batch={"input": "B"}),
}


def user_members(folder: Path, precision: Precision = SINGLE) -> list[Path]:
    """Members as three exporters wrote them."""
    paths = []
    for model in ensemble("mlp"):
        if model.name in NAMES:
            batch = {port.name: next(iter(ORIGINS[model.name].batch.values())) for port in model.inputs}
            origin = replace(ORIGINS[model.name], batch=batch)
            paths.append(folder / f"{model.name}.onnx")
            given = model.replace(origin=origin, precision=precision, metadata={"author": model.name})
            onnx_file.write(given, paths[-1], form="original")
    return paths


def planned(folder: Path, precision: Precision = SINGLE) -> RunFolder:
    run = RunFolder(folder / "run")
    plan_members(user_members(folder / "members", precision), run, Events())
    return run


def says(path: Path) -> list[Any]:
    """What a file says of itself, and of its ends."""
    proto = onnx.load(path, load_external_data=False)
    metadata = {
        entry.key: entry.value for entry in proto.metadata_props if entry.key not in ("mnx.changes", "precision")
    }
    words = [proto.producer_name, proto.producer_version, proto.doc_string, proto.graph.name, metadata]
    ends = [value.SerializeToString() for value in (*proto.graph.input, *proto.graph.output)]
    return [proto.opset_import[0].version, proto.ir_version, *words, *ends]


def changes(path: Path) -> list[str]:
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return list(json.loads(metadata.get("mnx.changes", "[]")))


def float_types(path: Path) -> set[int]:
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    return {tensor.data_type for tensor in onnx.load(path).graph.initializer if tensor.data_type in floats}


def test_a_run_gives_members_back_as_their_users_gave_them(tmp_path: Path) -> None:
    run = planned(tmp_path)
    found = run_all(opened(run), "independent")
    assert found["members"]["ensemble"]["averaged"]["accuracy"] > 0.5
    for name in NAMES:
        given = tmp_path / "members" / f"{name}.onnx"
        files = [run.start_file("members", name), run.trained_file("members", name)]
        files += [run.start_file("independent", name), run.trained_file("independent", name)]
        for file in files:
            assert says(file) == says(given)
        assert run.originals("members", [name]) == {}
        certificate = run.read_json(run.certificate_file(name))
        assert certificate["changes"] == changes(files[0]) == changes(files[1])
    before = contents(run.path)
    run_all(opened(run), "independent")
    assert contents(run.path) == before


def test_a_hatched_file_holds_the_bits_of_the_certified_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, written, write = planned(tmp_path), dict[str, Model](), onnx_file.write

    def kept(model: Model, path: Path, *arguments: Any, **options: Any) -> tuple[str, ...]:
        written[str(path)] = model
        return write(model, path, *arguments, **options)

    monkeypatch.setattr(onnx_file, "write", kept)
    hatch_next(opened(run), untrained=True)
    for name in NAMES:
        path = run.start_file("members", name)
        assert model_hash(onnx_file.read(path)) == model_hash(written[str(path)])


def test_members_in_half_precision_are_given_back_in_it(tmp_path: Path) -> None:
    run = planned(tmp_path, HALF)
    session = opened(run)
    run_all(session)
    assert set(run.originals("members", NAMES)) == set(NAMES)
    assert run.originals("mothers", ["cluster1"]) == {}
    x = session.dataset.test.x(slice(50))
    for name in NAMES:
        original, trained = run.originals("members", NAMES)[name], run.trained_file("members", name)
        assert float_types(original) == {TensorProto.FLOAT16}
        assert float_types(trained) == {TensorProto.FLOAT}
        assert says(original) == says(tmp_path / "members" / f"{name}.onnx")
        assert onnx_file.read(trained).precision == HALF
        assert any("float16" in change for change in run.read_json(run.certificate_file(name))["changes"])
        if ORIGINS[name].opset < 22:
            own, working = (predicted_by(path, onnx_file.read(path), x) for path in (original, trained))
            assert abs(own - working).max() < 0.02
    before = contents(run.path)
    run_all(opened(run))
    assert contents(run.path) == before
    run.forget_training("members", "P64")
    assert set(run.originals("members", NAMES)) == {"P96", "P64-64"}
    run.clear()
    assert not list(run.path.rglob(ORIGINAL))


CYCLES = {"lr": "0.1", "schedule": "cycles", "cycle": "2", "epochs": "4", "members.snapshots": "true"}


def test_snapshots_in_half_precision_are_given_back_in_it(tmp_path: Path) -> None:
    run = planned(tmp_path, HALF)
    session = opened(run, recipe=recipe(CYCLES))
    run_all(session)
    found, x = run.originals("members", NAMES), session.dataset.test.x(slice(50))
    assert set(found) == {*NAMES, *(f"{name}/snapshot-1" for name in NAMES)}
    for name in NAMES:
        assert found[f"{name}/snapshot-1"] == run.folder("members", name) / "snapshot-1.original.onnx"
        working = run.network_files("members", name)
        for key in (name, f"{name}/snapshot-1"):
            assert float_types(found[key]) == {TensorProto.FLOAT16}
            assert float_types(working[key]) == {TensorProto.FLOAT}
        if ORIGINS[name].opset < 22:
            answers = {key: predicted_by(found[key], onnx_file.read(found[key]), x) for key in working}
            for key, file in working.items():
                assert abs(answers[key] - predicted_by(file, onnx_file.read(file), x)).max() < 0.02
            assert abs(answers[name] - answers[f"{name}/snapshot-1"]).max() > 0.02
    run.forget_training("members", "P64")
    assert not list(run.folder("members", "P64").glob("*snapshot*"))
    run.clear()
    assert not list(run.path.rglob("*.original.onnx"))


def test_weights_that_their_type_cannot_hold_stay_in_float32_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, heard, write = planned(tmp_path, HALF), list[Event](), onnx_file.write

    def grown(model: Model, path: Path, *arguments: Any, **options: Any) -> tuple[str, ...]:
        if options.get("form") == "original":
            model = model.with_weights({name: 1e6 + array for name, array in model.weights.items()})
        return write(model, path, *arguments, **options)

    monkeypatch.setattr(onnx_file, "write", grown)
    run_all(opened(run, Events(None, [heard.append])))
    assert not run.originals("members", NAMES)
    left = [event for event in heard if event["event"] == "left in float32"]
    assert {event["network"] for event in left} == set(NAMES)
    assert all("has become too large for float16" in event["reason"] for event in left)
