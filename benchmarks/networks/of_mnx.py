"""The networks of `torch_networks` as mnx builds them, what their steps are made with, and a look into a step."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import mnx.train.onnxruntime_sessions as sessions
from mnx.graphs.model import Model
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import parse_blocks, vgg
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings

SETTINGS = StepSettings(momentum=0.9, nesterov=True, weight_decay=5e-4)
NETWORKS: Mapping[str, Callable[[], Model]] = {
    "MLP": lambda: mlp("mlp", 784, (1024, 1024), 10),
    "VGG-BN": lambda: vgg(
        "vgg", parse_blocks("(3:32)x2 | (3:64)x2 | (3:128)x2 | (3:256)x2"), 10, (3, 32, 32), (128,), batch_norm=True
    ),
    "ResNet-20": lambda: resnet("resnet20", (3, 3, 3), 16, 10, (3, 32, 32)),
}


def profiled(make: Callable[[], Engine], use: Callable[[Engine], object]) -> list[dict[str, Any]]:
    """ONNX Runtime's records of the kernels that an engine runs in steps while it is used."""
    options, number = sessions._options, count()
    with tempfile.TemporaryDirectory() as folder:

        def recording() -> Any:
            made = options()
            made.enable_profiling = True
            made.profile_file_prefix = f"{folder}/{next(number)}"
            return made

        sessions._options = recording
        try:
            engine = make()
            steps = engine.together([])
        finally:
            sessions._options = options
        use(engine)
        events = json.loads(Path(steps._session.end_profiling()).read_text())
    return [each for each in events if each.get("cat") == "Node" and each["name"].endswith("kernel_time")]
