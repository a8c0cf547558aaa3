"""Running a model on the CPU: the one file of this layer that imports onnxruntime."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

import numpy as np
from onnx.reference import ReferenceEvaluator

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array, Model, Port
from mnx.graphs.proto import ends_of_head, inputs_before_entry, to_proto
from mnx.graphs.statistics import with_batch_statistics
from mnx.graphs.suggest import did_you_mean, one_line
from mnx.graphs.wire import LARGE

_ERRORS_ONLY = 3
PRECISIONS = ("float32", "float64")
"""What `run` can compute in."""
_FED = 1 << 26
"""From so many bytes on, weights are inputs of the session: no copy goes through a protobuf, which holds 2 GB."""
_TYPES: Final = {
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
Batch: TypeAlias = "Array | tuple[Array, ...]"
"""Examples: the array of a network's only input, or those of all its inputs in order; the batch is axis 0."""


def arrays_of(batch: Batch) -> tuple[Array, ...]:
    """The arrays of a batch, one for every input of the network."""
    return batch if isinstance(batch, tuple) else (batch,)


def batch_of(arrays: Iterable[Array]) -> Batch:
    """The inverse of `arrays_of`."""
    made = tuple(arrays)
    return made if len(made) > 1 else made[0]


ALL: Final = ("*",)
"""Ask `run` for every value that the body's nodes make."""


def run(
    model: Model,
    inputs: Mapping[str, Array] | Batch,
    values: Sequence[str] | None = None,
    batch_statistics: bool = False,
    include_ends: bool = False,
    precision: str = "float32",
) -> dict[str, Array]:
    """Run the model once and return values by name.

    Args:
        model: a canonical model.
        inputs: arrays by input name, or in the order of the inputs, or one array for the only input; the batch is
            axis 0.
        values: the values to return; None for the model's outputs, `ALL` for everything the body's nodes make.
        batch_statistics: normalise with the mean and biased variance of this batch in every BatchNormalization.
        include_ends: as the user runs it: take what stands before the entry (channels-last images) in place of the
            body's inputs, and return what stands behind the head (probabilities) in place of the logits.
        precision: 'float64' computes in double precision with ONNX's reference implementation, which is slow.

    Raises:
        GraphError: no runtime is installed, inputs are missing or do not fit, or the runtime refuses the model.
    """
    if precision not in PRECISIONS:
        raise GraphError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    if precision == "float64":
        model = _doubled(model)
    feeds = _feeds(model.name, inputs_before_entry(model) if include_ends else model.inputs, inputs)
    body = with_batch_statistics(model) if batch_statistics else model
    given = [name for port in model.outputs for name in (ends_of_head(model, port) if include_ends else (port.name,))]
    made = model.producers()
    wanted = list(made) if values is not None and tuple(values) == ALL else list(given if values is None else values)
    known = {**model.weights, **feeds}
    for name in wanted:
        if name not in made and name not in known and name not in given:
            raise GraphError(f"{model.name} has no value {name!r}{did_you_mean(name, made)}")
    computed = [name for name in dict.fromkeys(wanted) if name not in known]
    extra = [name for name in computed if name not in given]
    apart = _fed(body) if precision == "float32" else {}
    proto = to_proto(body, apart, extra, include_ends=include_ends)
    if precision == "float64":
        results = dict(zip(computed, ReferenceEvaluator(proto).run(computed, feeds), strict=True))
    else:
        results = _results(model.name, proto.SerializeToString(), {**feeds, **apart}, computed)
    return {name: results[name] if name in results else known[name] for name in wanted}


def _fed(model: Model) -> dict[str, Array]:
    """The weights to give to a session as inputs: the large ones of a large model."""
    if sum(array.nbytes for array in model.weights.values()) < _FED:
        return {}
    return {name: array for name, array in model.weights.items() if array.dtype.kind == "f" and array.nbytes >= LARGE}


