"""Every op with a rule as a network of one node, in every form that matters to its gradient: op -> form -> `Form`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from mnx.graphs.model import Array, Attribute, Model, Node, Port
from mnx.graphs.shapes import shapes

BATCH = 3
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.standard_normal(shape).astype(np.float32)


def positive(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.uniform(0.5, 2, shape).astype(np.float32)


def apart(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Numbers of which no two are near each other, or near 0."""
    count = int(np.prod(shape))
    return (random.permutation(count).reshape(shape) - count / 2 + 0.3).astype(np.float32) / np.float32(5)


def truths(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.random(shape) < 0.5


def numbers_below(stop: int, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.integers(0, stop, shape)


@dataclass(frozen=True)
class Input:
    """An input of the node.

    Its shape, without the batch where it is one of examples; how numbers are drawn; whether it is a weight; the number
    itself where it is a constant; the order of axes in which the node takes it.
    """

    shape: tuple[int, ...]
    draw: Draw = normal
    weight: bool = False
    constant: Array | None = None
    order: tuple[int, ...] = ()


@dataclass(frozen=True)
class Form:
    """A node: inputs (None: absent), attributes, and how many outputs are read."""

    inputs: tuple[Input | None, ...]
    attributes: Mapping[str, Attribute]
    outputs: tuple[str, ...] = ("y",)


def x(*shape: int) -> Input:
    return Input(shape)


def a(*shape: int) -> Input:
    return Input(shape, apart)


def p(*shape: int) -> Input:
    return Input(shape, positive)


def mask(*shape: int) -> Input:
    return Input(shape, truths)


def ids(stop: int, *shape: int) -> Input:
    return Input(shape, partial(numbers_below, stop))


def w(*shape: int) -> Input:
    return Input(shape, weight=True)


def wp(*shape: int) -> Input:
    return Input(shape, positive, weight=True)


def c(*numbers: int | float) -> Input:
    return Input((), constant=np.array(numbers, np.int64 if isinstance(numbers[0], int) else np.float32))


def s(number: float) -> Input:
    return Input((), constant=np.array(number, np.float32))


def form(*inputs: Input | None, outputs: tuple[str, ...] = ("y",), **attributes: Attribute) -> Form:
    return Form(inputs, attributes, outputs)


IMAGE, SIGNAL, VOLUME = x(4, 5, 6), x(4, 7), x(2, 4, 3, 5)
FLAT, TOKENS = x(6), x(4, 6)
PLAIN = {"images": form(IMAGE), "flat": form(FLAT)}
POSITIVE = {"images": form(p(4, 3, 2))}
LARGE: Mapping[str, Form] = {"large numbers": form(Input((4, 3), lambda r, shape: 20 * normal(r, shape)))}
SIDES = {
    "alike": form(TOKENS, TOKENS),
    "channels right": form(IMAGE, w(4, 1, 1)),
    "channels left": form(w(4, 1, 1), IMAGE),
    "both": form(x(4, 1), x(1, 6)),
    "lower rank": form(TOKENS, w(6)),
    "one number": form(TOKENS, w()),
    "a constant": form(TOKENS, s(0.5)),
    "a constant left": form(s(0.5), TOKENS),
}
POSITIVE_RIGHT = {
    "alike": form(TOKENS, p(4, 6)),
    "channels right": form(IMAGE, wp(4, 1, 1)),
    "channels left": form(w(4, 1, 1), p(4, 5, 6)),
    "both": form(x(4, 1), p(1, 6)),
    "lower rank": form(TOKENS, wp(6)),
    "one number": form(TOKENS, wp()),
    "a constant": form(TOKENS, s(0.5)),
    "a constant left": form(s(0.5), p(4, 6)),
}
SEVERAL = {**SIDES, "three": form(x(4, 6), x(4, 1), w(6)), "one": form(x(4, 6))}
TWO_TRUTHS = {"alike": form(mask(4, 6), mask(4, 6))}
REDUCED = {
    "last": form(x(4, 3, 2), c(-1)),
    "channels, kept": form(x(4, 3, 2), c(1), keepdims=1),
    "channels, dropped": form(x(4, 3, 2), c(1), keepdims=0),
    "space": form(x(4, 3, 2), c(2, 3), keepdims=0),
    "space, in disorder": form(x(4, 3, 2), c(-1, -2), keepdims=1),
    "batch too": form(x(4, 3), keepdims=1),
}
WINDOWS: Mapping[str, Form] = {
    "aligned": form(a(2, 4, 4), kernel_shape=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0)),
    "padded": form(a(2, 5, 5), kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
    "pads of one side": form(a(2, 5, 5), kernel_shape=(3, 3), strides=(1, 1), pads=(0, 1, 2, 0)),
    "ceil": form(a(2, 5, 5), kernel_shape=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), ceil_mode=1),
    "not square": form(a(2, 5, 4), kernel_shape=(3, 2), strides=(1, 2), pads=(1, 0, 1, 0)),
    "dilated": form(a(2, 6, 5), kernel_shape=(2, 2), strides=(1, 1), pads=(0, 0, 0, 0), dilations=(2, 1)),
    "signal": form(a(2, 7), kernel_shape=(3,), strides=(2,), pads=(1, 1)),
    "volume": form(a(2, 4, 3, 5), kernel_shape=(2, 1, 2), strides=(2, 1, 1), pads=(0, 0, 0, 0, 0, 0)),
    "same, upper": form(a(2, 5, 5), kernel_shape=(2, 2), strides=(2, 2), auto_pad="SAME_UPPER"),
    "same, lower": form(a(2, 5, 5), kernel_shape=(2, 2), strides=(2, 2), auto_pad="SAME_LOWER"),
    "valid": form(a(2, 5, 5), kernel_shape=(2, 2), strides=(2, 2), auto_pad="VALID"),
    "nothing said": form(a(2, 5, 5), kernel_shape=(3, 3)),
}
CONVOLUTIONS = {
    "plain": form(IMAGE, w(6, 4, 3, 3), w(6), pads=(1, 1, 1, 1)),
    "no bias": form(IMAGE, w(6, 4, 3, 3)),
    "strides": form(IMAGE, w(6, 4, 3, 3), w(6), strides=(2, 2), pads=(0, 0, 1, 1)),
    "dilations": form(IMAGE, w(6, 4, 2, 2), w(6), dilations=(2, 2)),
    "groups": form(IMAGE, w(6, 2, 3, 3), w(6), group=2),
    "depthwise": form(IMAGE, w(4, 1, 3, 3), w(4), group=4, pads=(1, 1, 1, 1)),
    "depthwise, several each": form(IMAGE, w(8, 1, 2, 2), w(8), group=4),
    "signal": form(SIGNAL, w(3, 4, 3), w(3), strides=(2,), pads=(1, 1)),
    "signal, grouped": form(SIGNAL, w(6, 2, 3), group=2),
    "volume": form(VOLUME, w(3, 2, 2, 1, 2), w(3), pads=(1, 0, 0, 0, 0, 1)),
    "same, upper": form(IMAGE, w(3, 4, 2, 2), w(3), strides=(2, 2), auto_pad="SAME_UPPER"),
    "same, lower": form(IMAGE, w(3, 4, 2, 4), w(3), strides=(1, 2), auto_pad="SAME_LOWER"),
    "same, signal": form(SIGNAL, w(3, 4, 2), strides=(2,), auto_pad="SAME_UPPER"),
    "valid": form(IMAGE, w(3, 4, 2, 2), w(3), auto_pad="VALID"),
}
TRANSPOSED = {
    "plain": form(x(3, 4, 3), w(3, 2, 3, 2), w(2)),
    "no bias": form(x(3, 4, 3), w(3, 2, 3, 2)),
    "strides": form(x(3, 4, 3), w(3, 2, 3, 3), w(2), strides=(2, 3), pads=(1, 0, 0, 1)),
    "output padding": form(x(3, 4, 3), w(3, 2, 3, 3), strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 0)),
    "dilations": form(x(3, 4, 3), w(3, 2, 2, 2), dilations=(2, 1)),
    "large pads": form(x(3, 6, 5), w(3, 2, 2, 2), pads=(2, 2, 1, 1)),
    "groups": form(x(4, 4, 3), w(4, 3, 2, 2), w(6), group=2, strides=(2, 2)),
    "depthwise": form(x(4, 4, 3), w(4, 1, 2, 2), group=4, strides=(2, 2)),
    "signal": form(x(3, 5), w(3, 2, 3), w(2), strides=(2,), pads=(1, 1)),
    "volume": form(x(2, 2, 3, 2), w(2, 3, 2, 1, 2), strides=(2, 1, 2)),
    "same, upper": form(x(3, 4, 3), w(3, 2, 3, 3), strides=(2, 2), auto_pad="SAME_UPPER"),
    "same, lower": form(x(3, 4, 3), w(3, 2, 3, 3), strides=(2, 2), auto_pad="SAME_LOWER"),
    "valid": form(x(3, 4, 3), w(3, 2, 3, 3), strides=(2, 2), auto_pad="VALID"),
    "output shape": form(x(3, 4, 3), w(3, 2, 3, 3), strides=(2, 2), output_shape=(8, 7)),
}


