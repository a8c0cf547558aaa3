"""Trees without names: equal for every export of one model, different for different models, and they read back."""

import json
import random
from dataclasses import replace

import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import ensembles, examples

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Node
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.nameless import tree_of
from mnx.graphs.trees.structure_json import structure_json, structure_of_json
from mnx.graphs.trees.tree import Tree, TreeParallel, TreeTangle, tree_of_json
from mnx.graphs.zoo.ensembles import ensemble
from mnx.graphs.zoo.resnet import resnet


def tree(model: Model) -> Tree:
    return tree_of(describe(model))


def shuffled(model: Model, seed: int) -> Model:
    """The same model with other names, its nodes in another execution order, the operands of sums in another order."""
    draw = random.Random(seed)
    order = draw.sample(range(10**6), 10**4)
    words: dict[str, str] = {"": ""}

    def renamed(name: str) -> str:
        return words.setdefault(name, f"v{order[len(words)]}")

    waiting, ready, nodes = list(model.nodes), {port.name for port in model.inputs} | set(model.weights), []
    while waiting:
        node = draw.choice([node for node in waiting if ready.issuperset(filter(None, node.inputs))])
        waiting.remove(node)
        ready.update(node.outputs)
        inputs = list(node.inputs)
        if node.op == "Add":
            draw.shuffle(inputs)
        nodes.append(
            Node(renamed(f"node {node.name}"), node.op, tuple(map(renamed, inputs)), tuple(map(renamed, node.outputs)))
        )
        nodes[-1] = replace(nodes[-1], attributes=dict(node.attributes), domain=node.domain)
    return model.replace(
        name="other",
        nodes=tuple(nodes),
        weights={renamed(name): array for name, array in model.weights.items()},
        inputs=tuple(replace(port, name=renamed(port.name)) for port in model.inputs),
        outputs=tuple(replace(port, name=renamed(port.name)) for port in model.outputs),
    )


def gates(order: str = "a, b") -> Model:
    """Two branches that read alike, joined by a sum."""
    text = f"""
    <ir_version: 10, opset_import: ["" : 21]>
    net (float[n, 6] x) => (float[n, 3] y)
    <float[8, 6] w1 = {{{", ".join(["1"] * 48)}}}, float[8, 6] w2 = {{{", ".join(["2"] * 48)}}},
     float[4, 8] v1 = {{{", ".join(["1"] * 32)}}}, float[4, 8] v2 = {{{", ".join(["2"] * 32)}}},
     float[8] b1 = {{1, 2, 3, 4, 5, 6, 7, 8}}, float[8] b2 = {{2, 3, 4, 5, 6, 7, 8, 9}},
     float[4] c1 = {{1, 2, 3, 4}}, float[4] c2 = {{2, 3, 4, 5}},
     float[3, 4] u = {{{", ".join(["1"] * 12)}}}, float[3] d = {{1, 2, 3}}>
    {{
        p = Gemm<transB = 1>(x, w1, b1)
        a0 = Relu(p)
        a = Gemm<transB = 1>(a0, v1, c1)
        q = Gemm<transB = 1>(x, w2, b2)
        b0 = Relu(q)
        b = Gemm<transB = 1>(b0, v2, c2)
        s = Add({order})
        r = Relu(s)
        y = Gemm<transB = 1>(r, u, d)
    }}
    """
    return canonicalise(onnx.parser.parse_model(text), "net")


@examples(30)
@given(ensembles(1), st.integers(0, 10**6))
def test_names_and_orders_do_not_show(models: list[Model], seed: int) -> None:
    for model in models:
        assert tree(shuffled(model, seed)) == tree(model)
        assert tree(shuffled(model, seed)).text() == tree(model).text()


@examples(20)
@given(ensembles(2))
def test_a_tree_reads_back_from_json(models: list[Model]) -> None:
    for model in models:
        structure = describe(model)
        known = tree_of(structure)
        back = tree_of_json(json.loads(json.dumps(known.to_json())))
        assert back == known
        assert back.text() == known.text()
        assert hash(back) == hash(known)
        assert structure_of_json(json.loads(json.dumps(structure_json(structure)))) == known


