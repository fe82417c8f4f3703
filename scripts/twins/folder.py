"""A folder of models as files, and PyTorch's numbers for them: what agent/tests/golden/README.md says of its own."""
import copy
import json
import pathlib

import numpy as np
import onnx
import torch

from . import export, initializers, safetensors
from .golden import Golden, Variant
from .reference import Batch


def write_index(folder: pathlib.Path, models: list[dict]) -> None:
    written_by = {"torch": torch.__version__, "onnx": onnx.__version__}
    (folder / "index.json").write_text(json.dumps({"written_by": written_by, "models": models}, indent=1) + "\n")


def write(
    folder: pathlib.Path, model: Golden, network: torch.nn.Module, batches: list[Batch], numbers: dict[str, np.ndarray]
) -> dict:
    """Writes the files of one model; its entry of the index."""
    tensors = stored(batches, numbers)
    files = [write_variant(folder, model, variant, network, batches[0], tensors) for variant in model.variants]
    safetensors.write(folder / f"{model.name}.safetensors", tensors)
    return {
        "name": model.name,
        "numbers": f"{model.name}.safetensors",
        "inputs": [described(name, x) for name, x in batches[0].inputs.items()],
        "target": described("target", batches[0].target),
        "loss": model.loss,
        "class_axis": model.class_axis if model.loss["name"] == "cross_entropy" else None,
        "batches": len(batches),
        "steps": model.steps,
        "optimizers": list(model.optimizers),
        "files": files,
    }


def stored(batches: list[Batch], numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The losses as they are, all else in single precision; batches one behind the other."""
    tensors = {name: x if name.startswith("loss.") else x.astype(np.float32) for name, x in numbers.items()}
    for name in batches[0].inputs:
        tensors[f"input.{name}"] = torch.stack([batch.inputs[name] for batch in batches]).numpy()
    tensors["target"] = torch.stack([batch.target for batch in batches]).numpy()
    return tensors


def write_variant(
    folder: pathlib.Path, model: Golden, variant: Variant, network: torch.nn.Module, batch: Batch,
    tensors: dict[str, np.ndarray],
) -> dict:
    """Writes one exported file and adds to `tensors` the gradients of what it lays out anew; its entry of the index."""
    exported = export.export(
        copy.deepcopy(network), batch.inputs,
        exporter=variant.exporter, mode=variant.mode, opset=variant.opset, dynamic_batch=variant.dynamic_batch,
    )
    onnx.checker.check_model(exported)
    file = f"{model.name}.{variant.suffix()}.onnx"
    (folder / file).write_bytes(exported.SerializeToString(deterministic=True))

    weights = {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}
    gradients = {name: tensors[f"gradient.{name}"] for name in weights if f"gradient.{name}" in tensors}
    gradient_by_layout = {(name, layout, x.shape): x for name, layout, x in initializers.relaid(gradients)}
    parameters, present = {}, set()
    for found in initializers.parameters_of(exported, weights):
        key = found.parameter if found.layout == "same" else f"{found.initializer}@{variant.suffix()}"
        parameters[found.initializer] = {"parameter": found.parameter, "layout": found.layout, "gradient": None}
        present.update(found.parameter.split("+"))
        if gradients:
            parameters[found.initializer]["gradient"] = f"gradient.{key}"
            tensors[f"gradient.{key}"] = gradient_by_layout[found.parameter, found.layout, found.shape]
    if variant.mode == "train":
        present.update(initializers.kept(exported, dict(network.named_buffers())))
        expected = {*weights, *(name for name, _ in network.named_buffers() if "running" in name)}
        if present != expected:
            raise LookupError(f"{file} lacks {sorted(expected - present)}")
    return {
        "file": file,
        "exporter": variant.exporter,
        "opset": next(opset.version for opset in exported.opset_import if not opset.domain),
        "mode": variant.mode,
        "dynamic_batch": variant.dynamic_batch,
        "parameters": parameters,
    }


def described(name: str, x: torch.Tensor) -> dict:
    return {"name": name, "dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape)}
