"""PyTorch's numbers for a golden model, in double precision."""
import copy
import dataclasses
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .golden import Golden

BATCHES = 3
STEPS = 50
# What PyTorch's own single precision may differ by from its double precision, relative to the largest: a model on
# which it differs by more is no measure for anyone.
TOLERANCE = 2e-5


@dataclasses.dataclass
class Batch:
    inputs: dict[str, Tensor]
    target: Tensor


def draw_batches(golden: Golden) -> list[Batch]:
    generator = torch.Generator().manual_seed(7)
    batches = []
    for _ in range(BATCHES):
        inputs = {part.name: part.draw(generator) for part in golden.inputs}
        target = golden.target.draw(generator) if golden.target else next(iter(inputs.values()))
        batches.append(Batch(inputs, target))
    return batches


def initial_network(golden: Golden) -> nn.Module:
    """PyTorch's own initialization, but no tensor all ones or all zeros, so that one cannot pass for another."""
    torch.manual_seed(golden.seed)
    network = golden.network()
    with torch.no_grad():
        for name, tensor in itertools.chain(network.named_parameters(), network.named_buffers()):
            if tensor.is_floating_point() and tensor.unique().numel() == 1:
                draw = torch.rand_like if name.endswith("running_var") else torch.randn_like
                tensor += 0.1 * draw(tensor)
    return network


def loss_of(golden: Golden, output: Tensor, target: Tensor) -> Tensor:
    match golden.loss:
        case "cross_entropy":
            return F.cross_entropy(output.movedim(golden.class_axis, 1), target)
        case "bce_with_logits":
            return F.binary_cross_entropy_with_logits(output, target.to(output.dtype))
        case "mse":
            return F.mse_loss(output, target.to(output.dtype))
    raise ValueError(golden.loss)


def optimizer_of(plan: dict, network: nn.Module) -> torch.optim.Optimizer:
    match plan["name"]:
        case "momentum":
            return torch.optim.SGD(
                network.parameters(), lr=plan["lr"], momentum=plan["momentum"], weight_decay=plan["weight_decay"]
            )
        case "adamw":
            betas = (plan["beta1"], plan["beta2"])
            return torch.optim.AdamW(
                network.parameters(), lr=plan["lr"], betas=betas, eps=plan["epsilon"], weight_decay=plan["weight_decay"]
            )
    raise ValueError(plan["name"])


def cast(batches: list[Batch], dtype: torch.dtype) -> list[Batch]:
    def convert(x: Tensor) -> Tensor:
        return x.to(dtype) if x.is_floating_point() else x

    return [Batch({n: convert(x) for n, x in batch.inputs.items()}, convert(batch.target)) for batch in batches]


def numbers(golden: Golden, network: nn.Module, batches: list[Batch], dtype: torch.dtype) -> dict[str, np.ndarray]:
    """By name, all in double precision: `output.train` and `output.eval` of the first batch before any step (without
    optimizers only the second, for dropout may be at work in the first),
    `gradient.<parameter>` of the first step, and for each optimizer the losses before each of the steps over the
    batches in turn (`loss.<optimizer>`), `output.<optimizer>` of the first batch in evaluation mode after the last
    step, and the buffers then (`buffer.<optimizer>.<name>`).
    """
    batches, start = cast(batches, dtype), network.to(dtype=dtype)
    found = {}
    for mode in ("train", "eval") if golden.optimizers else ("eval",):
        found[f"output.{mode}"] = evaluate(copy.deepcopy(start).train(mode == "train"), batches[0])
    for plan in golden.optimizers:
        trained, name = copy.deepcopy(start).train(), plan["name"]
        optimizer, losses = optimizer_of(plan, trained), []
        for step in range(STEPS):
            batch = batches[step % len(batches)]
            optimizer.zero_grad()
            loss = loss_of(golden, trained(*batch.inputs.values()), batch.target)
            loss.backward()
            if step == 0:
                found |= {f"gradient.{n}": as_double(p.grad) for n, p in trained.named_parameters()}
            optimizer.step()
            losses.append(loss.item())
        found[f"loss.{name}"] = np.array(losses)
        found[f"output.{name}"] = evaluate(trained.eval(), batches[0])
        found |= {f"buffer.{name}.{n}": as_double(b) for n, b in trained.named_buffers() if "running" in n}
    return found


def evaluate(network: nn.Module, batch: Batch) -> np.ndarray:
    with torch.no_grad():
        return as_double(network(*batch.inputs.values()))


def as_double(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def reference(golden: Golden, network: nn.Module, batches: list[Batch]) -> dict[str, np.ndarray]:
    """`numbers` in double precision.

    Raises ArithmeticError where single precision cannot follow them.
    """
    exact = numbers(golden, copy.deepcopy(network), batches, torch.float64)
    single = numbers(golden, copy.deepcopy(network), batches, torch.float32)
    largest_gradient = max((np.abs(x).max() for n, x in exact.items() if n.startswith("gradient.")), default=0.0)
    for name, x in exact.items():
        # A bias in front of a normalization has a gradient of zero, where relative differences say nothing.
        scale = max(np.abs(x).max(), 1e-2 * largest_gradient if name.startswith("gradient.") else 0.0)
        difference = np.abs(single[name] - x).max() / scale
        if difference > TOLERANCE:
            raise ArithmeticError(f"{golden.name}: {name} differs by {difference:.1e} in single precision")
    return exact