def test_every_sample_member_has_a_tree_of_its_own() -> None:
    trees = [tree(model) for name in ("mlp", "v5", "v5-bn", "resnet") for model in ensemble(name)]
    assert len(set(trees)) == len(trees)
    assert tree(ensemble("mlp", seed=1)[0]) == tree(ensemble("mlp", seed=2)[0])


def test_what_is_another_network_has_another_tree() -> None:
    model = resnet("net", [1, 1], 4, 3, (2, 8, 8))
    known = tree(model)
    assert tree(resnet("net", [1, 1], 5, 3, (2, 8, 8))) != known
    assert tree(resnet("net", [2, 1], 4, 3, (2, 8, 8))) != known
    place = next(index for index, node in enumerate(model.nodes) if node.op == "Relu")
    other = replace(model.nodes[place], op="Sigmoid")
    assert tree(model.replace(nodes=(*model.nodes[:place], other, *model.nodes[place + 1 :]))) != known


def test_branches_that_a_sum_joins_have_no_order() -> None:
    assert tree(gates("a, b")) == tree(gates("b, a"))
    parallel = next(unit for unit in tree(gates()).series if isinstance(unit, TreeParallel))
    assert len(parallel.branches) == 2


def test_a_weight_that_two_ops_share_is_no_two_weights() -> None:
    model = gates()
    tied = model.replace(
        nodes=tuple(
            replace(node, inputs=(node.inputs[0], "w1", *node.inputs[2:])) if "w2" in node.inputs else node
            for node in model.nodes
        ),
        weights={name: array for name, array in model.weights.items() if name != "w2"},
    )
    assert tree(tied) != tree(model)
    assert " w0" in tree(tied).text()
    assert tree(shuffled(tied, 3)) == tree(tied)


def tangle(order: str = "t, r") -> Model:
    """A fork whose branches are tangled: one of them is read twice before the join."""
    text = f"""
    <ir_version: 10, opset_import: ["" : 21]>
    net (float[n, 4] x) => (float[n, 2] y)
    <float[4, 4] w = {{{", ".join(map(str, range(1, 17)))}}}, float[4] b = {{1, 2, 3, 4}},
     float[2, 4] u = {{{", ".join(map(str, range(8)))}}}, float[2] d = {{1, 2}}>
    {{
        p = Gemm<transB = 1>(x, w, b)
        r = Relu(p)
        t = Tanh(p)
        s = Add({order})
        m = Mul(s, t)
        y = Gemm<transB = 1>(m, u, d)
    }}
    """
    return canonicalise(onnx.parser.parse_model(text), "net")


def test_a_tangle_has_no_order_of_its_own() -> None:
    known = tree(tangle())
    assert any(isinstance(unit, TreeTangle) for unit in known.series)
    assert tree(tangle("r, t")) == known
    assert all(tree(shuffled(tangle(), seed)) == known for seed in range(8))
    assert tree_of_json(json.loads(json.dumps(known.to_json()))) == known
    assert "of fork" in known.text()


def test_a_tree_as_text() -> None:
    lines = tree(ensemble("resnet")[0]).text().splitlines()
    assert lines[0] == "input float32 1x8x8"
    assert lines[1].startswith("Conv 3x3 [n, g0, 8, 8]")
    assert any(line.startswith("├ shortcut") or line.startswith("┌ shortcut") for line in lines)
    assert lines[-1].startswith("g0 = 8, g1 = ")


@pytest.mark.parametrize("document", [{}, {"inputs": [], "series": [{}], "widths": []}, {"inputs": 3, "series": 4}])
def test_other_documents_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(GraphError, match="not the tree of a network"):
        tree_of_json(document)
    with pytest.raises(GraphError, match="has no 'tree'"):
        structure_of_json(document)