def recurrent(gates: int, states: int, functions: int, **attributes: Attribute) -> Mapping[str, Form]:
    """Sequences of 4 steps of 3 features, 2 hidden units, `states` states."""
    hidden, every = 2, ("y", "h", "c")[: 1 + states]

    def one(directions: int, *more: Input | None, outputs: tuple[str, ...] = every, **changes: Attribute) -> Form:
        rows, order = gates * hidden, (1, 0, 2)
        weights = (w(directions, rows, 3), w(directions, rows, hidden), w(directions, 2 * rows))
        sequence = Input((4, 3), order=order)
        return form(sequence, *weights, *more, outputs=outputs, hidden_size=hidden, **attributes, **changes)

    start = Input((1, hidden), order=(1, 0, 2))
    return {
        "forward": one(1),
        "the sequence alone": one(1, outputs=("y",)),
        "the end alone": one(1, outputs=("", "h")),
        "no bias": form(*one(1).inputs[:3], outputs=every, hidden_size=hidden, **attributes),
        "reverse": one(1, direction="reverse"),
        "both directions": one(2, direction="bidirectional"),
        "initial states": one(1, None, *[start] * states),
        "both directions, initial states": one(
            2, None, *[Input((2, hidden), order=(1, 0, 2))] * states, direction="bidirectional"
        ),
        "other functions": one(1, activations=("Softsign", "Tanh", "Sigmoid")[:functions]),
    }


