"""Writes arrays in the safetensors format (https://github.com/huggingface/safetensors, "Format")."""
import json
import pathlib
import struct

import numpy as np

DTYPES = {"float32": "F32", "float64": "F64", "int64": "I64", "bool": "BOOL"}


def write(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    header, parts, end = {}, [], 0
    for name, array in sorted(arrays.items()):
        parts.append(np.ascontiguousarray(array).tobytes())
        offsets = [end, end + len(parts[-1])]
        header[name] = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        end = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data begins where eight bytes do
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
