"""Families of members: three settings each that share a mother. The first two differ in width only, the third also in
depth where layers can be inserted exactly. Members are built from a seed, the second with perturbed statistics."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch_convolutional as cnn
import torch_mobile as mobile
import torch_sequences as tokens
from exporters import Input, perturbed
from torch_convolutional import Net, nn, torch

Setting = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """How a family's members are made: builder, settings of three members, inputs."""

    build: Callable[..., Net]
    settings: tuple[Setting, Setting, Setting]
    inputs: tuple[Input, ...]

    def member(self, number: int, fresh: bool | None = None) -> Net:
        """A member in eval mode; only the second is perturbed unless `fresh` says otherwise."""
        torch.manual_seed(number)
        net = self.build(**self.settings[number])
        return (net if (number != 1 if fresh is None else fresh) else perturbed(net, number)).eval()


IMAGE = (Input("image", (3, cnn.SIDE, cnn.SIDE)),)
THUMB = (Input("image", (3, 8, 8)),)
SIGNAL = (Input("signal", (4, 32)),)
SERIES = (Input("series", (tokens.TOKENS, 6)),)
TABLE = (Input("features", (20,)),)
WORDS = (Input("words", (tokens.TOKENS,), tokens.WORDS),)
MASKED = (*WORDS, Input("mask", (tokens.TOKENS,), 2))
TYPED = (*MASKED, Input("types", (tokens.TOKENS,), 2))

_RESNET = ({"width": 4}, {"width": 6}, {"width": 5, "depths": (2, 1)})
_VIT: tuple[Setting, Setting, Setting] = ({}, {"width": 24, "heads": 3, "hidden": 30}, {"width": 16, "depth": 2})
_ONE = ({"width": 6}, {"width": 9}, {"width": 8})


def _family(build: Callable[..., Net], inputs: tuple[Input, ...], *settings: Setting, **fixed: Any) -> Family:
    first, second, third = settings
    return Family(partial(build, **fixed), (first, second, third), inputs)


def _vit(**fixed: Any) -> Family:
    return _family(tokens.VisionTransformer, IMAGE, *_VIT, **fixed)


