"""What planning holds in memory: the structure of every member, but the weights of one at a time."""

import tracemalloc
from pathlib import Path

from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.model import Array, Model
from mnx.graphs.mothers.mother import stand_in
from mnx.graphs.zoo.mlp import mlp
from mnx.planning import propose
from mnx.workspace import RunFolder

WIDTH = 512
WEIGHTS = 4 * WIDTH * (WIDTH + 64)


def members(folder: Path, count: int) -> list[Path]:
    files = [folder / f"member{number}.onnx" for number in range(count)]
    for number, file in enumerate(files):
        onnx_file.write(mlp(file.stem, 64, (WIDTH + number, WIDTH), 10), file)
    return files


def held(model: Model) -> int:
    """Bytes behind the weights of a model, each block of memory once."""
    blocks = {id(whole): whole.nbytes for whole in map(owner, model.weights.values())}
    return sum(blocks.values())


def owner(array: Array) -> Array:
    while isinstance(array.base, type(array)):
        array = array.base
    return array


def test_stand_ins_hold_no_weights() -> None:
    model = mlp("one", 64, (WIDTH, WIDTH), 10)
    hollow, structure = stand_in(model)
    assert held(model) > WEIGHTS
    assert held(hollow) < WEIGHTS / 1000
    assert {name: array.shape for name, array in hollow.weights.items()} == {
        name: array.shape for name, array in model.weights.items()
    }
    assert structure.parameter_count == sum(array.size for array in model.weights.values())


def test_a_plan_and_its_mothers_hold_no_weights(tmp_path: Path) -> None:
    found = propose(members(tmp_path, 3), RunFolder(tmp_path / "run"), Events())
    for model in (*found.members, *(mother for mother, _ in found.mothers.values())):
        assert held(model) < WEIGHTS / 1000


def test_memory_does_not_grow_with_the_number_of_members(tmp_path: Path) -> None:
    files = members(tmp_path, 32)
    propose(files[:2], RunFolder(tmp_path / "warm"), Events())
    tracemalloc.start()
    try:
        propose(files, RunFolder(tmp_path / "run"), Events())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 5 * WEIGHTS
