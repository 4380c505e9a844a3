"""Stores a graph's large weights as float16; computation stays float32.

Each stored array is followed by a Cast, which ONNX Runtime folds away when it loads the file. Half the
bytes on disk, the same speed and memory; a weight is off by at most 2^-11 of itself.
"""

from __future__ import annotations

import numpy as np
import onnx

MIN_VALUES = 4096
"""Minimum values of an array to convert; biases and norms stay exact."""
MAX_FLOAT16 = 65504.0
"""The largest float16; arrays beyond it stay float32."""


def with_half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the large float32 initialisers of a graph as float16, in place; returns `model`."""
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < MIN_VALUES or np.abs(values).max() > MAX_FLOAT16:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.f16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.f16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])  # a node comes after what it reads
    return model
