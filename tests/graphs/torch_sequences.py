"""Small torch networks that read tokens: transformers for images and text, mixers, gated perceptrons, recurrent nets.

Written as timm, transformers and torch's own layers write them.
"""

from typing import ClassVar

from torch_convolutional import CLASSES, SIDE, Net, nn, torch

WORDS = 30
TOKENS = 7


def attend(q: Net, k: Net, v: Net, explicit: bool, mask: Net = None) -> Net:
    """Attention over (batch, heads, tokens, head_dim), by one call or written out."""
    if not explicit:
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)
    return (scores if mask is None else scores + mask).softmax(dim=-1) @ v


class Fused(nn.Module):
    """Self-attention with one linear layer for queries, keys and values, as timm writes it."""

    def __init__(self, width: int, heads: int, explicit: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.explicit = heads, explicit

    def forward(self, x: Net, mask: Net = None) -> Net:
        batch, tokens, width = x.shape
        split = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind(0)
        return self.out(attend(q, k, v, self.explicit, mask).transpose(1, 2).reshape(batch, tokens, width))


class Separate(nn.Module):
    """Self-attention with three linear layers, as transformers writes it."""

    def __init__(self, width: int, heads: int, explicit: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.heads, self.explicit = heads, explicit

    def split(self, x: Net) -> Net:
        return x.view(x.shape[0], x.shape[1], self.heads, x.shape[2] // self.heads).transpose(1, 2)

    def forward(self, x: Net, mask: Net = None) -> Net:
        q, k, v = (self.split(layer(x)) for layer in (self.q, self.k, self.v))
        joined = attend(q, k, v, self.explicit, mask).permute(0, 2, 1, 3).contiguous()
        return self.out(joined.view(x.shape[0], x.shape[1], x.shape[2]))


ATTENTION: dict[str, Net] = {"fused": Fused, "separate": Separate}


class Block(nn.Module):
    """Attention and a perceptron, each behind a LayerNorm and with a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int, attention: str, explicit: bool, scale: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = ATTENTION[attention](width, heads, explicit)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.scale1, self.scale2 = (nn.Parameter(torch.full((width,), 0.3)) if scale else 1.0 for _ in range(2))

    def forward(self, x: Net) -> Net:
        x = x + self.scaled(self.attention(self.norm1(x)), self.scale1)
        return x + self.scaled(self.mlp(self.norm2(x)), self.scale2)

    def scaled(self, x: Net, scale: Net) -> Net:
        return x if isinstance(scale, float) else x * scale


class VisionTransformer(nn.Module):
    """Patches, position embedding, blocks, and a class token or the mean of all tokens for the classifier."""

    def __init__(
        self,
        width: int = 16,
        heads: int = 2,
        depth: int = 1,
        hidden: int = 24,
        attention: str = "fused",
        explicit: bool = False,
        token: bool = True,
        scale: bool = False,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.2) if token else None
        self.position = nn.Parameter(torch.randn(1, (SIDE // 4) ** 2 + token, width) * 0.2)
        blocks = (Block(width, heads, hidden, attention, explicit, scale) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.classes = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, CLASSES)

    def forward(self, x: Net) -> Net:
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1)
        x = self.norm(self.blocks(x + self.position))
        return self.classes(x[:, 0] if self.token is not None else x.mean(dim=1))


class Encoder(nn.Module):
    """Torch's own encoder over tokens of features."""

    def __init__(
        self, width: int = 16, heads: int = 2, depth: int = 1, hidden: int = 24, first: bool = False, act: str = "relu"
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(6, width)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, 0.1, act, batch_first=True, norm_first=first)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.classes = nn.Linear(width, CLASSES)

    def forward(self, x: Net) -> Net:
        return self.classes(self.layers(self.enter(x)).mean(dim=1))


class MixerBlock(nn.Module):
    """A perceptron over the tokens and one over the channels."""

    def __init__(self, tokens: int, width: int, across: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, across), nn.GELU(), nn.Linear(across, tokens))
        self.channels = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Net) -> Net:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    """MLP-Mixer."""

    def __init__(self, width: int = 12, depth: int = 1, across: int = 8, hidden: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.Sequential(*(MixerBlock((SIDE // 4) ** 2, width, across, hidden) for _ in range(depth)))
        self.norm, self.classes = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x: Net) -> Net:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.classes(self.norm(self.blocks(x)).mean(dim=1))


class BertLayer(nn.Module):
    """Attention and a perceptron, each with its LayerNorm behind the shortcut."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention, self.norm1 = Separate(width, heads, explicit=True), nn.LayerNorm(width, eps=1e-12)
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Net, mask: Net) -> Net:
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.second(nn.functional.gelu(self.first(x))))


class Bert(nn.Module):
    """Word, position and (with a third input) type embeddings; a mask of zeros and ones; the first token is pooled."""

    def __init__(self, width: int = 16, heads: int = 2, depth: int = 1, hidden: int = 24, types: bool = True) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(TOKENS, width)
        self.types = nn.Embedding(2, width) if types else None
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(width, heads, hidden) for _ in range(depth))
        self.pooler, self.classes = nn.Linear(width, width), nn.Linear(width, CLASSES)
        self.register_buffer("ids", torch.arange(TOKENS)[None], persistent=False)

    def forward(self, words: Net, mask: Net, types: Net = None) -> Net:
        x = self.words(words) + self.places(self.ids[:, : words.shape[1]])
        if self.types is not None:
            x = x + self.types(types)
        x = self.norm(x)
        shut = (1.0 - mask[:, None, None, :].to(x.dtype)) * -10000.0
        for layer in self.layers:
            x = layer(x, shut)
        return self.classes(torch.tanh(self.pooler(x[:, 0])))


class WordBag(nn.Module):
    """Word embeddings, their mean, a hidden layer: the smallest reader of text."""

    def __init__(self, width: int = 8, hidden: int = 12) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, width)
        self.hidden, self.classes = nn.Linear(width, hidden), nn.Linear(hidden, CLASSES)

    def forward(self, words: Net) -> Net:
        return self.classes(torch.relu(self.hidden(self.words(words).mean(dim=1))))


class Gated(nn.Module):
    """A residual perceptron whose hidden half gates the other (GLU; SwiGLU with two layers)."""

    def __init__(self, width: int = 12, hidden: int = 10, depth: int = 1, kind: str = "glu") -> None:
        super().__init__()
        self.enter = nn.Linear(20, width)
        self.wide = nn.ModuleList(nn.Linear(width, 2 * hidden) for _ in range(depth if kind == "glu" else 0))
        self.left = nn.ModuleList(nn.Linear(width, hidden) for _ in range(0 if kind == "glu" else depth))
        self.right = nn.ModuleList(nn.Linear(width, hidden) for _ in range(0 if kind == "glu" else depth))
        self.back = nn.ModuleList(nn.Linear(hidden, width) for _ in range(depth))
        self.classes = nn.Linear(width, CLASSES)

    def gated(self, number: int, x: Net) -> Net:
        if self.wide:
            return nn.functional.glu(self.wide[number](x), dim=-1)
        return nn.functional.silu(self.left[number](x)) * self.right[number](x)

    def forward(self, x: Net) -> Net:
        x = torch.relu(self.enter(x))
        for number, back in enumerate(self.back):
            x = x + back(self.gated(number, x))
        return self.classes(x)


class Recurrent(nn.Module):
    """An LSTM or GRU whose last output is classified."""

    CELLS: ClassVar[dict[str, Net]] = {"lstm": nn.LSTM, "gru": nn.GRU}

    def __init__(self, width: int = 8, depth: int = 1, cell: str = "lstm") -> None:
        super().__init__()
        self.cells = self.CELLS[cell](6, width, depth, batch_first=True)
        self.classes = nn.Linear(width, CLASSES)

    def forward(self, x: Net) -> Net:
        return self.classes(self.cells(x)[0][:, -1])
