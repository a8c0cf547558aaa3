"""CUDA's libraries for ONNX Runtime: loaded from NVIDIA's wheels, and named exactly where one is missing.

The CUDA wheel of onnxruntime-training 1.19.2 is built for CUDA 11.8 and cuDNN 8 and brings neither. The wheels
nvidia-*-cu11 do, in folders that the system's loader does not know; what is loaded once is found by its name.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

WHEELS: Final[Mapping[str, str]] = {
    "libcudart.so.11.0": "nvidia-cuda-runtime-cu11",
    "libcublasLt.so.11": "nvidia-cublas-cu11",
    "libcublas.so.11": "nvidia-cublas-cu11",
    "libcurand.so.10": "nvidia-curand-cu11",
    "libcufft.so.10": "nvidia-cufft-cu11",
    "libcudnn.so.8": "'nvidia-cudnn-cu11<9'",
    **{
        f"libcudnn_{part}.so.8": "'nvidia-cudnn-cu11<9'"
        for part in ("ops_infer", "ops_train", "cnn_infer", "cnn_train", "adv_infer", "adv_train")
    },
}
"""Library -> the wheel that brings it, in an order in which they can be loaded."""

DRIVER: Final = "libcuda.so.1"
PROVIDER: Final = "libonnxruntime_providers_cuda.so"


def load_libraries() -> None:
    """Load the libraries that lie in NVIDIA's wheels; what is not there is looked for by the system as ever."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    for library in WHEELS:
        for path in [path for folder in folders for path in sorted(folder.glob(f"*/lib/{library}"))][:1]:
            _load(path)


def missing(folder: Path) -> str:
    """Why the CUDA provider in the folder of onnxruntime's libraries cannot be loaded, and the cure; '' if it can."""
    if not (folder / PROVIDER).exists():
        return f"{folder / PROVIDER} is missing: pip install 'mothernets[cuda]' in a fresh environment"
    # Without a driver the provider ends the whole process while it is loaded.
    if problem := _load(Path(DRIVER)):
        return f"NVIDIA's driver is missing ({problem}): install it, or start the container with the GPU's libraries"
    _load(folder / "libonnxruntime_providers_shared.so")
    # The provider does not name the parts of cuDNN; without one cuDNN ends the process at a network's first step.
    parts = [Path(library) for library in WHEELS if library.startswith("libcudnn_")]
    problem = _load(folder / PROVIDER) or next(filter(None, map(_load, parts)), "")
    found = re.match(r"(lib\S+?\.so[.\d]*): cannot open", problem)
    wheel = WHEELS.get(found[1]) if found else None
    return f"{problem}: pip install {wheel}" if wheel else problem


def _load(path: Path) -> str:
    """Load a library for all to see; what the loader says where it cannot."""
    try:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    return ""
