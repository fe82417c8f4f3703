"""Networks of the usual kinds, as small as they go. They know nothing of data, losses and ONNX."""
import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.vision_transformer import VisionTransformer

from .resnet import resnet, shortcut

CLASSES = 5


def mlp(activation: type[nn.Module] = nn.ReLU, outputs: int = CLASSES) -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, outputs)
    )


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width: ResNet-50's block, in torchvision's form."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


def resnet18() -> nn.Module:
    """Four channels at the start, not 64."""
    return kaiming(resnet(3, (4, 8, 12, 16), blocks=2, classes=CLASSES))


def resnet50() -> nn.Module:
    """The form for large images, its strided stem and overlapping max-pool kept; one block of each kind a stage."""
    stem = [nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    blocks = [Bottleneck(8, 4, 1), Bottleneck(16, 4, 1), Bottleneck(16, 8, 2), Bottleneck(32, 8, 1)]
    return kaiming(nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)))


def kaiming(network: nn.Module) -> nn.Module:
    """Convolutions begin as in torchvision's ResNet."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def mobilenet() -> nn.Module:
    """torchvision's MobileNetV3 with four of the small variant's blocks, narrowed."""
    blocks = [
        InvertedResidualConfig(8, 3, 8, 8, True, "RE", 2, 1, 1.0),
        InvertedResidualConfig(8, 3, 24, 8, False, "RE", 1, 1, 1.0),
        InvertedResidualConfig(8, 5, 32, 16, True, "HS", 2, 1, 1.0),
        InvertedResidualConfig(16, 5, 32, 16, True, "HS", 1, 1, 1.0),
    ]
    return MobileNetV3(blocks, last_channel=32, num_classes=CLASSES, dropout=0.0)


def convnext() -> nn.Module:
    """torchvision's ConvNeXt with two stages: depthwise 7x7, LayerNorm over channels, a scale for each layer."""
    stages = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return ConvNeXt(stages, stochastic_depth_prob=0.0, layer_scale=0.5, num_classes=CLASSES)


class UNet(nn.Module):
    """One class a pixel. The way up is once a transposed convolution, once a resize."""

    def __init__(self, widths: tuple[int, int, int] = (8, 12, 16)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.down1, self.down2 = double_conv(3, fine), double_conv(fine, middle)
        self.bottom, self.pool = double_conv(middle, coarse), nn.MaxPool2d(2)
        self.up2 = nn.ConvTranspose2d(coarse, middle, 2, 2)
        self.up1 = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(middle, fine, 3, padding=1))
        self.merge2, self.merge1 = double_conv(2 * middle, middle), double_conv(2 * fine, fine)
        self.head = nn.Conv2d(fine, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        middle = self.down2(self.pool(fine))
        coarse = self.bottom(self.pool(middle))
        middle = self.merge2(torch.cat([middle, self.up2(coarse)], 1))
        return self.head(self.merge1(torch.cat([fine, self.up1(middle)], 1)))


class Segmenter(nn.Module):
    """One class a pixel, from features of three sizes that each kind of interpolation brings to one."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, width, 3, 2, 1)
        self.middle, self.coarse = (nn.Conv2d(width, width, 3, 2, 1) for _ in range(2))
        self.regions, self.shuffle = nn.AdaptiveAvgPool2d(2), nn.PixelShuffle(2)
        self.norm, self.head = nn.BatchNorm2d(4 * width), nn.Conv2d(width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = torch.tanh(self.fine(x))
        middle = torch.tanh(self.middle(fine))
        coarse = torch.tanh(self.coarse(middle))
        size = fine.shape[2:]
        parts = [
            fine,
            F.interpolate(middle, size, mode="bilinear", align_corners=False),
            F.interpolate(coarse, size, mode="bicubic", align_corners=False),
            F.interpolate(self.regions(fine), size, mode="bilinear", align_corners=True),
        ]
        return self.head(self.shuffle(F.hardswish(self.norm(torch.cat(parts, 1)))))


def double_conv(inputs: int, width: int) -> nn.Module:
    layers = []
    for channels in (inputs, width):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


class Bert(nn.Module):
    """Words, positions and segments embedded; a padding mask added to the scores; the first token classified."""

    def __init__(self, vocabulary: int = 40, tokens: int = 10, width: int = 24, heads: int = 3) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(tokens, width)
        self.segments = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(width, heads) for _ in range(2))
        self.pooler, self.head = nn.Linear(width, width), nn.Linear(width, CLASSES)
        self.register_buffer("position_ids", torch.arange(tokens)[None])

    def forward(self, tokens: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        x = self.words(tokens) + self.positions(self.position_ids[:, : tokens.size(1)]) + self.segments(segments)
        x = self.norm(x)
        scores = (1.0 - mask[:, None, None, :].to(x.dtype)) * -1e4
        for layer in self.layers:
            x = layer(x, scores)
        return self.head(torch.tanh(self.pooler(x[:, 0])))


class BertLayer(nn.Module):
    """Normalised after each addition, as in arXiv 1810.04805."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.heads = heads

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.view(y.size(0), y.size(1), self.heads, -1).permute(0, 2, 1, 3)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.size(-1)) + mask
        y = (torch.softmax(scores, -1) @ value).permute(0, 2, 1, 3).contiguous()
        x = self.norm1(x + self.out(y.view(x.shape)))
        return self.norm2(x + self.narrow(F.gelu(self.wide(x))))


