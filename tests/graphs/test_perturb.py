"""Shrink and perturb, and noise: what changes, by how much, for whom, and what is refused."""

from math import sqrt

import numpy as np
import pytest
from strategies import Array, batch_for, trained

from mnx.graphs.errors import GraphError
from mnx.graphs.growth import perturb
from mnx.graphs.growth.perturb import LAYERS, Perturbation, perturbed
from mnx.graphs.model import Model
from mnx.graphs.ops.rule import Kind
from mnx.graphs.parameters import parameters
from mnx.graphs.run import run
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.vgg import vgg

NET = trained(vgg("net", [[(3, 8)], [(3, 16)]], 3, (2, 8, 8), (32,), batch_norm=True))
WIDE = trained(mlp("wide", 400, (300,), 200))
ORDER = ("conv1_1.weight", "conv2_1.weight", "fc1.weight", "head.weight")
"""The weights of `NET`, from its input to its output."""


def changed(model: Model, other: Model) -> set[str]:
    assert model.weights.keys() == other.weights.keys()
    return {name for name, array in model.weights.items() if not np.array_equal(array, other.weights[name])}


def close(expected: float, numbers: Array, spread: float) -> bool:
    """Whether a mean lies within five standard errors of what is expected, where numbers deviate by `spread`."""
    return abs(float(np.mean(numbers, dtype=np.float64)) - expected) <= 5 * spread / sqrt(numbers.size)


@pytest.mark.parametrize("how", [Perturbation(0.9, 0.1), Perturbation(noise=0.01), Perturbation(0.5, 0, 0.1)])
def test_only_weights_change(how: Perturbation) -> None:
    result = perturbed(NET, how, 0)
    assert changed(NET, result) == {name for name, kind in parameters(NET).items() if kind is Kind.WEIGHT} == set(ORDER)
    for name, array in result.weights.items():
        assert (array.dtype, array.shape) == (NET.weights[name].dtype, NET.weights[name].shape)
    assert (result.nodes, result.inputs, result.outputs, result.name) == (NET.nodes, NET.inputs, NET.outputs, NET.name)


def test_the_model_that_was_given_is_not_touched_and_its_function_is_another() -> None:
    kept = {name: array.copy() for name, array in NET.weights.items()}
    result = perturbed(NET, Perturbation(0.9, 0.1, 0.01), 0)
    assert all(np.array_equal(array, NET.weights[name]) for name, array in kept.items())
    x = batch_for(NET, 1)
    assert not difference(*(next(iter(run(each, x).values())) for each in (NET, result))).passed


def test_nothing_to_do_gives_the_same_model() -> None:
    assert perturbed(NET, Perturbation(), 0) is NET
    assert perturbed(NET, Perturbation(1.0, 0.0, 0.0, "upper"), 0) is NET
    assert not Perturbation(layers="upper").changes
    assert Perturbation(noise=1e-9).changes and Perturbation(0.99).changes and Perturbation(fresh=0.1).changes


def test_shrinking_alone_multiplies() -> None:
    result = perturbed(NET, Perturbation(0.7), 0)
    for name in ORDER:
        assert difference(np.float32(0.7) * NET.weights[name], result.weights[name]).passed


def moved(how: Perturbation, name: str) -> Array:
    """What comes on top of the shrunk weight."""
    result = perturbed(WIDE, how, 4).weights[name].astype(np.float64)
    return np.asarray(result - how.shrink * WIDE.weights[name].astype(np.float64))


@pytest.mark.parametrize(("name", "inputs"), [("fc1.weight", 400), ("head.weight", 300)])
def test_fresh_weights_have_the_size_of_a_new_network(name: str, inputs: int) -> None:
    """Normal numbers of variance 2 / fan-in, times gamma."""
    top, size = moved(Perturbation(0.8, 0.3), name), 0.3 * sqrt(2 / inputs)
    assert close(0.0, top, size)
    assert close(size**2, top**2, sqrt(2) * size**2)
    assert not close((1.05 * size) ** 2, top**2, sqrt(2) * size**2)


@pytest.mark.parametrize("name", ["fc1.weight", "head.weight"])
def test_noise_has_the_size_of_the_weight_it_is_added_to(name: str) -> None:
    size = 0.2 * float(np.std(WIDE.weights[name], dtype=np.float64))
    top = moved(Perturbation(noise=0.2), name)
    assert close(0.0, top, size)
    assert close(size**2, top**2, sqrt(2) * size**2)
    assert not close((1.05 * size) ** 2, top**2, sqrt(2) * size**2)
    kurtosis = float(np.mean((top / size) ** 4))
    assert 2.9 < kurtosis < 3.1  # normal, not uniform (1.8)


