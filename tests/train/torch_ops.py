"""Every op with a rule in torch, one function an op: (node, inputs) -> output, or outputs in ONNX's order."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from mnx.graphs.model import Array, Node

Op = Callable[[Node, list[Any]], Any]


def apply(node: Node, inputs: list[Any], masks: Mapping[str, Array]) -> Any:
    """One node in training mode; running statistics move in place."""
    if node.op == "Dropout":
        return inputs[0] * torch.tensor(masks[node.name])
    return OPS[node.op](node, inputs)


def _padded(node: Node, x: Tensor, kernel: tuple[int, ...], value: float = 0.0) -> Tensor:
    """x with the pads of a window, automatic ones too."""
    axes = x.ndim - 2
    pads = list(node.integers("pads", (0,) * 2 * axes))
    automatic = str(node.attributes.get("auto_pad", "NOTSET"))
    if automatic.startswith("SAME"):
        strides, steps = node.integers("strides", (1,) * axes), node.integers("dilations", (1,) * axes)
        for axis in range(axes):
            size = x.shape[axis + 2]
            outs = -(-size // strides[axis])
            missing = max(0, (outs - 1) * strides[axis] + (kernel[axis] - 1) * steps[axis] + 1 - size)
            ends = (missing // 2, missing - missing // 2)
            pads[axis], pads[axis + axes] = ends if automatic == "SAME_UPPER" else ends[::-1]
    return functional.pad(x, [pads[side + axis] for axis in reversed(range(axes)) for side in (0, axes)], value=value)


def _conv(node: Node, inputs: list[Any]) -> Tensor:
    x, weight, *bias = inputs
    axes = x.ndim - 2
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    padded = _padded(node, x, tuple(weight.shape[2:]))
    strides, dilations = node.integers("strides", (1,) * axes), node.integers("dilations", (1,) * axes)
    return function(padded, weight, bias[0] if bias else None, strides, 0, dilations, node.integer("group", 1))


def _conv_transpose(node: Node, inputs: list[Any]) -> Tensor:
    """All of it, then cut by the pads."""
    x, weight, *bias = inputs
    axes = x.ndim - 2
    function = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[axes - 1]
    strides, dilations = node.integers("strides", (1,) * axes), node.integers("dilations", (1,) * axes)
    more = node.integers("output_padding", (0,) * axes)
    whole = function(x, weight, None, strides, 0, 0, node.integer("group", 1), dilations)
    whole = functional.pad(whole, [end for extra in reversed(more) for end in (0, extra)])
    pads = list(node.integers("pads", (0,) * 2 * axes))
    automatic = str(node.attributes.get("auto_pad", "NOTSET"))
    wanted = node.integers("output_shape", ())
    if automatic.startswith("SAME"):
        wanted = tuple(size * stride for size, stride in zip(x.shape[2:], strides, strict=True))
    for axis, size in enumerate(wanted):
        cut = whole.shape[axis + 2] - size
        ends = (cut // 2, cut - cut // 2)
        pads[axis], pads[axis + axes] = ends if automatic == "SAME_UPPER" else ends[::-1]
    for axis in range(axes):
        whole = whole.narrow(axis + 2, pads[axis], whole.shape[axis + 2] - pads[axis] - pads[axis + axes])
    return whole if not bias else whole + bias[0].reshape(-1, *(1,) * axes)


def _max_pool(node: Node, inputs: list[Any]) -> Tensor:
    x = inputs[0]
    axes = x.ndim - 2
    kernel, dilations = node.integers("kernel_shape", ()), node.integers("dilations", (1,) * axes)
    strides = node.integers("strides", (1,) * axes)
    function = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[axes - 1]
    padded = _padded(node, x, kernel, -float("inf"))
    return function(padded, kernel, strides, 0, dilations, ceil_mode=bool(node.integer("ceil_mode", 0)))


def _average_pool(node: Node, inputs: list[Any]) -> Tensor:
    """The mean over windows as a mean of what counts: sums of x over sums of ones."""
    x = inputs[0]
    axes = x.ndim - 2
    kernel, strides = node.integers("kernel_shape", ()), node.integers("strides", (1,) * axes)
    dilations, pads = node.integers("dilations", (1,) * axes), node.integers("pads", (0,) * 2 * axes)
    plain = pads[:axes] == pads[axes:] and set(dilations) == {1} and "auto_pad" not in node.attributes
    if plain and axes < 3:
        function = (functional.avg_pool1d, functional.avg_pool2d)[axes - 1]
        counted = bool(node.integer("count_include_pad", 0))
        return function(x, kernel, strides, pads[:axes], bool(node.integer("ceil_mode", 0)), counted)
    ones = torch.ones(x.shape[1], 1, *kernel)
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]

    def sums(value: Tensor) -> Tensor:
        return function(_padded(node, value, kernel), ones, None, strides, 0, dilations, x.shape[1])

    return sums(x) / sums(torch.ones_like(x))


def _lp_pool(node: Node, inputs: list[Any]) -> Tensor:
    x, power = inputs[0], node.integer("p", 2)
    axes = x.ndim - 2
    kernel, strides = node.integers("kernel_shape", ()), node.integers("strides", (1,) * axes)
    function = (functional.conv1d, functional.conv2d)[axes - 1]
    ones = torch.ones(x.shape[1], 1, *kernel)
    return function(_padded(node, x.abs() ** power, kernel), ones, None, strides, 0, 1, x.shape[1]) ** (1 / power)


def _batch_norm(node: Node, inputs: list[Any]) -> Tensor:
    x, scale, shift, mean, variance = inputs
    momentum = 1 - node.real("momentum", 0.9)
    return functional.batch_norm(x, mean, variance, scale, shift, True, momentum, node.real("epsilon", 1e-5))


def _layer_norm(node: Node, inputs: list[Any]) -> Tensor:
    x, scale, *shift = inputs
    axis = node.integer("axis", -1) % x.ndim
    return functional.layer_norm(x, x.shape[axis:], scale, shift[0] if shift else None, node.real("epsilon", 1e-5))


def _pad(node: Node, inputs: list[Any]) -> Tensor:
    x, amounts = inputs[0], inputs[1].tolist()
    value = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
    axes = [axis % x.ndim for axis in inputs[3].tolist()] if len(inputs) > 3 else list(range(x.ndim))
    pads = [[0, 0] for _ in range(x.ndim)]
    for place, axis in enumerate(axes):
        pads[axis] = [amounts[place], amounts[place + len(axes)]]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    chosen = mode[str(node.attributes.get("mode", "constant"))]
    ends = [end for pair in reversed(pads if chosen == "constant" else pads[2:]) for end in pair]
    return functional.pad(x, ends, chosen, value) if chosen == "constant" else functional.pad(x, ends, chosen)


def _slice(node: Node, inputs: list[Any]) -> Tensor:
    x, starts, ends, *more = inputs
    axes = more[0].tolist() if more else range(len(starts))
    steps = more[1].tolist() if len(more) > 1 else [1] * len(starts)
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes, steps, strict=True):
        x = x.index_select(axis, torch.tensor(np.arange(x.shape[axis])[start:end:step].copy()))
    return x


def _gather(node: Node, inputs: list[Any]) -> Tensor:
    x, places = inputs
    axis = node.integer("axis", 0) % x.ndim
    found = x.index_select(axis, (places % x.shape[axis]).flatten())
    return found.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def _resize(node: Node, inputs: list[Any]) -> Tensor:
    x, scales = inputs[0], tuple(inputs[2].tolist()[2:])
    mode = str(node.attributes.get("mode", "nearest"))
    corners = node.attributes.get("coordinate_transformation_mode") == "align_corners"
    if mode == "nearest":
        return functional.interpolate(x, scale_factor=scales, mode="nearest-exact" if min(scales) < 1 else "nearest")
    mode = {"linear": ("linear", "bilinear")[x.ndim - 3], "cubic": "bicubic"}[mode]
    return functional.interpolate(x, scale_factor=scales, mode=mode, align_corners=corners)


def _lrn(node: Node, inputs: list[Any]) -> Tensor:
    size, alpha = node.integer("size", 1), node.real("alpha", 1e-4)
    return functional.local_response_norm(inputs[0], size, alpha, node.real("beta", 0.75), node.real("bias", 1.0))


_CELL = {"Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Softsign": functional.softsign}
_USUAL = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


def _recurrent(node: Node, inputs: list[Any]) -> tuple[Tensor, ...]:
    """The equations of ONNX, step by step."""
    x, weight, recurrent, bias, _, *rest = [*inputs, *[None] * (8 - len(inputs))]
    direction, hidden = node.attributes.get("direction", "forward"), node.integer("hidden_size", 0)
    names = tuple(node.attributes.get("activations", _USUAL[node.op] * weight.shape[0]))  # type: ignore[arg-type]
    sequences, ends, cells = [], [], []
    for way in range(weight.shape[0]):
        count = len(_USUAL[node.op])
        functions = [_CELL[str(name)] for name in names[way * count : (way + 1) * count]]
        both = torch.zeros(2 * weight.shape[1]) if bias is None else bias[way]
        wb, rb = both.chunk(2)
        h, c = (torch.zeros(x.shape[1], hidden) if state is None else state[way] for state in rest[:2])
        p = [torch.zeros(hidden)] * 3 if rest[2] is None else rest[2][way].chunk(3)
        order = range(len(x))[:: -1 if direction == "reverse" or way else 1]
        given: dict[int, Tensor] = {}
        for step in order:
            a = (x[step] @ weight[way].T + wb).chunk(weight.shape[1] // hidden, 1)
            r, m = rb.chunk(len(a)), recurrent[way].chunk(len(a))
            if node.op == "RNN":
                h = functions[0](a[0] + h @ m[0].T + r[0])
            elif node.op == "GRU":
                z, reset = (functions[0](a[gate] + h @ m[gate].T + r[gate]) for gate in range(2))
                after = node.integer("linear_before_reset", 0)
                seen = reset * (h @ m[2].T + r[2]) if after else (reset * h) @ m[2].T + r[2]
                h = (1 - z) * functions[1](a[2] + seen) + z * h
            else:
                s = [a[gate] + h @ m[gate].T + r[gate] for gate in range(4)]
                i = functions[0](s[0] + p[0] * c)
                f = 1 - i if node.integer("input_forget", 0) else functions[0](s[2] + p[2] * c)
                c = f * c + i * functions[1](s[3])
                h = functions[0](s[1] + p[1] * c) * functions[2](c)
            given[step] = h
        sequences.append(torch.stack([given[step] for step in range(len(x))]))
        ends.append(h)
        cells.append(c)
    return torch.stack(sequences, 1), torch.stack(ends), torch.stack(cells)


def _axes(node: Node, inputs: list[Any]) -> tuple[int, ...]:
    return tuple(inputs[1].tolist()) if len(inputs) > 1 else tuple(range(inputs[0].ndim))


def _reduced(function: Callable[..., Tensor]) -> Op:
    return lambda node, inputs: function(inputs[0], _axes(node, inputs), bool(node.integer("keepdims", 1)))


def _product(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keepdims)
    return x


def _space(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _global_max_pool(node: Node, inputs: list[Any]) -> Tensor:
    """As torch pools to one place: of equal ones the first takes the gradient."""
    x = inputs[0]
    pools = (functional.adaptive_max_pool1d, functional.adaptive_max_pool2d, functional.adaptive_max_pool3d)
    return pools[x.ndim - 3](x, 1)


def _global_lp_pool(node: Node, inputs: list[Any]) -> Tensor:
    power = node.integer("p", 2)
    return (inputs[0].abs() ** power).sum(_space(inputs[0]), keepdim=True) ** (1 / power)  # type: ignore[no-any-return]


def _depth_to_space(node: Node, inputs: list[Any]) -> Tensor:
    x, block = inputs[0], node.integer("blocksize", 1)
    if node.attributes.get("mode", "DCR") == "DCR":
        parts = x.shape[1] // block**2
        x = x.unflatten(1, (block**2, parts)).transpose(1, 2).flatten(1, 2)
    return functional.pixel_shuffle(x, block)


def _space_to_depth(node: Node, inputs: list[Any]) -> Tensor:
    block = node.integer("blocksize", 1)
    made = functional.pixel_unshuffle(inputs[0], block)
    return made.unflatten(1, (inputs[0].shape[1], block**2)).transpose(1, 2).flatten(1, 2)


def _gemm(node: Node, inputs: list[Any]) -> Tensor:
    x, weight, *bias = inputs
    product = node.real("alpha", 1.0) * (x @ (weight.T if node.integer("transB", 0) else weight))
    return product + node.real("beta", 1.0) * bias[0] if bias else product


def _clip(node: Node, inputs: list[Any]) -> Tensor:
    low, high = (*inputs[1:], None, None)[:2]
    return inputs[0] if low is None and high is None else torch.clamp(inputs[0], low, high)


def _reshape(node: Node, inputs: list[Any]) -> Tensor:
    x = inputs[0]
    return x.reshape([x.shape[place] if size == 0 else size for place, size in enumerate(inputs[1].tolist())])


def _prelu(node: Node, inputs: list[Any]) -> Tensor:
    return torch.where(inputs[0] > 0, inputs[0], inputs[0] * inputs[1])


def _in_turn(function: Callable[..., Tensor]) -> Op:
    def made(node: Node, inputs: list[Any]) -> Tensor:
        first = inputs[0]
        for other in inputs[1:]:
            first = function(first, other)
        return first

    return made


def _on_all(function: Callable[..., Tensor]) -> Op:
    return lambda node, inputs: function(*inputs)


OPS: Mapping[str, Op] = {
    **{op: _on_all(getattr(torch, op.lower())) for op in ("Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "IsNaN", "Log")},
    **{op: _on_all(getattr(torch, op.lower())) for op in ("Neg", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid")},
    **{op: _on_all(getattr(torch, op.lower())) for op in ("Sign", "Sin", "Sqrt", "Sub", "Tanh", "Where", "MatMul")},
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _recurrent),
    "Add": _on_all(torch.add),
    "And": _on_all(torch.logical_and),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": lambda node, inputs: inputs[0].float(),
    "Celu": lambda node, inputs: functional.celu(inputs[0], node.real("alpha", 1.0)),
    "Clip": _clip,
    "Concat": lambda node, inputs: torch.cat(inputs, node.integer("axis", 1)),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": _on_all(torch.div),
    "Elu": lambda node, inputs: functional.elu(inputs[0], node.real("alpha", 1.0)),
    "Equal": _on_all(torch.eq),
    "Expand": lambda node, inputs: inputs[0] * torch.ones(inputs[1].tolist()),
    "Flatten": lambda node, inputs: inputs[0].flatten(1),
    "Gather": _gather,
    "Gelu": lambda node, inputs: functional.gelu(
        inputs[0], approximate=str(node.attributes.get("approximate", "none"))
    ),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda node, inputs: inputs[0].mean(_space(inputs[0]), keepdim=True),
    "GlobalLpPool": _global_lp_pool,
    "GlobalMaxPool": _global_max_pool,
    "Greater": _on_all(torch.gt),
    "GreaterOrEqual": _on_all(torch.ge),
    "GroupNormalization": lambda node, inputs: functional.group_norm(
        inputs[0], node.integer("num_groups", 1), inputs[1], inputs[2], node.real("epsilon", 1e-5)
    ),
    "HardSigmoid": lambda node, inputs: torch.clamp(node.real("alpha", 0.2) * inputs[0] + node.real("beta", 0.5), 0, 1),
    "HardSwish": _on_all(functional.hardswish),
    "InstanceNormalization": lambda node, inputs: functional.instance_norm(
        inputs[0], weight=inputs[1], bias=inputs[2], eps=node.real("epsilon", 1e-5)
    ),
    "LRN": _lrn,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda node, inputs: functional.leaky_relu(inputs[0], node.real("alpha", 0.01)),
    "Less": _on_all(torch.lt),
    "LessOrEqual": _on_all(torch.le),
    "LogSoftmax": lambda node, inputs: inputs[0].log_softmax(node.integer("axis", -1)),
    "LpPool": _lp_pool,
    "Max": _in_turn(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _in_turn(torch.minimum),
    "Mish": _on_all(functional.mish),
    "Mul": _on_all(torch.mul),
    "Not": _on_all(torch.logical_not),
    "Or": _on_all(torch.logical_or),
    "PRelu": _prelu,
    "Pad": _pad,
    "ReduceL1": _reduced(lambda x, axes, kept: x.abs().sum(axes, kept)),
    "ReduceL2": _reduced(lambda x, axes, kept: torch.linalg.vector_norm(x, 2, axes, kept)),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceProd": _reduced(_product),
    "ReduceSum": _reduced(torch.sum),
    "ReduceSumSquare": _reduced(lambda x, axes, kept: (x * x).sum(axes, kept)),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda node, inputs: torch.tensor(
        inputs[0].shape[node.integer("start", 0) : node.integer("end", inputs[0].ndim)]
    ),
    "Selu": lambda node, inputs: (
        node.real("gamma", 1.0507009873554804) * functional.elu(inputs[0], node.real("alpha", 1.6732632423543772))
    ),
    "Slice": _slice,
    "Softmax": lambda node, inputs: inputs[0].softmax(node.integer("axis", -1)),
    "Softplus": _on_all(functional.softplus),
    "Softsign": _on_all(functional.softsign),
    "SpaceToDepth": _space_to_depth,
    "ThresholdedRelu": lambda node, inputs: functional.threshold(inputs[0], node.real("alpha", 1.0), 0.0),
    "Transpose": lambda node, inputs: inputs[0].permute(node.integers("perm", ())),
}
