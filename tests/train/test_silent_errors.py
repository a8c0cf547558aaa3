"""What ONNX Runtime differentiates wrongly, or dies of: without its cure each is wrong or fails, with it right.

The cures themselves are checked in `test_differences`; here stands what they cure, so that a cure which is no longer
needed, or a runtime that fails otherwise, is noticed.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from differences import by_runtime, counts_of, runtime
from forms import FORMS, examples_of, floats_of, model_of

from mnx.graphs.model import Array, Model, Node, Port
from mnx.graphs.statistics import with_batch_statistics
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp
from mnx.train.losses import LOSS, SCORE
from mnx.train.lowering import lowered
from mnx.train.onnxruntime_sessions import buffer, run, session
from mnx.train.optimiser import rates
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings
from mnx.train.step_graph import initial_state

HERE = Path(__file__).parent


def both(op: str, form: str) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
    """Gradients of the network as it came, and lowered."""
    given = FORMS[op][form]
    model, wanted = model_of(op, given), floats_of(op, given, model_of(op, given))
    values = {**examples_of(given), **{name: model.weights[name] for name in wanted if name in model.weights}}
    counts = counts_of(runtime(model)(values))
    return (
        by_runtime(model, values, counts, wanted),
        by_runtime(lowered(model).model, values, counts, wanted),
    )


@pytest.mark.parametrize(
    ("op", "form", "value"),
    [
        ("Conv", "same, upper", "in0"),
        ("Conv", "same, lower", "in0"),
        ("Where", "channels left", "in1"),
        ("Where", "channels right", "in2"),
        ("Where", "all broadcast", "in1"),
        ("Gelu", "by tanh", "in0"),
    ],
)
def test_gradients_are_silently_wrong_without_the_lowering(op: str, form: str, value: str) -> None:
    wrong, right = both(op, form)
    assert not difference(right[value], wrong[value]).passed


@pytest.mark.parametrize(
    ("op", "form"),
    [
        ("BatchNormalization", "images"),
        ("LayerNormalization", "last axis"),
        ("Dropout", "half"),
        ("Elu", "images"),
        ("GlobalMaxPool", "images"),
        ("LSTM", "forward"),
        ("Pad", "reflected"),
        ("ReduceMax", "last"),
        ("Slice", "backwards"),
    ],
)
def test_gradients_cannot_be_built_without_the_lowering(op: str, form: str) -> None:
    given = FORMS[op][form]
    model = model_of(op, given)
    values = examples_of(given)
    counts = counts_of(runtime(model)(values))
    with pytest.raises(Exception, match=r"gradient|Gradient|OutputDefs|Pad|narrowing"):
        by_runtime(model, values, counts, ["in0"])


def test_inference_normalisation_is_not_that_of_the_batch() -> None:
    """Frozen, it keeps its statistics; lowered, it is the batch's."""
    given = FORMS["BatchNormalization"]["images"]
    model = model_of("BatchNormalization", given)
    values = examples_of(given)
    (plain,) = runtime(model)(values).values()
    (frozen,) = runtime(lowered(model, frozen=True).model)(values).values()
    (trained,) = runtime(lowered(model).model)(values).values()
    (batch,) = runtime(with_batch_statistics(model))(values).values()
    assert difference(plain, frozen).passed and difference(batch, trained).passed
    assert not difference(plain, trained).passed


def open_sizes() -> Model:
    """A MaxPool whose height and width come out of a computation with sizes."""
    nodes = (
        Node("sizes", "Shape", ("x",), ("sizes",)),
        Node("same", "Add", ("sizes", "zero"), ("same",)),
        Node("open", "Reshape", ("x", "same"), ("open",)),
        Node("pool", "MaxPool", ("open",), ("y",), {"kernel_shape": (2, 2), "strides": (2, 2)}),
    )
    ports = (Port("x", "float32", (2, 4, 4)),), (Port("y", "float32", (2, 2, 2)),)
    return Model("open", *ports, nodes, {"zero": np.zeros(4, np.int64)})


def pooled(lower: bool) -> Array:
    """The gradient through such a MaxPool; one is passed to every maximum."""
    model = lowered(open_sizes()).model if lower else open_sizes()
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 4), np.float32)
    return by_runtime(model, {"x": x}, {"y": np.ones((3, 2, 2, 2), np.float32)}, ["x"])["x"]


def test_pooling_of_open_sizes_has_a_gradient() -> None:
    found = pooled(lower=True)
    assert difference(np.array(3 * 2 * 2 * 2.0), found.sum()).passed
    assert set(np.unique(found)) == {0, 1}


def test_pooling_of_open_sizes_kills_the_process_without_the_lowering() -> None:
    code = "import sys; sys.path[:0] = [sys.argv[1]]; from test_silent_errors import pooled; pooled(lower=False)"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(HERE)], cwd=HERE.parents[1], capture_output=True, check=False
    )
    assert ended.returncode < 0


@pytest.mark.parametrize("sets", [2, 1])
def test_one_buffer_for_the_old_and_the_new_state_gives_other_weights(sets: int) -> None:
    """The engine reads one set of buffers and writes the other; with one set a step writes where it reads."""
    model = mlp("mlp", 12, (24, 16), 5, batch_norm=True)
    random = np.random.default_rng(0)
    x, y = random.standard_normal((16, 12), np.float32), random.integers(0, 5, 16)
    engine = Engine(model, StepSettings(momentum=0.9), threads=1)
    graph = engine._network.graph
    buffers = [{slot.key: buffer(slot.shape, np.float32, "cpu") for slot in graph.state} for _ in range(sets)]
    for key, array in initial_state(model, graph).items():
        buffers[0][key].update_inplace(np.array(array, np.float32, order="C"))
    started = session(graph.proto, "cpu", 1)
    feeds = {model.inputs[0].name: x, graph.targets.name: y, **rates(StepSettings(momentum=0.9), 0.5, 0)}
    for step in range(4):
        engine.step(x, y, 0.5)
        binding = started.io_binding()
        for slot in graph.state:
            binding.bind_ortvalue_input(slot.input, buffers[step % sets][slot.key])
            binding.bind_ortvalue_output(slot.output, buffers[(step + 1) % sets][slot.key])
        for name in (LOSS, SCORE):
            binding.bind_output(name, "cpu")
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        run(started, binding)
    state = engine.state()
    agree = all(difference(state[key], np.array(value.numpy())).passed for key, value in buffers[0].items())
    assert agree == (sets == 2)
