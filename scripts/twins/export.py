"""A PyTorch module to an ONNX model, by either of PyTorch's exporters, with what names machines taken out."""
import io
import logging
import warnings

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
# Whether a batch normalisation was in training, only its function says.
NODE = "pkg.torch.onnx.fx_node"


def export(
    network: nn.Module, inputs: dict[str, Tensor], *,
    exporter: str, mode: str = "train", opset: int | None = None, dynamic_batch: bool = False,
) -> onnx.ModelProto:
    """The network with its weights as initializers, its inputs named as in `inputs` and its result `output`.

    `exporter` is dynamo or torchscript. In `mode` train nothing is folded: the dynamo exporter's optimizer would put
    BatchNorm's weights into the convolutions; in `mode` eval the exporters do as they like.
    """
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    network.train(mode == "train")
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    names = {"input_names": list(inputs), "output_names": ["output"], "opset_version": opset}
    if exporter == "dynamo":
        shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs) if dynamic_batch else None
        program = torch.onnx.export(
            network, tuple(inputs.values()),
            dynamo=True, optimize=mode == "eval", verbose=False, dynamic_shapes=shapes, **names,
        )
        model = program.model_proto
    else:
        axes = {name: {0: "batch"} for name in (*inputs, "output")} if dynamic_batch else None
        training = torch.onnx.TrainingMode.TRAINING if mode == "train" else torch.onnx.TrainingMode.EVAL
        file = io.BytesIO()
        torch.onnx.export(
            network, tuple(inputs.values()), file, dynamo=False, training=training, dynamic_axes=axes, **names
        )
        model = onnx.load_from_string(file.getvalue())
    put_back(model, buffers)
    return anonymous(model)


def put_back(model: onnx.ModelProto, buffers: dict[str, Tensor]) -> None:
    """Undoes what tracing in training mode did to running statistics: the exporter writes them as it left them."""
    for initializer in model.graph.initializer:
        if initializer.name in buffers:
            initializer.CopyFrom(numpy_helper.from_array(buffers[initializer.name].numpy(), initializer.name))


def anonymous(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the stack traces that the dynamo exporter writes, which name folders of the machine. What it says of a
    tensor, parameter or buffer, stays, and of a batch normalisation which function it was."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        said = {KIND} | ({NODE} if getattr(part, "op_type", "") == "BatchNormalization" else set())
        kept = [(entry.key, entry.value) for entry in part.metadata_props if entry.key in said]
        del part.metadata_props[:]
        for key, value in kept:
            part.metadata_props.add(key=key, value=value)
        part.doc_string = ""
    return model
