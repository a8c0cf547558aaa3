"""What an installation can do: versions, machine, and a real step of training on every device."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from typing import Any, Final

import numpy as np

from mnx import __version__
from mnx.errors import MnxError
from mnx.graphs.errors import GraphError
from mnx.graphs.zoo.mlp import mlp
from mnx.train.engines import ENGINES, engine
from mnx.train.onnxruntime_sessions import PROVIDERS
from mnx.train.settings import StepSettings

RUNTIMES: Final = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-training",
    "onnxruntime-training-cpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
)
"""Distributions that all install the module `onnxruntime`, over each other."""

TRAINING: Final = ("onnxruntime-training-cpu", "onnxruntime-training")

PACKAGES: Final = ("numpy", "onnx", "onnx-ir", "onnx-graphsurgeon", "click", "rich", "pillow", "torch")

EXTRAS: Final = {"pillow": "reads folders of images: pip install 'mothernets[images]'"}
"""Optional packages whose absence is worth a line."""


def diagnose() -> dict[str, Any]:
    """All of it as plain data: versions, machine, engines, advice, and whether training on the CPU works."""
    installed = {name: version for name in RUNTIMES if (version := _version(name))}
    engines = [_tried(name, device) for name in ENGINES for device in PROVIDERS]
    ready = any(each["works"] and each["device"] == "cpu" for each in engines)
    versions: dict[str, str | None] = {
        "python": platform.python_version(),
        "mnx": __version__,
        **(dict(installed) if installed else {"onnxruntime": None}),
        **{name: _version(name) for name in PACKAGES},
    }
    return {
        "versions": versions,
        "machine": _machine(),
        "engines": engines,
        "advice": _advice(installed, versions, ready),
        "ready": ready,
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _tried(name: str, device: str) -> dict[str, Any]:
    """One engine on one device, tried with a step of training of a tiny network."""
    model = mlp("probe", (4,), (4,), 2, seed=0)
    found: dict[str, Any] = {"engine": name, "device": device, "works": False, "reason": ""}
    try:
        trainer = engine(name, device, 1, model, StepSettings(), 0)
        loss, _ = trainer.step(np.ones((2, 4), np.float32), np.array([0, 1]), 0.1)
    except (MnxError, GraphError, AttributeError, RuntimeError, OSError) as error:
        # AttributeError: of two runtimes in one place one was removed, and an empty module is left
        return found | {"reason": str(error)}
    return found | {"works": bool(np.isfinite(loss))}


def _advice(installed: dict[str, str], versions: dict[str, str | None], ready: bool) -> list[str]:
    lines = []
    if len(installed) > 1:
        lines.append(
            f"{', '.join(installed)} install the same module over each other: pip uninstall -y {' '.join(installed)}; "
            "pip install 'mothernets[cpu]'"
        )
    elif not any(name in installed for name in TRAINING):
        remove = f"pip uninstall -y {' '.join(installed)}; " if installed else ""
        lines.append(f"no onnxruntime that trains: {remove}pip install 'mothernets[cpu]' (Python 3.10 to 3.12)")
    elif not ready:
        lines.append("the runtime is broken: pip install --force-reinstall 'mothernets[cpu]'")
    lines.extend(f"no {name}, which {text}" for name, text in EXTRAS.items() if versions[name] is None)
    return lines


def _machine() -> dict[str, Any]:
    found: dict[str, Any] = {"system": platform.platform(), "cores": _cores()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"
    return {**found, "gpus": _gpus()}


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> str:
    """What NVIDIA's driver lists."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "none (there is no nvidia-smi)"
    asked = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    return "; ".join(answer.stdout.split("\n")).strip("; ") or "none"
