"""The table of golden models: which network, on which inputs, with which loss and optimizers, exported how."""
import dataclasses
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from . import tiny
from .tiny import CLASSES

MOMENTUM = {"name": "momentum", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0}
ADAMW = {"name": "adamw", "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}
CALM = MOMENTUM | {"lr": 0.003}
ADAM = ADAMW | {"name": "adam"}
NESTEROV = MOMENTUM | {"name": "nesterov", "weight_decay": 0.01}
RMSPROP = {"name": "rmsprop", "lr": 1e-3, "alpha": 0.9, "momentum": 0.5, "epsilon": 1e-6, "weight_decay": 0.01}
ADAGRAD = {"name": "adagrad", "lr": 0.01, "epsilon": 1e-8, "weight_decay": 0.01}

# What a loss takes of PyTorch's names; the mean over all that is predicted, but that `kl` is the mean over rows.
CROSS_ENTROPY = {"name": "cross_entropy"}
BCE = {"name": "bce_with_logits"}
MSE = {"name": "mse"}
# Deep networks of ReLUs with batch statistics over few values are chaotic: one value that falls on the other side of
# zero in single precision leads elsewhere. Small steps, and seeds found to be calm, keep them comparable.
GENTLE = (ADAMW | {"lr": 2e-5}, MOMENTUM | {"lr": 1e-4})


@dataclasses.dataclass(frozen=True)
class Input:
    """One batch of what a model reads or is to predict. `below` bounds integers and means nothing to other kinds."""

    name: str
    shape: tuple[int, ...]
    kind: str = "numbers"
    below: int = 0

    def draw(self, generator: torch.Generator) -> Tensor:
        match self.kind:
            case "numbers":
                # Sixteenths: what the repository keeps of them packs better, and single precision holds them exactly.
                return (torch.randn(self.shape, generator=generator) * 16).round() / 16
            case "integers":
                return torch.randint(self.below, self.shape, generator=generator)
            case "bits":
                return torch.randint(2, self.shape, generator=generator).float()
            case "shares":  # of one along the last axis
                return torch.softmax(torch.randn(self.shape, generator=generator), -1)
            case "labels":  # [batch, length]: from one on, up to some place in the second half, then zeros
                batch, length = self.shape
                ends = torch.randint(length // 2, length + 1, (batch, 1), generator=generator)
                return torch.randint(1, self.below, self.shape, generator=generator) * (torch.arange(length) < ends)
            case "prefixes":  # [batch, length]: ones up to some place in the second half, then zeros
                batch, length = self.shape
                ends = torch.randint(length // 2, length + 1, (batch, 1), generator=generator)
                return (torch.arange(length) < ends).long()
            case "pairs":  # [batch, length, length]: true on the diagonal, so that no row is masked as a whole
                return (torch.rand(self.shape, generator=generator) < 0.6) | torch.eye(self.shape[-1], dtype=torch.bool)
        raise ValueError(self.kind)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One exported file. `opset` None is the exporter's own choice."""

    exporter: str  # dynamo or torchscript
    opset: int | None = None
    mode: str = "train"
    dynamic_batch: bool = False

    def suffix(self) -> str:
        parts = [self.exporter]
        parts += [str(self.opset)] if self.opset else []
        parts += ["eval"] if self.mode == "eval" else []
        parts += ["batch"] if self.dynamic_batch else []
        return "-".join(parts)


BOTH = (Variant("dynamo"), Variant("torchscript"))
OLD = (Variant("dynamo", opset=18), Variant("torchscript", opset=17))
EVAL = (Variant("dynamo", mode="eval"), Variant("torchscript", mode="eval"))
DYNAMIC = (Variant("dynamo", dynamic_batch=True), Variant("torchscript", dynamic_batch=True))


@dataclasses.dataclass(frozen=True)
class Golden:
    """`target` None is the first input again. Without optimizers the files are for import alone."""

    name: str
    network: Callable[[], nn.Module]
    inputs: tuple[Input, ...]
    target: Input | None
    loss: dict = dataclasses.field(default_factory=lambda: CROSS_ENTROPY)
    class_axis: int = 1
    steps: int = 50
    optimizers: tuple[dict, ...] = (MOMENTUM,)
    variants: tuple[Variant, ...] = BOTH
    seed: int = 11


def numbers(name: str, *shape: int) -> Input:
    return Input(name, shape)


def integers(name: str, below: int, *shape: int) -> Input:
    return Input(name, shape, "integers", below)


def classes(*shape: int) -> Input:
    return integers("target", CLASSES, *shape)


GOLDENS = (
    Golden(
        "mlp", tiny.mlp, (numbers("x", 8, 12),), classes(8),
        optimizers=(NESTEROV, RMSPROP, ADAGRAD, ADAM, MOMENTUM, ADAMW), variants=BOTH + OLD + DYNAMIC,
    ),
    Golden(
        "resnet18", tiny.resnet18, (numbers("images", 6, 3, 16, 16),), classes(6),
        optimizers=GENTLE, variants=BOTH + OLD + DYNAMIC, seed=9,
    ),
    Golden("mobilenet", tiny.mobilenet, (numbers("images", 8, 3, 32, 32),), classes(8)),
    Golden(
        "bert", tiny.Bert,
        (integers("tokens", 40, 6, 10), Input("mask", (6, 10), "prefixes"), integers("segments", 2, 6, 10)), classes(6),
        optimizers=(ADAMW, MOMENTUM), variants=BOTH + OLD + DYNAMIC,
    ),
    Golden(
        "gpt", tiny.Gpt, (integers("tokens", 48, 4, 12),), integers("target", 48, 4, 12),
        class_axis=2, optimizers=(ADAMW, MOMENTUM), variants=BOTH + OLD + (Variant("dynamo", opset=23),),
    ),
    Golden(
        "vit", tiny.vit, (numbers("images", 4, 3, 16, 16),), classes(4),
        optimizers=(ADAMW,), variants=BOTH + (Variant("dynamo", opset=23),),
    ),
    Golden(
        "lstm", partial(tiny.Recurrent, nn.LSTM, num_layers=2), (integers("tokens", 30, 6, 9),), classes(6),
        optimizers=(ADAMW, MOMENTUM),
    ),
    Golden("gru", partial(tiny.Recurrent, nn.GRU, bidirectional=True), (integers("tokens", 30, 6, 9),), classes(6)),
    Golden(
        "tabular", tiny.Tabular, (integers("categories", 4, 8, 3), numbers("numbers", 8, 5)),
        Input("target", (8,), "bits"), loss=BCE, optimizers=(ADAMW, MOMENTUM),
    ),
    Golden("unet", tiny.UNet, (numbers("images", 4, 3, 16, 16),), classes(4, 16, 16), optimizers=(CALM,)),
    Golden("resnet50", tiny.resnet50, (numbers("images", 4, 3, 32, 32),), classes(4), optimizers=GENTLE, seed=9),
    Golden(
        "regression", partial(tiny.mlp, nn.SiLU, 2), (numbers("x", 8, 12),), numbers("target", 8, 2),
        loss=MSE, optimizers=(MOMENTUM, ADAMW),
    ),
    Golden("groupnorm", tiny.groupnorm, (numbers("images", 4, 3, 16, 16),), classes(4)),
    Golden("convnext", tiny.convnext, (numbers("images", 4, 3, 32, 32),), classes(4), optimizers=(ADAMW,)),
    Golden("autoencoder", tiny.autoencoder, (numbers("images", 4, 1, 16, 16),), None, loss=MSE),
    Golden("conv1d", tiny.conv1d, (numbers("signals", 6, 4, 32),), classes(6)),
    Golden("partly_still", tiny.PartlyStill, (numbers("images", 4, 3, 8, 8),), classes(4), optimizers=(CALM,)),
    Golden("conv3d", tiny.conv3d, (numbers("volumes", 4, 1, 8, 8, 8),), classes(4), optimizers=(CALM,)),
    Golden("encoder", tiny.Encoder, (integers("tokens", 40, 6, 10),), classes(6), optimizers=(ADAMW,)),
    # The TorchScript exporter does not say which tensors are buffers.
    Golden(
        "kinds", tiny.Kinds, (numbers("x", 6, 6, 8),), classes(6), optimizers=(MOMENTUM, ADAMW), variants=(Variant("dynamo"),)
    ),
    Golden(
        "attention", tiny.Attention,
        (numbers("x", 4, 7, 16), numbers("memory", 4, 5, 16), Input("mask", (4, 7, 7), "pairs")),
        numbers("target", 4, 7, 3), loss=MSE,
        variants=BOTH + (Variant("dynamo", opset=23), Variant("dynamo", opset=24)),
    ),
    # The TorchScript exporter does not know RMSNorm.
    Golden(
        "llama", tiny.Llama, (integers("tokens", 40, 4, 12),), integers("target", 40, 4, 12),
        class_axis=2, optimizers=(ADAMW, MOMENTUM), variants=tuple(Variant("dynamo", opset) for opset in (None, 18, 23)),
    ),
    Golden("rnn", partial(tiny.Recurrent, nn.RNN, num_layers=2), (integers("tokens", 30, 6, 9),), classes(6)),
    Golden("segmenter", tiny.Segmenter, (numbers("images", 4, 3, 16, 16),), classes(4, 16, 16), optimizers=(ADAMW, CALM)),
    # Losses that no model above is trained with.
    Golden(
        "smoothed", tiny.mlp, (numbers("x", 8, 12),), classes(8), variants=(Variant("dynamo"),),
        loss=CROSS_ENTROPY | {"label_smoothing": 0.1, "weight": [0.5, 1.0, 2.0, 1.5, 0.25], "ignore_index": 3},
    ),
    Golden(
        "absolute", partial(tiny.mlp, nn.Tanh, 2), (numbers("x", 8, 12),), numbers("target", 8, 2),
        loss={"name": "l1"}, variants=(Variant("dynamo"),),
    ),
    Golden(
        "huber", partial(tiny.mlp, nn.Tanh, 2), (numbers("x", 8, 12),), numbers("target", 8, 2),
        loss={"name": "huber", "delta": 0.7}, variants=(Variant("dynamo"),),
    ),
    Golden(
        "distribution", tiny.mlp, (numbers("x", 8, 12),), Input("target", (8, CLASSES), "shares"),
        loss={"name": "kl"}, variants=(Variant("dynamo"),),
    ),
    Golden(
        "transcripts", tiny.Frames, (numbers("signals", 4, 4, 20),), Input("target", (4, 6), "labels", CLASSES),
        loss={"name": "ctc"}, optimizers=(ADAMW,), variants=(Variant("dynamo"),),
    ),
    Golden(
        "dropouts", tiny.dropouts, (numbers("images", 4, 3, 16, 16),), classes(4), optimizers=(), variants=BOTH + EVAL
    ),
    # Dropout of whole channels, which the TorchScript exporter does not know.
    Golden(
        "channel_dropouts", partial(tiny.dropouts, nn.Dropout2d), (numbers("images", 4, 3, 16, 16),), classes(4),
        optimizers=(), variants=(Variant("dynamo"),),
    ),
)