LAYERS = {
    "last axis": form(x(4, 6), w(6), w(6), axis=-1, epsilon=1e-3),
    "no shift": form(x(4, 6), w(6), axis=-1),
    "two axes": form(x(2, 4, 3), w(4, 3), w(4, 3), axis=2),
    "all axes": form(x(2, 3), w(2, 3), w(2, 3), axis=1),
    "rows": form(x(6), w(6), w(6)),
    "first axis alone": form(x(2, 4, 3), w(3), w(3), axis=3),
}
GROUPED = {
    "two": form(x(4, 3, 2), w(4), w(4), num_groups=2, epsilon=1e-3),
    "one": form(x(4, 3, 2), w(4), w(4), num_groups=1),
    "each": form(x(4, 5), w(4), w(4), num_groups=4),
}
ROUNDING = {"images": form(x(4, 3, 2))}
RESIZED = {
    "nearest, twice": form(x(2, 3, 2), None, c(1.0, 1.0, 2.0, 2.0), mode="nearest"),
    "nearest, floor": form(
        x(2, 3, 2),
        None,
        c(1.0, 1.0, 2.0, 3.0),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "nearest, smaller": form(x(2, 6, 4), None, c(1.0, 1.0, 0.5, 0.5), mode="nearest"),
    "linear, twice": form(x(2, 3, 2), None, c(1.0, 1.0, 2.0, 2.0), mode="linear"),
    "linear, corners": form(
        x(2, 3, 2), None, c(1.0, 1.0, 2.0, 2.0), mode="linear", coordinate_transformation_mode="align_corners"
    ),
    "linear, signal": form(x(2, 4), None, c(1.0, 1.0, 2.0), mode="linear"),
    "cubic": form(x(2, 4, 4), None, c(1.0, 1.0, 2.0, 1.5), mode="cubic"),
}
DEPTH = {"blocks first": form(x(8, 2, 3), blocksize=2), "channels first": form(x(8, 2, 3), blocksize=2, mode="CRD")}
SLICES = {
    "middle": form(x(4, 6), c(1), c(4), c(2)),
    "steps": form(x(4, 6), c(0), c(6), c(2), c(2)),
    "backwards": form(x(4, 6), c(-1), c(-7), c(-1), c(-2)),
    "two axes": form(x(4, 6, 2), c(1, 0), c(3, 4), c(1, 2), c(1, 1)),
    "from the end": form(x(4, 6), c(-3), c(2**31 - 1), c(1)),
}
GATHERS = {
    "a table": form(w(7, 5), ids(7, 4)),
    "a table, other axis": form(w(5, 7), ids(7, 4), axis=1),
    "one place": form(x(4, 6), Input((), constant=np.array(0)), axis=1),
    "a place from the end": form(x(4, 6), Input((), constant=np.array(-1)), axis=2),
    "several, one twice": form(x(4, 6), c(2, 0, 2), axis=1),
}
PADS = {
    "zeros": form(x(2, 3, 2), c(0, 0, 1, 2, 0, 0, 0, 1)),
    "a number": form(x(2, 3, 2), c(0, 0, 1, 2, 0, 0, 0, 1), s(1.5)),
    "less": form(x(2, 4, 3), c(0, 0, -1, 0, 0, 0, 0, -1)),
    "some axes": form(x(2, 3, 2), c(1, 2), None, c(1)),
    "reflected": form(x(2, 4, 3), c(0, 0, 2, 1, 0, 0, 1, 2), mode="reflect"),
    "edges": form(x(2, 3, 2), c(0, 0, 1, 2, 0, 0, 2, 1), mode="edge"),
    "around": form(x(2, 3, 2), c(0, 0, 1, 2, 0, 0, 2, 1), mode="wrap"),
    "edges of a signal": form(x(2, 3), c(0, 0, 1, 0, 0, 2), mode="edge"),
}
LP = {
    "two": form(x(2, 4, 4), kernel_shape=(2, 2), strides=(2, 2), p=2),
    "one": form(x(2, 4, 4), kernel_shape=(2, 2), p=1),
    "three, padded": form(x(2, 4, 4), kernel_shape=(3, 2), strides=(2, 1), pads=(1, 0, 1, 1), p=3),
    "signal": form(x(2, 6), kernel_shape=(3,), p=2),
}
PRODUCTS = {
    "tokens by a weight": form(x(4, 6), w(6, 5)),
    "rows by a weight": form(x(6), w(6, 5)),
    "two values": form(x(2, 4, 3), x(2, 3, 5)),
    "broadcast left": form(w(4, 3), x(2, 3, 5)),
    "broadcast between": form(x(2, 4, 3), x(1, 3, 5)),
    "a batch of weights": form(x(2, 4, 3), w(2, 3, 5)),
    "one example of many": form(x(4, 3), w(2, 1, 3, 5)),
}
SOFTMAXES = {
    "last": form(x(4, 6)),
    "channels": form(x(4, 3, 2), axis=1),
    "space": form(x(4, 3, 2), axis=2),
    "channels from the end": form(x(4, 6), axis=-2),
}
COMPARED = {"alike": form(x(4, 6), x(4, 6)), "a number": form(x(4, 6), s(0.1))}

FORMS: Mapping[str, Mapping[str, Form]] = {
    "Abs": PLAIN,
    "Add": SIDES,
    "And": TWO_TRUTHS,
    "AveragePool": {
        **WINDOWS,
        "pads counted": form(x(2, 5, 5), kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), count_include_pad=1),
        "ceil, pads counted": form(
            x(2, 5, 5), kernel_shape=(4, 4), strides=(2, 2), pads=(1, 1, 1, 1), ceil_mode=1, count_include_pad=1
        ),
    },
    "BatchNormalization": {
        "images": form(x(4, 3, 2), w(4), w(4), w(4), wp(4), epsilon=1e-3),
        "flat": form(x(4), w(4), w(4), w(4), wp(4)),
        "volume": form(VOLUME, w(2), w(2), w(2), wp(2)),
    },
    "Cast": {"truths": form(mask(4, 6), to=1), "numbers": form(x(4, 6), to=1)},
    "Ceil": ROUNDING,
    "Celu": {**PLAIN, "alpha": form(IMAGE, alpha=0.4), **LARGE},
    "Clip": {
        "both": form(IMAGE, s(-0.2), s(0.3)),
        "low": form(IMAGE, s(0.1)),
        "high": form(IMAGE, None, s(0.1)),
        "none": form(IMAGE),
    },
    "Concat": {
        "two": form(x(2, 3), x(4, 3), axis=1),
        "three": form(x(2, 3), x(4, 3), x(1, 3), axis=1),
        "last axis": form(x(2, 3), x(2, 1), axis=-1),
        "a weight": form(x(1, 3, 2), x(2, 3, 2), axis=1),
    },
    "Conv": CONVOLUTIONS,
    "ConvTranspose": TRANSPOSED,
    "Cos": PLAIN,
    "DepthToSpace": DEPTH,
    "Div": POSITIVE_RIGHT,
    "Dropout": {"half": form(x(4, 6), s(0.5)), "none said": form(x(4, 6))},
    "Elu": {**PLAIN, "alpha": form(IMAGE, alpha=0.4), **LARGE},
    "Equal": COMPARED,
    "Erf": PLAIN,
    "Exp": PLAIN,
    "Expand": {
        "space": form(x(4, 1, 1), c(1, 1, 3, 2)),
        "an axis in front": form(x(1), c(2, 1, 5)),
        "lower rank than wanted": form(w(1, 3), c(2, 4, 3)),
        "all stays": form(x(4, 3), c(1, 1, 1)),
    },
    "Flatten": {"images": form(x(2, 3, 2)), "flat": form(x(4))},
    "Floor": ROUNDING,
    "GRU": {
        **recurrent(3, 1, 2),
        **{f"{name}, reset last": each for name, each in recurrent(3, 1, 2, linear_before_reset=1).items()},
    },
    "Gather": GATHERS,
    "Gelu": {
        "by erf": form(IMAGE),
        "by tanh": form(IMAGE, approximate="tanh"),
        "by erf, said": form(IMAGE, approximate="none"),
        **LARGE,
    },
    "Gemm": {
        "bias": form(x(6), w(5, 6), w(5), transB=1),
        "no bias": form(x(6), w(5, 6), transB=1),
        "not transposed": form(x(6), w(6, 5), w(5)),
        "factors": form(x(6), w(5, 6), w(5), transB=1, alpha=0.5, beta=2.0),
        "one row of bias": form(x(6), w(5, 6), w(1, 5), transB=1),
    },
    "GlobalAveragePool": {"images": form(x(4, 3, 2)), "signal": form(x(4, 5)), "volume": form(VOLUME)},
    "GlobalLpPool": {
        "two": form(x(4, 3, 2)),
        "one": form(p(4, 3, 2), p=1),
        "three": form(x(4, 3, 2), p=3),
        "signal": form(x(4, 5), p=2),
    },
    "GlobalMaxPool": {"images": form(a(4, 3, 2)), "signal": form(a(4, 5)), "volume": form(a(2, 4, 3, 5))},
    "Greater": COMPARED,
    "GreaterOrEqual": COMPARED,
    "GroupNormalization": GROUPED,
    "HardSigmoid": {**PLAIN, "other line": form(IMAGE, alpha=0.3, beta=0.4)},
    "HardSwish": {**PLAIN, "large numbers": form(Input((4, 3), lambda r, shape: 5 * normal(r, shape)))},
    "InstanceNormalization": {
        "images": form(x(4, 3, 2), w(4), w(4), epsilon=1e-3),
        "signal": form(x(4, 5), w(4), w(4)),
        "volume": form(VOLUME, w(2), w(2)),
    },
    "IsNaN": {"images": form(IMAGE)},
    "LRN": {
        "five": form(x(7, 2, 3), size=5, alpha=0.5, beta=0.6, bias=1.5),
        "three": form(x(4, 2, 3), size=3),
    },
    "LSTM": {
        **recurrent(4, 2, 3),
        "peepholes": form(
            Input((4, 3), order=(1, 0, 2)),
            w(1, 8, 3),
            w(1, 8, 2),
            w(1, 16),
            None,
            None,
            None,
            w(1, 6),
            outputs=("y", "h", "c"),
            hidden_size=2,
        ),
        "input and forget gate as one": recurrent(4, 2, 3, input_forget=1)["forward"],
    },
    "LayerNormalization": LAYERS,
    "LeakyRelu": {**PLAIN, "slope": form(IMAGE, alpha=0.2)},
    "Less": COMPARED,
    "LessOrEqual": COMPARED,
    "Log": POSITIVE,
    "LogSoftmax": SOFTMAXES,
    "LpPool": LP,
    "MatMul": PRODUCTS,
    "Max": SEVERAL,
    "MaxPool": WINDOWS,
    "Min": SEVERAL,
    "Mish": {**PLAIN, **LARGE},
    "Mul": SIDES,
    "Neg": PLAIN,
    "Not": {"images": form(mask(4, 6))},
    "Or": TWO_TRUTHS,
    "PRelu": {
        "channels": form(IMAGE, w(4, 1, 1)),
        "one": form(IMAGE, w(1)),
        "every place": form(x(4, 6), w(4, 6)),
        "a row": form(x(4, 6), w(6)),
    },
    "Pad": PADS,
    "Pow": {
        "square": form(TOKENS, s(2.0)),
        "cube": form(TOKENS, s(3.0)),
        "root": form(p(4, 6), s(0.5)),
        "integer": form(TOKENS, Input((), constant=np.array(2))),
        "an exponent a channel": form(p(2, 3), Input((), constant=np.array([[1.5], [-0.5]], np.float32))),
        "computed": form(p(4, 6), TOKENS),
        "computed, broadcast": form(p(4, 1), x(1, 6)),
        "a constant left": form(s(1.5), TOKENS),
    },
    "RNN": recurrent(1, 1, 1),
    "Reciprocal": POSITIVE,
    "ReduceL1": REDUCED,
    "ReduceL2": REDUCED,
    "ReduceMax": REDUCED,
    "ReduceMean": REDUCED,
    "ReduceMin": REDUCED,
    "ReduceProd": {name: each for name, each in REDUCED.items() if name != "batch too"},
    "ReduceSum": REDUCED,
    "ReduceSumSquare": REDUCED,
    "Relu": PLAIN,
    "Reshape": {
        "heads": form(x(4, 6), c(0, 4, 2, 3)),
        "one open": form(x(4, 6), c(0, -1)),
        "folded batch": form(x(4, 6), c(-1, 6)),
    },
    "Resize": RESIZED,
    "Round": ROUNDING,
    "Selu": {**PLAIN, "other numbers": form(IMAGE, alpha=1.2, gamma=0.7), **LARGE},
    "Sigmoid": {**PLAIN, **LARGE},
    "Sign": ROUNDING,
    "Sin": PLAIN,
    "Slice": SLICES,
    "Softmax": SOFTMAXES,
    "Softplus": {**PLAIN, "large numbers": form(Input((4, 3), lambda r, shape: 60 * normal(r, shape)))},
    "Softsign": PLAIN,
    "SpaceToDepth": {"images": form(x(2, 4, 6), blocksize=2)},
    "Sqrt": POSITIVE,
    "Sub": SIDES,
    "Tanh": {**PLAIN, **LARGE},
    "ThresholdedRelu": {**PLAIN, "other threshold": form(IMAGE, alpha=0.2)},
    "Transpose": {
        "tokens": form(x(4, 6), perm=(0, 2, 1)),
        "heads": form(x(4, 2, 3), perm=(0, 2, 1, 3)),
        "batch inside": form(x(4, 6), perm=(1, 0, 2)),
    },
    "Where": {
        "alike": form(mask(4, 6), x(4, 6), x(4, 6)),
        "a number right": form(mask(4, 6), x(4, 6), s(-3.0)),
        "a number left": form(mask(4, 6), s(-2.0), x(4, 6)),
        "channels left": form(mask(4, 6), w(4, 1), x(4, 6)),
        "channels right": form(mask(4, 6), x(4, 6), w(6)),
        "the mask broadcast": form(mask(1, 1, 6), x(2, 4, 6), x(2, 4, 6)),
        "all broadcast": form(mask(1, 6), x(4, 1), w(4, 6)),
    },
}


