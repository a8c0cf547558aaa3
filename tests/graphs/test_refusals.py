"""What the canonical dialect cannot hold is refused: by op, node, model, and what to do."""

import onnx
import pytest
from reading import network

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError

REFUSED: dict[str, tuple[str, str]] = {
    "control flow": (
        """g (float[N,3] x) => (float[N,3] y) {
            m = ReduceMax<keepdims = 0>(x) b = Cast<to = 9>(m)
            y = If(b) <then_branch = t () => (float[N,3] p) { p = Relu(x) },
                       else_branch = e () => (float[N,3] q) { q = Tanh(x) }> }""",
        r"op If \(node 'y' of net\).*static graphs",
    ),
    "quantised": (
        """g (float[N,3] x, float s) => (float[N,3] y) <uint8 z = {1}> {
            q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }""",
        r"op QuantizeLinear \(node 'q' of net\).*before quantisation",
    ),
    "an op that does not exist": (
        "g (float[N,3] x) => (float[N,3] y) { y = Erfc(x) }",
        r"op Erfc \(node 'y' of net\).*does not exist",
    ),
    "open image size": ("g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }", "no fixed size on axis 2, 3"),
    "no batch axis": ("g (float x) => (float y) { y = Relu(x) }", "'x' of net has no batch axis"),
    "batch not in front": (
        "g (float[N,3] x) => (float[3,N] y) { y = Transpose<perm = [1, 0]>(x) }",
        "output 'y' of net .* its axis 0 must be the batch",
    ),
    "different batches": (
        "g (float[2,3] x, float[4,3] x2) => (float[2,3] y, float[4,3] z) { y = Relu(x) z = Relu(x2) }",
        "different batch sizes",
    ),
    "a batch that cannot be freed": (
        "g (float[1,3,4] x, float[3,4] w) => (float[3,4] y) <int64[2] s = {3, 4}> { y = Reshape(x, s) }",
        "axis 0 must be the batch.*dynamic batch axis",
    ),
    "output without input": (
        "g (float[N,3] x) => (float[2] y) { y = Constant<value = float[2] {1., 2.}>() }",
        "output 'y' of net",
    ),
    "turned batch": (
        "g (float[3,3] x, float[3,3] w) => (float[3,3] y) { y = Gemm<transA = 1>(x, w) }",
        "only works for batches of 3.*dynamic batch axis",
    ),
    "computed ratio": (
        "g (float[N,3] x, float[N] xr) => (float[N,3] y) { r = ReduceMax<keepdims = 0>(xr) y = Dropout(x, r) }",
        "Dropout node 'dropout' of net has a ratio that is computed",
    ),
    "given mask": (
        """g (float[N,3] x) => (float[N,3] y) { d, m = Dropout(x) c = Cast<to = 1>(m) y = Mul(d, c) }""",
        "Dropout node 'dropout' of net gives its mask",
    ),
    "given indices": (
        """g (float[N,3,4,4] x) => (float[N,3,2,2] y) {
            p, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) c = Cast<to = 1>(i) y = Mul(p, c) }""",
        "MaxPool node 'maxpool' of net gives its indices",
    ),
    "shapes that do not fit": (
        "g (float[N,3] x, float[4,5] w) => (float[N,5] y) { y = MatMul(x, w) }",
        "shapes of net do not fit",
    ),
    "invalid ONNX": ("g (float[N,3] x) => (float[N,3] y) { y = Relu(nowhere) }", "net is not valid ONNX"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_dialect_cannot_hold_is_refused_by_name(name: str) -> None:
    text, message = REFUSED[name]
    with pytest.raises(GraphError, match=message):
        canonicalise(network(text), "net")


def test_foreign_domains_are_refused_with_what_to_do() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18, "com.microsoft": 1]>
        g (float[N,3] x) => (float[N,3] y) { y = com.microsoft.Inverse(x) }"""
    )
    with pytest.raises(GraphError, match=r"com\.microsoft\.Inverse \(node 'y' of net\).*as the framework exported it"):
        canonicalise(proto, "net")


def test_too_old_opsets_are_refused() -> None:
    with pytest.raises(GraphError, match="opset 8; mnx reads 9 and newer"):
        canonicalise(network("g (float[N,3] x) => (float[N,3] y) { y = LeakyRelu(x) }", 8), "net")
