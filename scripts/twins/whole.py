"""The table of models of real size: those that are trained by name, torchvision's as they are."""
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torchvision import models as vision
from torchvision.models.vision_transformer import VisionTransformer

from . import tiny
from .golden import ADAMW, BCE, MOMENTUM, Golden, Input, Variant, classes, integers, numbers
from .tiny import CLASSES

STEPS = 10
SMALL = (MOMENTUM | {"lr": 1e-4},)
BY_DYNAMO = (Variant("dynamo"),)


def still(make: Callable[..., nn.Module], **options) -> nn.Module:
    """Without what is random in training: PyTorch draws it otherwise than we do."""
    network = make(num_classes=CLASSES, **options)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


class Segmented(nn.Module):
    """torchvision's networks for segmentation give their result under a name."""

    def __init__(self, make: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.network = still(make, weights=None, weights_backbone=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)["out"]


def vit_tiny() -> nn.Module:
    """DeiT-Ti's sizes (arXiv 2012.12877)."""
    return VisionTransformer(
        image_size=224, patch_size=16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768, num_classes=CLASSES
    )


def of_images(name: str, make: Callable[[], nn.Module], batch: int = 8, size: int = 64, **options) -> Golden:
    images = (numbers("images", batch, 3, size, size),)
    settings = {"optimizers": SMALL, "steps": STEPS} | options
    return Golden(name, make, images, settings.pop("target", classes(batch)), **settings)


def of_pixels(name: str, make: Callable[[], nn.Module], batch: int = 4, size: int = 64) -> Golden:
    return of_images(name, make, batch, size, target=classes(batch, size, size))


def of_tokens(
    name: str, make: Callable[..., nn.Module], vocabulary: int, shape: tuple[int, int], **options
) -> Golden:
    tokens, target = integers("tokens", vocabulary, *shape), integers("target", vocabulary, *shape)
    network = partial(make, vocabulary)
    return Golden(name, network, (tokens,), target, class_axis=2, optimizers=SMALL, steps=STEPS, **options)


WHOLE = (
    of_images("resnet18", partial(still, vision.resnet18)),
    of_images("resnet50", partial(still, vision.resnet50)),
    of_images("mobilenet_v2", partial(still, vision.mobilenet_v2)),
    of_images("mobilenet_v3_large", partial(still, vision.mobilenet_v3_large)),
    of_images("efficientnet_b0", partial(still, vision.efficientnet_b0, stochastic_depth_prob=0.0)),
    of_images("regnet_y_400mf", partial(still, vision.regnet_y_400mf)),
    of_images("shufflenet_v2_x1_0", partial(still, vision.shufflenet_v2_x1_0)),
    of_images("squeezenet1_1", partial(still, vision.squeezenet1_1)),
    of_images("densenet121", partial(still, vision.densenet121), batch=4),
    of_images("convnext_tiny", partial(still, vision.convnext_tiny, stochastic_depth_prob=0.0), batch=4),
    of_images("swin_t", partial(still, vision.swin_t, stochastic_depth_prob=0.0), batch=2, size=224),
    of_images("vit_tiny", vit_tiny, batch=2, size=224),
    of_pixels("unet", partial(tiny.UNet, (64, 128, 256))),
    of_pixels("lraspp_mobilenet_v3_large", partial(Segmented, vision.segmentation.lraspp_mobilenet_v3_large)),
    of_pixels("deeplabv3_resnet50", partial(Segmented, vision.segmentation.deeplabv3_resnet50)),
    Golden(
        "bert_tiny", partial(tiny.Bert, 30522, 128, 128, 2),
        (integers("tokens", 30522, 8, 128), Input("mask", (8, 128), "prefixes"), integers("segments", 2, 8, 128)),
        classes(8), optimizers=(ADAMW,), steps=STEPS,
    ),
    of_tokens("gpt2_small", partial(tiny.Gpt, tokens=64, width=768, heads=12, layers=12), 50257, (1, 64)),
    of_tokens("llama", partial(tiny.Llama, width=512, heads=8, layers=6), 32000, (2, 64), variants=BY_DYNAMO),
    Golden(
        "lstm", partial(tiny.Recurrent, nn.LSTM, 10000, 128, 256, num_layers=2), (integers("tokens", 10000, 16, 32),),
        classes(16), optimizers=SMALL, steps=STEPS,
    ),
    Golden(
        "tabular", partial(tiny.Tabular, (4, 50, 1000), 20), (integers("categories", 4, 64, 3), numbers("numbers", 64, 20)),
        Input("target", (64,), "bits"), loss=BCE, optimizers=(ADAMW,), steps=STEPS,
    ),
)
