"""Quantize an ONNX file: store large matrices in 8 bits, and multiply in 8 bits what comes to them."""

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tubelet.errors import ConfigError

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["quantize"]

LEAST_SHARE = 0.5
"""Share of the weights that must lie in matrices for int8 to pay."""


def quantize(model: "ModelProto") -> "ModelProto":
    """Return a model whose products with weight matrices are computed in 8 bits.

    Each column of a matrix has its own scale; what is multiplied with it is measured anew at each call, so that no
    clips are needed to prepare it. Attention, norms, GELU, softmax and convolutions stay in float32.

    Raises:
        ConfigError: most weights lie in convolutions or recurrences, which would stay as they are.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        whole, prepared, small = (Path(folder) / f"{name}.onnx" for name in ("whole", "prepared", "small"))
        onnx.save(model, whole)
        # Without shapes, which this finds, quantizing fails.
        quant_pre_process(str(whole), str(prepared))
        quantize_dynamic(
            prepared, small, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
        )
        quantized = onnx.load(small)
    _check(quantized)
    return quantized


def _check(model: "ModelProto") -> None:
    import onnx

    sizes = [(weight.data_type, math.prod(weight.dims)) for weight in model.graph.initializer]
    share = sum(size for kind, size in sizes if kind == onnx.TensorProto.INT8) / sum(size for _, size in sizes)
    if share < LEAST_SHARE:
        raise ConfigError(
            f"cannot export in int8 - {share:.0%} of the weights lie in matrices, the others in convolutions or "
            "recurrences, which stay in float32 - leave int8 out."
        )