FAMILIES: dict[str, Family] = {
    "mlp": _family(cnn.perceptron, THUMB, {"widths": (10,)}, {"widths": (14,)}, {"widths": (12, 11)}),
    "mlp_norm": _family(
        cnn.perceptron, THUMB, {"widths": (10, 8)}, {"widths": (14, 9)}, {"widths": (11, 8)}, norm=True
    ),
    "vgg": _family(cnn.vgg, IMAGE, {}, {"blocks": ((7, 8), (9,)), "hidden": 14}, {"blocks": ((6, 7), (8, 9))}),
    "vgg_norm": _family(cnn.vgg, IMAGE, {}, {"blocks": ((7, 8), (9,))}, {"blocks": ((6, 7), (8, 9))}, norm=True),
    "resnet": _family(cnn.resnet, IMAGE, *_RESNET),
    "resnet_imagenet": _family(cnn.resnet_imagenet, IMAGE, *_RESNET),
    "resnet_option_a": _family(cnn.resnet_option_a, IMAGE, {"width": 4}, {"width": 8}, {"width": 6, "depths": (2, 2)}),
    "resnet_group_norm": _family(
        cnn.resnet_group_norm, IMAGE, {"width": 4}, {"width": 8}, {"width": 4, "depths": (2, 1)}
    ),
    "resnet_bottleneck": _family(
        cnn.resnet_bottleneck, IMAGE, {}, {"width": 10, "inner": 5}, {"width": 9, "inner": 6, "depths": (1, 2)}
    ),
    "resnet_preactivation": _family(cnn.resnet_preactivation, IMAGE, *_RESNET),
    "resnet_wide": _family(
        cnn.resnet_preactivation, IMAGE, {"factor": 2}, {"factor": 3}, {"factor": 2, "depths": (2, 2)}
    ),
    "resnext": _family(
        cnn.resnet_bottleneck,
        IMAGE,
        {"inner": 8, "groups": 4},
        {"width": 10, "inner": 12, "groups": 4},
        {"inner": 8, "groups": 4, "depths": (2, 1)},
    ),
    "densenet": _family(cnn.densenet, IMAGE, {}, {"growth": 5, "width": 9}, {"growth": 6, "width": 8}),
    "densenet_depth": _family(cnn.densenet, IMAGE, {}, {"growth": 5}, {"depths": (2, 3)}),
    "inception": _family(
        cnn.inception, IMAGE, {}, {"branches": (4, 4, 3, 3), "width": 7}, {"branches": (3, 5, 2, 2), "width": 8}
    ),
    "leaky_relu": _family(cnn.activated, IMAGE, *_ONE),
    "prelu": _family(cnn.activated, IMAGE, *_ONE, act=nn.PReLU),
    "elu": _family(cnn.activated, IMAGE, *_ONE, act=nn.ELU),
    "tanh": _family(cnn.activated, IMAGE, *_ONE, act=nn.Tanh),
    "mish": _family(cnn.activated, IMAGE, *_ONE, act=nn.Mish),
    "softplus": _family(cnn.activated, IMAGE, *_ONE, act=nn.Softplus),
    "signal": _family(cnn.signal, SIGNAL, {}, {"widths": (8, 9)}, {"widths": (6, 7, 8)}),
    "signal_plain": _family(cnn.signal, SIGNAL, {"kernel": 3}, {"widths": (8, 9)}, {"widths": (6, 7, 8)}, norm=False),
    "mobilenet_v2": _family(mobile.mobilenet_v2, IMAGE, {}, {"width": 6}, {"width": 5, "depths": (2, 2)}),
    "mobilenet_v3": _family(mobile.mobilenet_v3, IMAGE, {}, {"width": 6, "hidden": 16}, {"width": 5, "depths": (1, 3)}),
    "efficientnet": _family(mobile.efficientnet, IMAGE, {}, {"width": 6}, {"width": 5, "depths": (1, 3)}),
    "efficientnet_mean": _family(
        mobile.efficientnet, IMAGE, {}, {"width": 6}, {"width": 5, "depths": (1, 3)}, mean=True
    ),
    "convnext": _family(mobile.convnext, IMAGE, {}, {"width": 12}, {"width": 6, "depths": (2, 2)}),
    "convnext_conv": _family(mobile.convnext, IMAGE, {}, {"width": 12}, {"width": 6, "depths": (2, 2)}, conv=True),
    "squeezenet": _family(
        mobile.squeezenet, IMAGE, {}, {"squeeze": 4, "one": 5, "three": 6}, {"width": 8, "squeeze": 5}
    ),
    "shufflenet": _family(mobile.shufflenet, IMAGE, {}, {"width": 12}, {"width": 10}),
    "vit": _vit(),
    "vit_explicit": _vit(explicit=True),
    "vit_mean": _vit(token=False),
    "vit_scale": _vit(scale=True),
    "vit_separate": _vit(attention="separate"),
    "vit_separate_explicit": _vit(attention="separate", explicit=True, token=False),
    "vit_head_size": _family(
        tokens.VisionTransformer, IMAGE, {}, {"width": 24, "heads": 2}, {"width": 32, "heads": 2, "hidden": 40}
    ),
    "encoder": _family(tokens.Encoder, SERIES, {}, {"width": 32, "heads": 4}, {"width": 24, "heads": 3, "hidden": 30}),
    "encoder_norm_first": _family(
        tokens.Encoder, SERIES, {}, {"width": 24, "heads": 3}, {"depth": 2, "hidden": 30}, first=True, act="gelu"
    ),
    "mixer": _family(tokens.Mixer, IMAGE, {}, {"width": 24, "across": 10, "hidden": 20}, {"width": 12, "depth": 2}),
    "bert": _family(tokens.Bert, TYPED, {}, {"width": 24, "heads": 3, "hidden": 30}, {"width": 32, "heads": 4}),
    "bert_two_inputs": _family(
        tokens.Bert, MASKED, {}, {"width": 24, "heads": 3, "hidden": 30}, {"width": 16, "hidden": 40}, types=False
    ),
    "word_bag": _family(tokens.WordBag, WORDS, {}, {"width": 10, "hidden": 14}, {"width": 9, "hidden": 12}),
    "glu": _family(tokens.Gated, TABLE, {}, {"width": 14, "hidden": 12}, {"depth": 2}),
    "swiglu": _family(tokens.Gated, TABLE, {}, {"width": 14, "hidden": 12}, {"depth": 2}, kind="swiglu"),
    "lstm": _family(tokens.Recurrent, SERIES, {}, {"width": 12}, {"width": 10}, cell="lstm"),
    "gru": _family(tokens.Recurrent, SERIES, {}, {"width": 12}, {"width": 10}, cell="gru"),
}