def test_noise_is_of_the_weight_before_it_shrank() -> None:
    both, alone = moved(Perturbation(0.0, 0.0, 0.2), "fc1.weight"), moved(Perturbation(noise=0.2), "fc1.weight")
    assert close(float(np.mean(alone**2)), both**2, sqrt(2) * float(np.mean(alone**2)))


def test_upper_layers_are_the_half_nearer_to_the_output() -> None:
    assert changed(NET, perturbed(NET, Perturbation(0.9, 0.1, layers="upper"), 0)) == set(ORDER[2:])
    both = perturbed(NET, Perturbation(0.9, 0.1, 0.01, "upper"), 0)
    assert changed(NET, both) == set(ORDER)  # noise is for all
    assert changed(perturbed(NET, Perturbation(noise=0.01), 0), both) >= set(ORDER[2:])
    odd = trained(mlp("odd", 4, (5, 6), 3))
    assert changed(odd, perturbed(odd, Perturbation(0.9, layers="upper"), 0)) == {"fc2.weight", "head.weight"}


def test_the_upper_half_is_as_with_all_layers() -> None:
    upper, every = (perturbed(NET, Perturbation(0.9, 0.1, layers=layers), 0) for layers in ("upper", "all"))
    assert changed(upper, every) == set(ORDER[:2])


def test_the_seed_and_the_name_decide() -> None:
    how = Perturbation(0.9, 0.1, 0.01)
    assert not changed(perturbed(NET, how, 3), perturbed(NET, how, 3))
    assert changed(perturbed(NET, how, 3), perturbed(NET, how, 4)) == set(ORDER)
    assert changed(perturbed(NET, how, 3), perturbed(NET.replace(name="other"), how, 3)) == set(ORDER)


def test_draws_are_those_of_no_other_weight() -> None:
    square = trained(mlp("square", 6, (6, 6), 6))
    result = perturbed(square, Perturbation(0.0, 1.0), 0)
    drawn = [result.weights[name] for name in ("fc1.weight", "fc2.weight", "head.weight")]
    assert len({array.tobytes() for array in drawn}) == 3


def test_what_is_drawn_does_not_depend_on_the_weights() -> None:
    """Zeros stay zeros under noise, whose size they give, and are replaced by fresh weights."""
    none = NET.with_weights({name: np.zeros_like(NET.weights[name]) for name in ORDER})
    assert not changed(none, perturbed(none, Perturbation(0.5, 0.0, 1.0), 0))
    fresh, onto = (perturbed(each, Perturbation(0.0, 0.1), 0) for each in (none, NET))
    assert not changed(none.with_weights({name: fresh.weights[name] for name in ORDER}), fresh)
    assert all(np.array_equal(fresh.weights[name], onto.weights[name]) for name in ORDER)


def test_a_broken_twin_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh weights that are twice too large."""
    rule = perturb.fresh
    monkeypatch.setattr(perturb, "fresh", lambda *given: 2 * rule(*given))
    size = 0.3 * sqrt(2 / 400)
    assert not close(size**2, moved(Perturbation(0.8, 0.3), "fc1.weight") ** 2, sqrt(2) * size**2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shrink": 1.1}, r"perturb = 1\.1,0\.0, noise = 0\.0: give lambda from 0 to 1"),
        ({"shrink": -0.1}, "give lambda from 0 to 1"),
        ({"shrink": float("nan")}, "perturb = nan"),
        ({"fresh": -1.0}, "gamma and noise of 0 or more"),
        ({"fresh": float("inf")}, "perturb = 1.0,inf"),
        ({"noise": -0.01}, "noise = -0.01"),
        ({"noise": float("nan")}, "noise = nan"),
        ({"layers": "lower"}, "perturb layers 'lower': use one of all, upper"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, float], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        Perturbation(**given)  # type: ignore[arg-type]


def test_it_can_be_said_in_words() -> None:
    both = Perturbation(0.9, 0.1, 0.01, "upper").text
    assert both == "0.9 of the old and 0.1 of fresh weights in upper layers, noise of 0.01 standard deviations"
    assert Perturbation(noise=0.5).text == "noise of 0.5 standard deviations"
    assert Perturbation(0.5).text == "0.5 of the old and 0 of fresh weights in all layers"
    assert Perturbation(layers="upper").text == "no change"


def test_both_ends_of_the_ranges_are_legal() -> None:
    for layers in LAYERS:
        assert Perturbation(0.0, 0.0, 0.0, layers).changes
        assert not Perturbation(1.0, 0.0, 0.0, layers).changes
