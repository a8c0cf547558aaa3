"""What the engine needs of onnxruntime, in the one file that imports it here: gradients, sessions, buffers."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from mnx.errors import MnxError
from mnx.graphs.model import Array
from mnx.train.cuda import load_libraries, missing
from mnx.train.cuda_opset import for_cuda

Given = ParamSpec("Given")
Made = TypeVar("Made")

PROVIDERS: Final[Mapping[str, str]] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Device -> what ONNX Runtime calls it."""

PROVIDER_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "cpu": {},
    "cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"},
}
"""float32 means float32. Of cuDNN's algorithms the default ones add in the same order at every run; which of the others
the heuristics take need not, and may take TF32."""

_INSTALL = (
    "pip install 'mothernets[cpu]' in an environment with no other onnxruntime wheel "
    "(onnxruntime, onnxruntime-gpu and onnxruntime-training install the same module)"
)
_ERRORS_ONLY = 3
_FAILED_NODE = re.compile(
    r"while running (?P<op>\S+) node\. Name:(?P<name>'.*?') Status Message: (?P<reason>.*?)(?: ;|$)"
)
_SHORT = re.compile(
    r"llocate memory|unable to allocate|out of memory|bad_alloc|bad allocation|ALLOC_FAILED", re.IGNORECASE
)
_NO_KERNEL = re.compile(r"CUDNN_STATUS_(?:INTERNAL_ERROR|NOT_SUPPORTED|EXECUTION_FAILED)")
_CLASSES = ("Fail", "EPFail", "RuntimeException")
"""Exceptions of ONNX Runtime's own that a machine can cause; its others, of graphs and arguments, are our mistakes."""


def _told(use: Callable[Given, Made]) -> Callable[Given, Made]:
    """The same use of the runtime, which tells of its failures as `MnxError`."""

    @wraps(use)
    def told(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        try:
            return use(*args, **kwargs)
        except _failures() as error:
            raise _explained(error) from error

    return told


def _failures() -> tuple[type[BaseException], ...]:
    """What is raised where an op fails or memory is short."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return (RuntimeError, MemoryError, *(getattr(state, name) for name in _CLASSES))


def _explained(error: BaseException) -> MnxError:
    """What ONNX Runtime says of a failure, in one line, and what helps."""
    said = " ".join(str(error).split())
    found = _FAILED_NODE.search(said)
    what = f"{found['op']} node {found['name']}: {found['reason']}" if found else said
    helps = "give a smaller batch (--set batch=N), fewer --jobs, or more memory" if _SHORT.search(said) else ""
    if found and _NO_KERNEL.search(said):
        helps = "cuDNN does not do this for this network on this GPU; --device cpu trains it"
    return MnxError("; ".join(filter(None, (f"ONNX Runtime failed: {what}", helps))))


def require_device(device: str) -> None:
    """Refuse a device that the installed runtime has not.

    Raises:
        MnxError: the device is unknown, the runtime was not built for it, or one of its libraries is missing.
    """
    if device not in PROVIDERS:
        raise MnxError(f"device {device!r} is unknown; give one of {', '.join(PROVIDERS)}")
    runtime = _runtime()
    available = runtime.get_available_providers()
    if PROVIDERS[device] not in available:
        raise MnxError(
            f"device '{device}' needs {PROVIDERS[device]}; the installed onnxruntime {runtime.__version__} has "
            f"{', '.join(available)}: pip install 'mothernets[cuda]' in a fresh environment"
        )
    if device == "cuda":
        load_libraries()
        if reason := missing(Path(str(runtime.__file__)).parent / "capi"):
            raise MnxError(
                f"device 'cuda': onnxruntime-training {runtime.__version__} wants CUDA 11.8 and cuDNN 8; {reason}"
            )


@_told
def differentiate(proto: bytes, names: Sequence[str], loss: str) -> bytes:
    """Add gradients of `loss` by each of `names`, as NAME_grad.

    Raises:
        MnxError: ONNX Runtime training is missing, or has no gradient for the graph.
    """
    runtime = _runtime()
    state = importlib.import_module("onnxruntime.capi._pybind_state")
    if not hasattr(state, "GradientGraphBuilder"):
        raise MnxError(f"the installed onnxruntime {runtime.__version__} has no GradientGraphBuilder: {_INSTALL}")
    builder = state.GradientGraphBuilder(proto, {loss}, set(names), loss, _options())
    builder.build()
    return bytes(builder.get_model())


@_told
def session(proto: bytes, device: str, threads: int) -> Any:
    """A session that runs a model on a device that `require_device` let pass.

    Raises:
        MnxError: the device could not be started, the runtime does not take the model, or memory is short.
    """
    options = _options()
    options.intra_op_num_threads = threads
    options.use_deterministic_compute = True
    # Planning all memory ahead takes a fifth more of it on the CPU, once for every batch size, and saves no time.
    options.enable_mem_pattern = device != "cpu"
    runtime, wanted = _runtime(), PROVIDERS[device]
    given = for_cuda(proto) if device == "cuda" else proto
    started = runtime.InferenceSession(given, options, providers=[(wanted, dict(PROVIDER_OPTIONS[device]))])
    if started.get_providers()[0] != wanted:
        raise MnxError(
            f"device '{device}': {wanted} could not start, though all its libraries are there: look for the GPU with "
            "nvidia-smi"
        )
    return started


@_told
def buffer(shape: Sequence[int], dtype: npt.DTypeLike, device: str) -> Any:
    """Memory for one tensor on a device, not initialised.

    Raises:
        MnxError: memory is short.
    """
    return _runtime().OrtValue.ortvalue_from_shape_and_type(list(shape), dtype, device, 0)


@_told
def resident(array: Array, device: str) -> Any:
    """An array on a device. On the CPU it stays where it is, memory-mapped files too, if it is in C order.

    Raises:
        MnxError: memory is short.
    """
    return _runtime().OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"), device, 0)


def bind(binding: Any, values: Mapping[str, Any]) -> None:
    """Bind inputs: arrays of the host, or values that are on the device already."""
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            binding.bind_cpu_input(name, value)
        else:
            binding.bind_ortvalue_input(name, value)


@_told
def run(started: Any, binding: Any) -> None:
    """Run a session on a binding of its inputs and outputs, to the end.

    Raises:
        MnxError: an op failed, or memory is short.
    """
    binding.synchronize_inputs()
    started.run_with_iobinding(binding)
    binding.synchronize_outputs()


def _options() -> Any:
    options = _runtime().SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    return options


def _runtime() -> ModuleType:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MnxError(
            f"training needs onnxruntime-training, which cannot be imported ({error}): {_INSTALL}"
        ) from error
