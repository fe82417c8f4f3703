"""Which initializers of an exported file are which parameters of the PyTorch module."""
import dataclasses
import re
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from onnx import numpy_helper

# From PyTorch's order of gates to ONNX's: of an LSTM i f g o to i o f c, of a GRU r z n to z r h; an RNN has one.
GATES = {4: (0, 3, 1, 2), 3: (1, 0, 2), 1: (0,)}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """`layout`: `same`; `transposed`; `unsqueezed`, with ones behind; `rows a..b`, and also
    `transposed`; `gates`, a recurrent layer's tensors of both directions with ONNX's order of
    gates, where `parameter` may be two names with a plus, one behind the other.
    """

    initializer: str
    parameter: str
    layout: str
    shape: tuple[int, ...]


def parameters_of(model: onnx.ModelProto, weights: dict[str, np.ndarray]) -> list[Parameter]:
    """The initializers that are parameters, told by value and, where values are equal, by name; in the file's order."""
    layouts = list(relaid(weights))
    found = []
    for initializer in model.graph.initializer:
        value = numpy_helper.to_array(initializer)
        fitting = [
            Parameter(initializer.name, name, layout, weight.shape)
            for name, layout, weight in layouts
            if weight.shape == value.shape and np.array_equal(weight, value)
        ]
        if fitting:
            found.append(min(fitting, key=lambda parameter: parameter.parameter != initializer.name))
    return found


def kept(model: onnx.ModelProto, tensors: dict[str, torch.Tensor]) -> set[str]:
    """The names of running statistics that the file has under their own names and with their own values."""
    values = {initializer.name: numpy_helper.to_array(initializer) for initializer in model.graph.initializer}
    return {n for n, x in tensors.items() if "running" in n and n in values and np.array_equal(values[n], x.numpy())}


def relaid(tensors: dict[str, np.ndarray]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Each layout in which an exporter may write each tensor: (its name, the layout, itself so)."""
    for name, tensor in tensors.items():
        yield name, "same", tensor
        if tensor.ndim == 2:
            yield name, "transposed", tensor.T
        if tensor.ndim == 1:
            for ones in (1, 2, 3):
                yield name, "unsqueezed", tensor.reshape(-1, *[1] * ones)
    for name, tensor in tensors.items():
        if re.search(r"weight_ih_l\d+$", name):
            yield from recurrent(tensors, name)
        if "in_proj_" in name:
            yield from query_key_value(name, tensor)


def query_key_value(name: str, tensor: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """The parts of MultiheadAttention's one tensor for query, key and value, where the exporter has cut it."""
    width = len(tensor) // 3
    for first, end in ((0, 1), (1, 2), (2, 3), (1, 3)):
        rows, layout = tensor[first * width : end * width], f"rows {first * width}..{end * width}"
        yield name, layout, rows
        if tensor.ndim == 2:
            yield name, f"{layout} transposed", rows.T


def recurrent(tensors: dict[str, np.ndarray], name: str) -> Iterator[tuple[str, str, np.ndarray]]:
    directions = [end for end in ("", "_reverse") if name + end in tensors]

    def stacked(part: str) -> np.ndarray:
        return np.stack([gates(tensors, name, end, part) for end in directions])

    hidden, bias, hidden_bias = (name.replace("weight_ih", part) for part in ("weight_hh", "bias_ih", "bias_hh"))
    yield joined([name], directions), "gates", stacked("weight_ih")
    yield joined([hidden], directions), "gates", stacked("weight_hh")
    yield joined([bias, hidden_bias], directions), "gates", np.concatenate([stacked("bias_ih"), stacked("bias_hh")], 1)


def joined(names: list[str], directions: list[str]) -> str:
    return "+".join(name + end for end in directions for name in names)


def gates(tensors: dict[str, np.ndarray], name: str, end: str, part: str) -> np.ndarray:
    hidden_size = tensors[name.replace("weight_ih", "weight_hh") + end].shape[1]
    tensor = tensors[name.replace("weight_ih", part) + end]
    blocks = np.split(tensor, len(tensor) // hidden_size)
    return np.concatenate([blocks[at] for at in GATES[len(blocks)]])
