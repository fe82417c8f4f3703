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
# What PyTorch's own single precision may differ by from its double precision, relative to the largest: a model on
# which it differs by more is no measure for anyone.
TOLERANCE = 4e-5


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
    settings = golden.loss
    match settings["name"]:
        case "cross_entropy":
            weight = torch.tensor(settings["weight"], dtype=output.dtype) if "weight" in settings else None
            options = {name: settings[name] for name in ("label_smoothing", "ignore_index") if name in settings}
            return F.cross_entropy(output.movedim(golden.class_axis, 1), target, weight, **options)
        case "bce_with_logits":
            return F.binary_cross_entropy_with_logits(output, target)
        case "mse":
            return F.mse_loss(output, target)
        case "l1":
            return F.l1_loss(output, target)
        case "huber":
            return F.huber_loss(output, target, delta=settings["delta"])
        case "kl":
            return F.kl_div(F.log_softmax(output, -1), target, reduction="batchmean")
        case "ctc":
            batch, frames, _ = output.shape
            lengths = (torch.full((batch,), frames), (target != 0).sum(1))
            return F.ctc_loss(F.log_softmax(output, -1).transpose(0, 1), target, *lengths, zero_infinity=True)
    raise ValueError(settings["name"])


def optimizer_of(plan: dict, network: nn.Module) -> torch.optim.Optimizer:
    common = {"params": network.parameters(), "lr": plan["lr"], "weight_decay": plan["weight_decay"]}
    match plan["name"]:
        case "momentum" | "nesterov":
            return torch.optim.SGD(**common, momentum=plan["momentum"], nesterov=plan["name"] == "nesterov")
        case "adam" | "adamw":
            make = torch.optim.AdamW if plan["name"] == "adamw" else torch.optim.Adam
            return make(**common, betas=(plan["beta1"], plan["beta2"]), eps=plan["epsilon"])
        case "rmsprop":
            return torch.optim.RMSprop(**common, alpha=plan["alpha"], momentum=plan["momentum"], eps=plan["epsilon"])
        case "adagrad":
            return torch.optim.Adagrad(**common, eps=plan["epsilon"])
    raise ValueError(plan["name"])


def cast(batches: list[Batch], dtype: torch.dtype) -> list[Batch]:
    def convert(x: Tensor) -> Tensor:
        return x.to(dtype) if x.is_floating_point() else x

    return [Batch({n: convert(x) for n, x in batch.inputs.items()}, convert(batch.target)) for batch in batches]


def numbers(golden: Golden, network: nn.Module, batches: list[Batch], dtype: torch.dtype) -> dict[str, np.ndarray]:
    """By name, all in double precision: `output.train` and `output.eval` of the first batch before any step (without
    optimizers only the second, for dropout may be at work in the first),
    `gradient.<parameter>` and, at the output, `cotangent` of the first step, and for each optimizer the losses before each of the steps over the
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
        for step in range(golden.steps):
            batch = batches[step % len(batches)]
            optimizer.zero_grad()
            output = trained(*batch.inputs.values())
            output.retain_grad()
            loss = loss_of(golden, output, batch.target)
            loss.backward()
            if step == 0:
                found["cotangent"] = as_double(output.grad)
                found |= {f"gradient.{n}": as_double(p.grad) for n, p in trained.named_parameters()}
            optimizer.step()
            losses.append(loss.item())
        found[f"loss.{name}"] = np.array(losses)
        found[f"output.{name}"] = evaluate(trained.eval(), batches[0])
        found |= {f"buffer.{name}.{n}": as_double(b) for n, b in trained.named_buffers() if "running" in n}
    return found


def errors(numbers: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest error of any `gradient` and of what is there after the steps (`trained`), relative to its norm, and of
    any `loss`. Of a gradient that is zero but for rounding it is relative to the norm of all.
    """
    named = {
        kind: {n: x for n, x in exact.items() if n.split(".")[0] in parts and n.split(".")[1:] not in (["train"], ["eval"])}
        for kind, parts in {"gradient": ["gradient"], "trained": ["output", "buffer"]}.items()
    }
    found = {}
    for kind, tensors in named.items():
        norms = {n: np.linalg.norm(x) for n, x in tensors.items()}
        whole = np.linalg.norm(list(norms.values()))
        distances = {n: np.linalg.norm(numbers[n] - x) for n, x in tensors.items()}
        found[kind] = max(float(distances[n] / (norm if norm >= 1e-12 * whole else whole)) for n, norm in norms.items())
    losses = [np.max(np.abs(numbers[n] / x - 1)) for n, x in exact.items() if n.startswith("loss.")]
    return found | {"loss": float(max(losses))}


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
