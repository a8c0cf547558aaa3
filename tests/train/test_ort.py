"""The ONNX Runtime engine: repeatable bit for bit, goes on from a state, and says what it cannot do."""

import sys
from collections.abc import Mapping

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import _pybind_state

from mnx.errors import MnxError
from mnx.graphs.builder import Builder
from mnx.graphs.model import Array, Model, Port
from mnx.graphs.run import run
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.train import onnxruntime_sessions
from mnx.train.lowering import Mask, draw_masks
from mnx.train.ort import Engine
from mnx.train.settings import Diverged, StepSettings

SETTINGS = StepSettings(momentum=0.9, nesterov=True, weight_decay=5e-4, clip_norm=1.0, label_smoothing=0.1)
LR = 0.05
RESNET = resnet("resnet", (1, 1), 6, 5, (3, 8, 8))


def with_dropout() -> Model:
    random = np.random.default_rng(0)
    builder = Builder()
    first = builder.weight("first", random.standard_normal((16, 12), np.float32) * np.float32(0.3))
    x = builder.add("Gemm", "x", first, builder.weight("first_bias", np.zeros(16, np.float32)), transB=1)
    x = builder.add("Dropout", builder.add("Relu", x), builder.weight("ratio", np.array(0.5, np.float32)))
    last = builder.weight("last", random.standard_normal((5, 16), np.float32) * np.float32(0.3))
    logits = builder.add("Gemm", x, last, builder.weight("last_bias", np.zeros(5, np.float32)), transB=1)
    return builder.model("with_dropout", [Port("x", "float32", (12,))], [Port(logits, "float32", (5,))])


MODELS = {"resnet": RESNET, "dropout": with_dropout()}


def batch(model: Model, number: int, size: int = 12) -> tuple[Array, Array]:
    random = np.random.default_rng(number)
    return random.standard_normal((size, *model.inputs[0].shape), np.float32), random.integers(0, 5, size)


def trained(engine: Engine, model: Model, first: int, last: int) -> list[float]:
    return [engine.step(*batch(model, number), LR)[0] for number in range(first, last)]