TRUTHS = frozenset({"And", "Equal", "Greater", "GreaterOrEqual", "IsNaN", "Less", "LessOrEqual", "Not", "Or"})
"""Ops whose output is a truth, made a number by a Cast."""


def model_of(op: str, one: Form) -> Model:
    """The network of one node; where the node takes another order of axes, a Transpose stands before."""
    ports: list[Port] = []
    nodes: list[Node] = []
    weights: dict[str, Array] = {}
    names: list[str] = []
    for index, each in enumerate(one.inputs):
        name = f"in{index}" if each else ""
        if each is None:
            pass
        elif each.constant is not None:
            weights[name] = each.constant
        elif each.weight:
            weights[name] = each.draw(np.random.default_rng(index), each.shape)
        else:
            ports.append(Port(name, each.draw(np.random.default_rng(), (1,)).dtype.name, each.shape))
            if each.order:
                nodes.append(Node(f"order{index}", "Transpose", (name,), (f"ordered{index}",), {"perm": each.order}))
                name = f"ordered{index}"
        names.append(name)
    made = ("truth",) if op in TRUTHS else one.outputs
    nodes.append(Node("node", op, tuple(names), made, dict(one.attributes)))
    if op in TRUTHS:
        nodes.append(Node("number", "Cast", made, one.outputs, {"to": 1}))
    model = Model(op, tuple(ports), (), tuple(nodes), weights)
    found = shapes(model, BATCH)
    return model.replace(outputs=tuple(Port(name, "float32", found[name][1:]) for name in one.outputs if name))


def examples_of(one: Form, seed: int = 1) -> dict[str, Array]:
    """Examples by input name."""
    return {
        f"in{index}": each.draw(np.random.default_rng([seed, index]), (BATCH, *each.shape))
        for index, each in enumerate(one.inputs)
        if each and each.constant is None and not each.weight
    }
