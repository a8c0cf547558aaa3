"""Curves for TensorBoard: every epoch once, however a training was interrupted; without the package a clear error."""

import dataclasses
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import opened, planned

from mnx.curves import TAGS, Curves, require_tensorboard
from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.methods.mothernets import train_mothers
from mnx.session import Session
from mnx.workspace import RunFolder


def curves(folder: Path) -> Mapping[str, Mapping[int, float]]:
    """What TensorBoard reads from a folder: tag -> step -> value. A step that is there twice is an error."""
    pytest.importorskip("tensorboard")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports are old
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[str, dict[int, float]] = {}
    for file in folder.glob("events.out.tfevents.*"):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                steps = found.setdefault(value.tag, {})
                assert event.step not in steps
                steps[event.step] = value.tensor.float_val[0]
    return found


def with_curves(run: RunFolder, *listeners: Any) -> Session:
    return replace(opened(run, Events(None, listeners)), curves=True)


def require_all(run: RunFolder) -> None:
    """Every epoch of the mother is in her curves, once."""
    training = run.training("mothers", "cluster1")
    assert training is not None
    found = curves(run.curves_folder("mothers", "cluster1"))
    assert set(found) == set(TAGS.values())
    for field in dataclasses.fields(training.epochs[0]):
        expected = {number: getattr(epoch, field.name) for number, epoch in enumerate(training.epochs, 1)}
        assert found[TAGS[field.name]] == pytest.approx(expected)


@pytest.mark.parametrize("event", ["step", "epoch"])
def test_curves_have_every_epoch_once_after_an_interruption(event: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = planned(tmp_path)

    def interrupt(heard: Event) -> None:
        if heard["event"] == event and heard["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_mothers(with_curves(run, interrupt))
    assert train_mothers(with_curves(run)) == ["cluster1"]
    require_all(run)
    assert len(list(run.path.rglob("events.out.tfevents.*"))) == 1


def test_curves_that_are_asked_for_late_are_whole_too(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = planned(tmp_path)
    train_mothers(opened(run))
    assert not list(run.path.rglob("events.out.tfevents.*"))
    Curves(run, {"mothers": ["cluster1"]}).end()
    require_all(run)
    run.clear()
    assert not (run.path / "tensorboard").exists()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MnxError, match=r"need the package tensorboard.*mothernets\[tensorboard\]"):
        require_tensorboard()