def same_bits(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("threads", [1, 2])
def test_two_engines_do_the_same_bits(model: Model, threads: int) -> None:
    one, other = (Engine(model, SETTINGS, threads=threads, seed=3) for _ in range(2))
    assert trained(one, model, 0, 5) == trained(other, model, 0, 5)
    assert same_bits(one.state(), other.state())


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("done", [1, 2, 3])
def test_going_on_from_a_state_is_as_never_having_stopped(model: Model, done: int) -> None:
    whole, first, second = (Engine(model, SETTINGS, threads=1, seed=3) for _ in range(3))
    losses = trained(whole, model, 0, 6)
    assert trained(first, model, 0, done) == losses[:done]
    trained(second, model, 10, 13)
    second.load_state(first.state())
    assert trained(second, model, done, 6) == losses[done:]
    assert same_bits(second.state(), whole.state())


def test_a_forgotten_momentum_is_caught() -> None:
    whole, second = (Engine(RESNET, SETTINGS, threads=1) for _ in range(2))
    trained(whole, RESNET, 0, 3)
    state = whole.state()
    trained(whole, RESNET, 3, 5)
    second.load_state({key: np.zeros_like(array) if "momentum" in key else array for key, array in state.items()})
    trained(second, RESNET, 3, 5)
    assert not same_bits(second.state(), whole.state())


def test_dropout_depends_on_the_seed() -> None:
    model = MODELS["dropout"]
    losses = [trained(Engine(model, SETTINGS, threads=1, seed=seed), model, 0, 1) for seed in (0, 1)]
    assert losses[0] != losses[1]


def test_masks_keep_the_mean_and_depend_on_the_step() -> None:
    masks = [Mask("a", (200,), 0.25), Mask("b", (3, 4), 0.0)]
    drawn = draw_masks(masks, 50, seed=1, step=7)
    assert drawn["a"].shape == (50, 200) and drawn["a"].dtype == np.float32
    assert set(np.unique(drawn["a"])) == {np.float32(0), np.float32(1 / 0.75)}
    assert drawn["a"].mean() == pytest.approx(1, abs=0.02)
    assert (drawn["b"] == 1).all()
    assert same_bits(drawn, draw_masks(masks, 50, seed=1, step=7))
    assert not same_bits(drawn, draw_masks(masks, 50, seed=1, step=8))


def test_the_state_names_what_it_holds_and_is_a_copy() -> None:
    engine = Engine(MODELS["dropout"], SETTINGS, threads=1)
    parameters = {"first", "first_bias", "last", "last_bias"}
    state = engine.state()
    assert set(state) == {"step", *(f"{kind}/{name}" for kind in ("weight", "momentum") for name in parameters)}
    before = {key: array.copy() for key, array in state.items()}
    trained(engine, MODELS["dropout"], 0, 3)
    assert same_bits(state, before)
    assert engine.state()["step"] == 3


def test_the_model_keeps_its_structure_and_gets_the_weights() -> None:
    engine = Engine(RESNET, SETTINGS, threads=1)
    given = {name: array.copy() for name, array in RESNET.weights.items()}
    trained(engine, RESNET, 0, 2)
    model, state = engine.model(), engine.state()
    assert model.nodes == RESNET.nodes and model.weights.keys() == RESNET.weights.keys()
    assert all(np.array_equal(model.weights[name], state[f"weight/{name}"]) for name in model.weights)
    assert same_bits(RESNET.weights, given)
    assert not any(np.array_equal(model.weights[name], given[name]) for name in model.weights)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_evaluation_is_the_current_model_in_eval_mode(model: Model) -> None:
    engine = Engine(model, SETTINGS, threads=1)
    x, _ = batch(model, 99, size=21)
    for last in (0, 1, 2):
        trained(engine, model, last, last + 1)
        expected = run(engine.model(), x)[model.outputs[0].name]
        np.testing.assert_allclose(engine.evaluate(x, batch=8), expected, atol=1e-5)
        np.testing.assert_allclose(engine.evaluate(x), expected, atol=1e-5)


def test_evaluation_with_other_weights_leaves_the_current_ones() -> None:
    engine = Engine(RESNET, SETTINGS, threads=1)
    x, _ = batch(RESNET, 99)
    first = engine.evaluate(x)
    trained(engine, RESNET, 0, 2)
    state = engine.state()
    np.testing.assert_allclose(engine.evaluate(x, weights=RESNET.weights), first, atol=1e-6)
    assert same_bits(engine.state(), state)
    with pytest.raises(MnxError, match="weight/nobody"):
        engine.evaluate(x, weights={"nobody": np.zeros(3, np.float32)})


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_state() -> None:
    engine = Engine(RESNET, SETTINGS, threads=1)
    trained(engine, RESNET, 0, 2)
    before = engine.state()
    x, y = batch(RESNET, 2)
    x[3] = np.inf
    with pytest.raises(Diverged, match="resnet diverged: the loss of step 3 is nan"):
        engine.step(x, y, LR)
    assert same_bits(engine.state(), before)


def test_a_learning_rate_far_too_high_diverges() -> None:
    model = mlp("mlp", 12, (16,), 5)
    engine = Engine(model, StepSettings(momentum=0.9), threads=1)
    with pytest.raises(Diverged):
        for number in range(200):
            engine.step(*batch(model, number), 1e6)


def test_what_does_not_fit_is_refused() -> None:
    engine = Engine(RESNET, SETTINGS, threads=1)
    x, y = batch(RESNET, 0)
    with pytest.raises(MnxError, match=r"takes examples of float32 and shape \(batch, 3, 8, 8\) as input, not float64"):
        engine.step(x.astype(np.float64), y, LR)
    with pytest.raises(MnxError, match=r"not float32 and \(12, 3, 8, 7\)"):
        engine.evaluate(x[..., :7])
    with pytest.raises(MnxError, match="classes reach from 0 to 5; resnet has 5 logits"):
        engine.step(x, np.arange(12) % 6, LR)
    with pytest.raises(MnxError, match="integer classes"):
        engine.step(x, y.astype(np.float32), LR)
    with pytest.raises(MnxError, match="integer classes"):
        engine.step(x, y[:-1], LR)
    with pytest.raises(MnxError, match="resnet has 1 inputs, not 2"):
        engine.step((x, x), y, LR)
    with pytest.raises(MnxError, match="batch = 0"):
        engine.evaluate(x, batch=0)


def test_a_state_of_something_else_is_refused() -> None:
    engine = Engine(RESNET, SETTINGS, threads=1)
    state = engine.state()
    lacking = {key: array for key, array in state.items() if key != "momentum/head.bias"}
    with pytest.raises(MnxError, match=r"missing momentum/head\.bias; unknown weight/x"):
        engine.load_state({**lacking, "weight/x": np.zeros(1)})
    with pytest.raises(MnxError, match=r"weight/head\.bias of resnet has shape \(5,\), not \(6,\)"):
        engine.load_state({**state, "weight/head.bias": np.zeros(6, np.float32)})
    assert same_bits(engine.state(), state)


def test_models_that_are_no_classifiers_are_refused() -> None:
    two = RESNET.replace(outputs=(*RESNET.outputs, RESNET.outputs[0]))
    with pytest.raises(MnxError, match="networks with one output"):
        Engine(two, SETTINGS)
    with pytest.raises(MnxError, match="2 or more classes"):
        Engine(mlp("single", 12, (4,), 1), SETTINGS)
    builder = Builder()
    builder.add("Relu", "x", outputs=["y"])
    with pytest.raises(MnxError, match="nothing to train"):
        Engine(builder.model("empty", [Port("x", "float32", (3,))], [Port("y", "float32", (3,))]), SETTINGS)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(MnxError, match="device 'tpu' is unknown; give one of cpu, cuda"):
        Engine(RESNET, SETTINGS, device="tpu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(MnxError, match=r"needs CUDAExecutionProvider; .*mothernets\[cuda\]"):
            Engine(RESNET, SETTINGS, device="cuda")
    with pytest.raises(MnxError, match="threads = 0"):
        Engine(RESNET, SETTINGS, threads=0)


def test_a_runtime_that_cannot_train_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_pybind_state, "GradientGraphBuilder")
    with pytest.raises(MnxError, match=r"no GradientGraphBuilder: pip install 'mothernets\[cpu\]'"):
        Engine(RESNET, SETTINGS)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MnxError, match=r"cannot be imported .*pip install 'mothernets\[cpu\]'"):
        Engine(RESNET, SETTINGS)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"momentum": 1.0}, "momentum = 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing = -0.1"),
        ({"weight_decay": float("nan")}, "weight_decay = nan"),
        ({"clip_norm": 0.0}, "clip_norm = 0.0"),
        ({"momentum": 0.0, "nesterov": True}, "needs a momentum above 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(MnxError, match=says):
        StepSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_a_step_that_diverges_in_any_part_of_its_batch_leaves_the_weights_alone(parts: int) -> None:
    model = MODELS["dropout"]
    for wrong in range(parts):
        settings = StepSettings(momentum=0.9, accumulate=parts)
        engine, untouched = (Engine(model, settings, threads=1) for _ in range(2))
        x, y = batch(model, 0)
        trained(engine, model, 0, 1)
        trained(untouched, model, 0, 1)
        bad = x.copy()
        bad[wrong * len(x) // parts] = np.nan
        with pytest.raises(Diverged):
            engine.step(bad, y, LR)
        assert same_bits(engine.state(), untouched.state())
        assert trained(engine, model, 1, 3) == trained(untouched, model, 1, 3)
        assert same_bits(engine.state(), untouched.state())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Error in execution: Non-zero status code returned while running ConvGrad node. Name:'/5/Conv_Grad_0' "
            "Status Message: CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0 ; file=/a/b.cc ; line=2",
            "ONNX Runtime failed: ConvGrad node '/5/Conv_Grad_0': CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR; cuDNN "
            "does not do this for this network on this GPU; --device cpu trains it",
        ),
        (
            "Error in execution: Non-zero status code returned while running Mul node. Name:'m' Status Message: "
            "arena.cc:376 Failed to allocate memory for requested buffer of size 4096",
            "ONNX Runtime failed: Mul node 'm': arena.cc:376 Failed to allocate memory for requested buffer of "
            "size 4096; give a smaller batch (--set batch=N), fewer --jobs, or more memory",
        ),
        (
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
            "ONNX Runtime failed: CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0; give a smaller batch (--set "
            "batch=N), fewer --jobs, or more memory",
        ),
        ("CUDA failure 46:\n all devices are busy", "ONNX Runtime failed: CUDA failure 46: all devices are busy"),
    ],
)
def test_a_failure_of_the_runtime_is_told_in_one_line(said: str, told: str) -> None:
    class Binding:
        def synchronize_inputs(self) -> None:
            raise RuntimeError(said)

    with pytest.raises(MnxError) as caught:
        onnxruntime_sessions.run(None, Binding())
    assert str(caught.value) == told


