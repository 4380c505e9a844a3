"""Layers of X-Codec, HuBERT and Vocos as ONNX operators.

Graphs are written with spox: every operator call is type- and shape-checked by ONNX's own inference while the
graph is being built, so a wrong width is an error here and not at run time, and control flow (`Scan`) is a
Python function. Weights enter spox as typed inputs and become initialisers of the finished model: spox never
carries half a gigabyte of constants through its checks, and building takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import spox.opset.ai.onnx.v17 as op
from spox import Tensor, Var, argument, build

from .weights import Floats, Weights

IR_VERSION = 8
"""ONNX file format of opset 17's generation; every supported ONNX Runtime reads it."""


class Layers:
    """Builds operators from named weights; keeps the weights until the model is finished.

    Waves and features are [1, channels, time] for convolutions and [time, channels] for linear layers.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self._arrays: dict[str, Floats] = {}
        self._vars: dict[str, Var] = {}

    def param(self, name: str, array: Floats) -> Var:
        """A weight of the graph; the same name is stored once."""
        if name not in self._vars:
            self._arrays[name] = array
            self._vars[name] = argument(Tensor(np.float32, array.shape))
        return self._vars[name]

    def vector(self, name: str, size: int) -> Var:
        """A bias, gain or scale."""
        return self.param(name, self.weights.array(name, size))

    def conv(
        self,
        x: Var,
        module: str,
        *,
        out: int | None = None,
        stride: int = 1,
        pad: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        norm_axis: int = 0,
    ) -> Var:
        """Conv1d, weight-normalised or not; without `pad` it keeps the length.

        `out` is the required output width, where a sum follows. Raises DamagedFile.
        """
        kernel = self.weights.weight(module, out, width(x, 1) // groups, None, norm_axis=norm_axis)
        size = kernel.shape[2]
        if pad is None and size % 2 == 0:
            raise self.weights.damaged(f"{module} has a kernel of {size}, expected an odd one")
        edge = dilation * (size - 1) // 2 if pad is None else pad
        return op.conv(
            x,
            self.param(f"{module}.weight", kernel),
            self.vector(f"{module}.bias", kernel.shape[0]) if bias else None,
            kernel_shape=[size],
            strides=[stride],
            pads=[edge, edge],
            dilations=[dilation],
            group=groups,
        )

    def conv_transpose(self, x: Var, module: str) -> tuple[Var, int]:
        """Weight-normalised ConvTranspose1d of kernel 2s: multiplies the length by s; returns s too."""
        kernel = self.weights.weight(module, width(x, 1), None, None)
        stride = stride_of(self.weights, module, kernel.shape[2])
        edge = (stride + 1) // 2
        out = op.conv_transpose(
            x,
            self.param(f"{module}.weight", kernel),
            self.vector(f"{module}.bias", kernel.shape[1]),
            kernel_shape=[2 * stride],
            strides=[stride],
            pads=[edge, edge],
            output_padding=[stride % 2],
        )
        return out, stride

    def linear(self, x: Var, module: str, out: int | None = None) -> Var:
        """Linear on [time, channels]; `out` as in `conv`."""
        matrix = self.weights.array(f"{module}.weight", out, width(x, 1))
        bias = self.vector(f"{module}.bias", matrix.shape[0])
        return op.gemm(x, self.param(f"{module}.weight", matrix), bias, transB=1)

    def layer_norm(self, x: Var, module: str, epsilon: float) -> Var:
        """LayerNorm over the channels of [time, channels]."""
        scale, bias = (self.vector(f"{module}.{part}", width(x, 1)) for part in ("weight", "bias"))
        return op.layer_normalization(x, scale, bias, axis=-1, epsilon=epsilon)[0]

    def snake(self, x: Var, module: str) -> Var:
        """x + sin²(αx) / (α + 1e-9), the activation of the Descript codec."""
        name = f"{module}.alpha"
        alpha = self.weights.array(name, 1, width(x, 1), 1)
        inverse = self.param(f"{module}.inverse", np.reciprocal(alpha + np.float32(1e-9)))
        wave = op.sin(op.mul(x, self.param(name, alpha)))
        return op.add(x, op.mul(op.mul(wave, wave), inverse))

    def residual_unit(self, x: Var, module: str, dilation: int) -> Var:
        """x + Conv₁(Snake(Conv₇(Snake(x)))), the residual unit of the Descript codec."""
        y = self.conv(self.snake(x, f"{module}.block.0"), f"{module}.block.1", dilation=dilation)
        y = self.conv(self.snake(y, f"{module}.block.2"), f"{module}.block.3", out=width(x, 1))
        return op.add(x, y)

    def model(self, inputs: Mapping[str, Var], outputs: Mapping[str, Var]) -> onnx.ModelProto:
        """The finished model: `inputs` stay inputs, every weight becomes an initialiser."""
        model = build({**inputs, **self._vars}, dict(outputs))
        kept = [value for value in model.graph.input if value.name in inputs]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        while self._arrays:
            name, array = self._arrays.popitem()  # frees each array as soon as it is copied
            tensor = model.graph.initializer.add(
                name=name, data_type=onnx.TensorProto.FLOAT, dims=array.shape
            )
            tensor.raw_data = array.astype("<f4", copy=False).tobytes()
        model.ir_version = IR_VERSION
        model.producer_name = "yuegguf"
        return model


def gelu(x: Var) -> Var:
    """The exact GELU, x/2 · (1 + erf(x/√2)); ONNX Runtime fuses it into one operator."""
    half = op.mul(op.add(op.erf(op.div(x, scalar(2**0.5))), scalar(1.0)), scalar(0.5))
    return op.mul(x, half)


def stride_of(weights: Weights, module: str, kernel: int) -> int:
    """The stride of a resampling convolution: the Descript codec makes every such kernel 2 × stride."""
    if kernel % 2:
        raise weights.damaged(f"{module} has a kernel of {kernel}, expected an even one")
    return kernel // 2


def width(x: Var, axis: int) -> int:
    """The static size of an axis, which shape inference carries through the graph."""
    shape = x.unwrap_tensor().shape
    size = shape[axis] if shape else None
    if not isinstance(size, int):
        raise ValueError(f"axis {axis} of {shape} has no static size")
    return size


def to_time(x: Var) -> Var:
    """[time, channels] → [1, channels, time]."""
    return op.unsqueeze(op.transpose(x, perm=[1, 0]), ints(0))


def to_channels(x: Var) -> Var:
    """[1, channels, time] → [time, channels]."""
    return op.transpose(op.squeeze(x, ints(0)), perm=[1, 0])


def ints(*values: int) -> Var:
    """A constant int64 vector: axes, shapes, starts and ends."""
    return op.const(np.array(values, np.int64))


def scalar(value: float) -> Var:
    """A constant float32."""
    return op.const(np.float32(value))


def length(x: Var, axis: int) -> Var:
    """The size of an axis at run time, int64 [1]."""
    return op.shape(x, start=axis, end=axis + 1)
