"""The models that are timed, on data that stays where it is: scripts/bench-train-torch trains them in PyTorch,
scripts/export-bench-models writes them for our own engine, so that both train the same graphs.
"""
import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small

from .resnet import resnet

BATCHES = 8  # at least as many has the resident data set, from which each step gathers one
ROWS_MIN = 1024
CLASSES = 10


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES))


def cnn() -> nn.Module:
    layers, inputs = [], 3
    for width in (32, 64, 128):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        inputs = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, CLASSES))


class Block(nn.Module):
    """A transformer's block, normalised before each layer."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.attention(self.norm1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.project(y.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class Transformer(nn.Module):
    """Tokens in, a score of each token of the vocabulary at each place out."""

    def __init__(self, vocabulary: int, tokens: int, width: int, heads: int, layers: int, causal: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads, causal) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.words(tokens) + self.positions)))


@dataclasses.dataclass(frozen=True)
class Timed:
    """`shape` is a row of the data; `vocabulary` is None for numbers, where the target is a class a row."""

    make: Callable[[], nn.Module]
    batch: int
    shape: tuple[int, ...]
    vocabulary: int | None = None

    @property
    def rows(self) -> int:
        return max(ROWS_MIN, BATCHES * self.batch)

    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return self.make().train()

    def data(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        if self.vocabulary is None:
            x = torch.randn(self.rows, *self.shape, generator=generator)
            return x, torch.randint(CLASSES, (self.rows,), generator=generator)
        shape = (self.rows, *self.shape)
        x = torch.randint(self.vocabulary, shape, generator=generator)
        return x, torch.randint(self.vocabulary, shape, generator=generator)


TIMED = {
    "mlp": Timed(mlp, 128, (784,)),
    "cnn": Timed(cnn, 64, (3, 32, 32)),
    "cnn1024": Timed(cnn, 1024, (3, 32, 32)),
    "resnet18": Timed(lambda: resnet(3, (64, 128, 256, 512), blocks=2, classes=CLASSES), 64, (3, 32, 32)),
    "transformer": Timed(lambda: Transformer(256, 128, 256, 4, 1, causal=False), 16, (128,), vocabulary=256),
    "mobilenet": Timed(lambda: mobilenet_v3_small(num_classes=CLASSES), 32, (3, 96, 96)),
    "gpt2": Timed(lambda: Transformer(8192, 128, 384, 6, 6, causal=True), 4, (128,), vocabulary=8192),
}