def test_a_mistake_of_ours_is_no_failure_of_the_runtime() -> None:
    with pytest.raises(AttributeError):
        onnxruntime_sessions.run(None, None)
    with pytest.raises(_pybind_state.InvalidProtobuf):
        onnxruntime_sessions.session(b"garbage", "cpu", 1)


def test_memory_that_is_not_there_is_told() -> None:
    with pytest.raises(MnxError, match=r"bad_alloc; give a smaller batch \(--set batch=N\)"):
        onnxruntime_sessions.buffer((1 << 45,), np.float32, "cpu")


@pytest.mark.parametrize("first", ["tokens", "examples"])
def test_variances_are_corrected_by_the_count_that_they_are_of(first: str) -> None:
    """One normalisation of all tokens as rows, another of one row an example."""
    random, batch, tokens, width = np.random.default_rng(0), 7, 5, 6
    builder = Builder()
    names = {}
    for name, size in (("tokens", width), ("examples", tokens * width)):
        names[name] = [builder.weight(f"{name}.{part}", np.ones(size, np.float32)) for part in "smv"]
        names[name].insert(1, builder.weight(f"{name}.b", np.zeros(size, np.float32)))
    x = "x"
    for name in (first, *(other for other in names if other != first)):
        shape = builder.weight(f"{name}.shape", np.array([-1, len(builder.weights[names[name][0]])], np.int64))
        x = builder.add("BatchNormalization", builder.add("Reshape", x, shape), *names[name])
    back = builder.weight("back", np.array([-1, tokens * width], np.int64))
    last = builder.weight("last", random.standard_normal((3, tokens * width), np.float32))
    logits = builder.add("Gemm", builder.add("Reshape", x, back), last, builder.weight("bias", np.zeros(3, np.float32)))
    builder.nodes[-1].attributes["transB"] = 1
    port = Port("x", "float32", (tokens * width,))
    engine = Engine(builder.model("net", [port], [Port(logits, "float32", (3,))]), StepSettings(), threads=1)
    given = random.standard_normal((batch, tokens * width), np.float32)
    engine.step(given, random.integers(0, 3, batch), 0.0)
    expected = given
    for name in (first, *(other for other in names if other != first)):
        expected = expected.reshape(-1, len(builder.weights[names[name][0]]))
        found = engine.state()[f"weight/{names[name][3]}"]
        np.testing.assert_allclose(found, 0.9 + 0.1 * expected.var(axis=0, ddof=1), rtol=1e-5)
        expected = (expected - expected.mean(axis=0)) / np.sqrt(expected.var(axis=0) + 1e-5)
