"""The table of models of real size: those that are trained by name, torchvision's as they are."""
import dataclasses
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torchvision import models as vision
from torchvision.models.vision_transformer import VisionTransformer
from torchvision.ops import StochasticDepth

from . import tiny
from .golden import ADAMW, BCE, BOTH, MOMENTUM, Golden, Input, Variant, classes, integers, numbers
from .tiny import CLASSES

STEPS = 10
SMALL = (MOMENTUM | {"lr": 1e-4},)
BY_DYNAMO = (Variant("dynamo"),)


def still(make: Callable[..., nn.Module], **options) -> nn.Module:
    """Without what is random in training: PyTorch draws it otherwise than we do."""
    network = make(num_classes=CLASSES, **options)
    for module in network.modules():
        if isinstance(module, (nn.Dropout, StochasticDepth)):
            module.p = 0.0
    return network


def smooth(make: Callable[[], nn.Module]) -> nn.Module:
    """With functions that have no corners: what is left of the errors is that of everything else."""
    network = make()
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if isinstance(module, (nn.ReLU, nn.ReLU6, nn.Hardswish)):
                setattr(parent, name, nn.SiLU())
            elif isinstance(module, nn.Hardsigmoid):
                setattr(parent, name, nn.Sigmoid())
            elif isinstance(module, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
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


def of_images(
    name: str, make: Callable[[], nn.Module], batch: int = 8, size: int = 64, *,
    pixels: bool = False, corners: bool = True, variants: tuple[Variant, ...] = BOTH,
) -> tuple[Golden, ...]:
    """As it is; and where it has rectifiers and the like, smooth as well. `pixels`: with a class for each of them."""
    images = (numbers("images", batch, 3, size, size),)
    target = classes(batch, size, size) if pixels else classes(batch)
    whole = Golden(name, make, images, target, optimizers=SMALL, steps=STEPS, variants=variants)
    if not corners:
        return (whole,)
    other = dataclasses.replace(whole, name=f"{name}-smooth", network=partial(smooth, make), variants=BY_DYNAMO)
    return whole, other


def of_tokens(
    name: str, make: Callable[..., nn.Module], vocabulary: int, shape: tuple[int, int], **options
) -> Golden:
    tokens, target = integers("tokens", vocabulary, *shape), integers("target", vocabulary, *shape)
    network = partial(make, vocabulary)
    return Golden(name, network, (tokens,), target, class_axis=2, optimizers=SMALL, steps=STEPS, **options)


WHOLE = (
    *of_images("resnet18", partial(still, vision.resnet18)),
    *of_images("resnet50", partial(still, vision.resnet50)),
    *of_images("mobilenet_v2", partial(still, vision.mobilenet_v2)),
    *of_images("mobilenet_v3_large", partial(still, vision.mobilenet_v3_large)),
    *of_images("efficientnet_b0", partial(still, vision.efficientnet_b0), corners=False),
    *of_images("regnet_y_400mf", partial(still, vision.regnet_y_400mf)),
    *of_images("shufflenet_v2_x1_0", partial(still, vision.shufflenet_v2_x1_0)),
    *of_images("squeezenet1_1", partial(still, vision.squeezenet1_1)),
    *of_images("densenet121", partial(still, vision.densenet121), batch=4),
    *of_images("alexnet", partial(still, vision.alexnet), batch=2, size=224),
    # Their rectifiers are functions, which nothing takes the place of.
    *of_images("googlenet", partial(still, vision.googlenet, aux_logits=False, init_weights=False), corners=False),
    *of_images(
        "inception_v3", partial(still, vision.inception_v3, aux_logits=False, init_weights=False), size=96, corners=False
    ),
    *of_images("mnasnet0_5", partial(still, vision.mnasnet0_5)),
    *of_images("efficientnet_v2_s", partial(still, vision.efficientnet_v2_s), batch=4, corners=False),
    Golden(
        "r3d_18", partial(still, vision.video.r3d_18), (numbers("clips", 4, 3, 8, 48, 48),), classes(4),
        optimizers=SMALL, steps=STEPS,
    ),
    *of_images("convnext_tiny", partial(still, vision.convnext_tiny), batch=4, corners=False),
    # The TorchScript exporter writes what it looked up in a table of parameters as a constant.
    *of_images("swin_t", partial(still, vision.swin_t), batch=2, size=224, corners=False, variants=BY_DYNAMO),
    *of_images("swin_v2_t", partial(still, vision.swin_v2_t), batch=2, size=256, corners=False, variants=BY_DYNAMO),
    *of_images("maxvit_t", partial(still, vision.maxvit_t), batch=1, size=224, corners=False, variants=BY_DYNAMO),
    *of_images("vit_tiny", vit_tiny, batch=2, size=224, corners=False),
    *of_images("unet", partial(tiny.UNet, (64, 128, 256)), batch=4, pixels=True),
    *of_images(
        "lraspp_mobilenet_v3_large", partial(Segmented, vision.segmentation.lraspp_mobilenet_v3_large), batch=4, pixels=True
    ),
    *of_images("deeplabv3_resnet50", partial(Segmented, vision.segmentation.deeplabv3_resnet50), batch=4, pixels=True),
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