def run_file(path: Path, x: Batch | Iterable[Batch], batch: int = 256, loaded: bytes | None = None) -> Array:
    """The first output of an ONNX file for examples x (n, ...), as its user would run it.

    `batch` examples at a time; where the file was exported with a fixed batch, as many as it takes. Of inputs and
    outputs in half or double precision the numbers are those of float32, of inputs in another integer type those of x.

    Args:
        path: the file.
        x: the examples: the array of the only input, those of all in order, or one such after the other.
        batch: how many at a time.
        loaded: the same network in place of the file, where the runtime cannot load that one; see
            `onnx_file.as_loaded`.

    Raises:
        GraphError: no runtime is installed, the file cannot be loaded, or refuses the examples.
    """
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = runtime.InferenceSession(loaded or str(path), options, providers=["CPUExecutionProvider"])
        given = [x] if isinstance(x, np.ndarray | tuple) else x
        outputs = np.concatenate([_outputs(session, path, arrays_of(each), batch) for each in given])
    except _refusals() as error:
        raise GraphError(f"onnxruntime {runtime.__version__} cannot run {path}: {one_line(error)}") from error
    return outputs.astype(np.float32, copy=False) if outputs.dtype.kind == "f" else outputs


def _outputs(session: Any, path: Path, arrays: tuple[Array, ...], batch: int) -> Array:
    ports = session.get_inputs()
    if len(ports) != len(arrays):
        found = f"{len(ports)} input{'s' if len(ports) != 1 else ''} ({', '.join(port.name for port in ports)})"
        raise GraphError(f"{path} has {found}, not {len(arrays) if len(arrays) > 1 else 'one'}")
    size = ports[0].shape[0] if ports[0].shape else None
    batch = size if isinstance(size, int) else batch
    parts = []
    for start in range(0, len(arrays[0]), batch):
        feed = {
            port.name: _filled(array[start : start + batch], size).astype(_TYPES.get(port.type, array.dtype))
            for port, array in zip(ports, arrays, strict=True)
        }
        parts.append(np.atleast_1d(session.run(None, feed)[0]))
    return np.concatenate(parts)[: len(arrays[0])]


def _filled(x: Array, size: object) -> Array:
    """The examples, the first repeated where a file takes a fixed number and fewer are left."""
    missing = size - len(x) if isinstance(size, int) else 0
    return np.concatenate([x, np.repeat(x[:1], missing, axis=0)]) if missing else x


def runtime_version() -> str:
    """The version of the installed onnxruntime; GraphError where there is none."""
    return str(_onnxruntime().__version__)


def _doubled(model: Model) -> Model:
    """The model with float64 in place of float32."""
    weights = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in model.weights.items()
    }
    inputs, outputs = (
        tuple(Port(port.name, "float64" if port.dtype == "float32" else port.dtype, port.shape) for port in ports)
        for ports in (model.inputs, model.outputs)
    )
    return model.replace(inputs=inputs, outputs=outputs, weights=weights)


def _onnxruntime() -> ModuleType:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise GraphError(
            f"running a model needs onnxruntime, which cannot be imported ({one_line(error)}): "
            "pip install 'mothernets[cpu]'"
        ) from error


def _refusals() -> tuple[type[Exception], ...]:
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    return tuple(getattr(state, name) for name in names)


def _results(name: str, proto: bytes, feeds: Mapping[str, Array], computed: Sequence[str]) -> dict[str, Array]:
    if not computed:
        return {}
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = runtime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
        return dict(zip(computed, session.run(list(computed), dict(feeds)), strict=True))
    except _refusals() as error:
        raise GraphError(f"onnxruntime {runtime.__version__} cannot run {name}: {one_line(error)}") from error


def _feeds(model: str, ports: Sequence[Port], inputs: Mapping[str, Array] | Batch) -> dict[str, Array]:
    names = [port.name for port in ports]
    if not isinstance(inputs, Mapping):
        arrays = inputs if isinstance(inputs, tuple) else (inputs,)
        if len(names) != len(arrays):
            raise GraphError(f"{model} has {len(names)} inputs ({', '.join(names)}): give arrays by name")
        inputs = dict(zip(names, arrays, strict=True))
    if set(inputs) != set(names):
        raise GraphError(f"{model} takes the inputs {', '.join(names)}, not {', '.join(inputs) or 'none'}")
    feeds = {port.name: np.asarray(inputs[port.name], dtype=port.dtype) for port in ports}
    for port in ports:
        if feeds[port.name].shape[1:] != port.shape:
            raise GraphError(
                f"input {port.name!r} of {model} takes arrays of shape "
                f"(batch, {', '.join(map(str, port.shape))}), not {feeds[port.name].shape}"
            )
    return feeds