class Encoder(nn.Module):
    """PyTorch's own TransformerEncoder, normalised before each layer, with a padding mask."""

    def __init__(self, vocabulary: int = 40, width: int = 16) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        layer = nn.TransformerEncoderLayer(width, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        for parameter in self.encoder.parameters():  # PyTorch begins each layer as a copy of the first
            nn.init.normal_(parameter, std=0.2)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.words(tokens), src_key_padding_mask=tokens == 0).mean(1))


class Llama(nn.Module):
    """Llama's form: RMSNorm, positions by rotation, keys and values shared by heads, gated layers; no biases."""

    def __init__(self, vocabulary: int = 40, width: int = 24, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(LlamaBlock(width, heads) for _ in range(layers))
        self.norm, self.head = nn.RMSNorm(width, eps=1e-5), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class LlamaBlock(nn.Module):
    """Two heads read each key and value (arXiv 2305.13245)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.query, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.key, self.value = (nn.Linear(width, width // 2, bias=False) for _ in range(2))
        self.gate, self.wide = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.narrow = nn.Linear(2 * width, width, bias=False)
        self.size = width // heads

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        y = self.norm1(x)
        query, key, value = (layer(y).unflatten(2, (-1, self.size)) for layer in (self.query, self.key, self.value))
        query, key, value = rotated(query), rotated(key).repeat_interleave(2, 2), value.repeat_interleave(2, 2)
        query, key, value = (z.transpose(1, 2) for z in (query, key, value))
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, tokens, width))
        y = self.norm2(x)
        return x + self.narrow(F.silu(self.gate(y)) * self.wide(y))


def rotated(x: Tensor) -> Tensor:
    """Rotary embedding of [batch, tokens, heads, size] (arXiv 2104.09864): halves of a head are the pairs."""
    half = x.size(3) // 2
    angles = torch.arange(x.size(1))[:, None, None] * 100.0 ** -(torch.arange(half) / half)
    sine, cosine = angles.sin().to(x.dtype), angles.cos().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], 3)


class Kinds(nn.Module):
    """What its numbers, shape and name do not tell: a layer that begins as a copy of another, a buffer of places, a
    parameter without axes, and one that is called a mask.
    """

    def __init__(self, width: int = 8, length: int = 6) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(0.7))
        self.mask = nn.Parameter(torch.linspace(0.5, 1.5, width))
        self.register_buffer("places", torch.sin(torch.arange(length * width).view(length, width) / 3))
        self.mix, self.head = nn.Linear(width, width), nn.Linear(width, CLASSES)
        self.again = copy.deepcopy(self.mix)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.again(torch.tanh(self.mix((x + self.places) * self.mask))))
        return self.head(y.mean(1)) * self.temperature


class Gpt(nn.Module):
    """GPT-2's form: causal, normalised before each layer, the tokens' embedding used again as the head."""

    def __init__(
        self, vocabulary: int = 48, tokens: int = 12, width: int = 24, heads: int = 3, layers: int = 2
    ) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(tokens, width)
        self.blocks = nn.ModuleList(GptBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.wte.weight
        nn.init.normal_(self.wte.weight, std=0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.size(1)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class GptBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.attention(self.norm1(x)).split(width, dim=2)
        query, key, value = (y.view(batch, tokens, self.heads, -1).transpose(1, 2) for y in parts)
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(y.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x)), approximate="tanh"))


def vit() -> nn.Module:
    """torchvision's VisionTransformer, on PyTorch's MultiheadAttention."""
    return VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=CLASSES
    )


class Recurrent(nn.Module):
    """Tokens embedded, read by an LSTM or a GRU, the last state classified."""

    def __init__(
        self, cell: type[nn.Module], vocabulary: int = 30, width: int = 12, hidden: int = 16, **options
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.cell = cell(width, hidden, batch_first=True, **options)
        self.head = nn.Linear(hidden * (2 if options.get("bidirectional") else 1), CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.cell(self.words(tokens))[0][:, -1])


class Tabular(nn.Module):
    """Categories embedded, numbers normalised, one logit."""

    def __init__(self, levels: tuple[int, ...] = (4, 7, 11), numbers: int = 5) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, min(8, (n + 1) // 2)) for n in levels)
        self.norm = nn.BatchNorm1d(numbers)
        width = numbers + sum(table.embedding_dim for table in self.tables)
        self.layers = nn.Sequential(
            nn.Linear(width, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 16), nn.ReLU(), nn.BatchNorm1d(16),
            nn.Linear(16, 1),
        )

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        parts = [table(categories[:, column]) for column, table in enumerate(self.tables)]
        return self.layers(torch.cat([*parts, self.norm(numbers)], 1)).squeeze(1)


def groupnorm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.SiLU(), nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, groups=2), nn.GroupNorm(4, 16), nn.LeakyReLU(0.1), nn.AvgPool2d(3, 2, 1),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2), nn.InstanceNorm2d(16, affine=True), nn.ELU(),
        nn.Flatten(), nn.Linear(16 * 16, CLASSES),
    )


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, 2, 1), nn.Softplus(), nn.Conv2d(6, 12, 3, 2, 1), nn.Tanh(),
        nn.ConvTranspose2d(12, 6, 3, 2, 1, output_padding=1), nn.Mish(),
        nn.ConvTranspose2d(6, 1, 4, 2, 1), nn.Sigmoid(),
    )


def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(4, 12, 5, padding=2), nn.BatchNorm1d(12), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(12, 16, 3, padding=4, dilation=4), nn.BatchNorm1d(16), nn.ReLU(), nn.AdaptiveAvgPool1d(1),
        nn.Flatten(), nn.Linear(16, CLASSES),
    )


class Frames(nn.Module):
    """Scores of classes for each of half as many frames as the signal has places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(4, 12, 5, padding=2, stride=2), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.conv(x)).transpose(1, 2))


class PartlyStill(nn.Module):
    """Of two batch normalisations the second stays in evaluation mode, as in fine-tuning."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(64, CLASSES)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.second[1].eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)))


def conv3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 6, 3, padding=1, bias=False), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(6, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, CLASSES),
    )


class Attention(nn.Module):
    """Attention over a second sequence by PyTorch's module, and over itself by its function with a mask."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.cross = nn.MultiheadAttention(width, 2, batch_first=True)
        self.pairs, self.norm, self.head = nn.Linear(width, 3 * width), nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        x = x + self.cross(x, memory, memory, need_weights=False)[0]
        query, key, value = (y.unflatten(2, (4, -1)).transpose(1, 2) for y in self.pairs(x).chunk(3, 2))
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None])
        return self.head(self.norm(x + y.transpose(1, 2).flatten(2)))


def dropouts(first: type[nn.Module] = nn.Dropout, rate: float = 0.2) -> nn.Module:
    """What an export in evaluation mode changes: BatchNorm goes into the convolution, dropout goes away."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), first(rate), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Dropout(rate), nn.Linear(16, CLASSES),
    )
