"""OpenVINO models for tests, built with its own operations and written by its own `save_model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bninspect.records import Array

EPSILON = 0.25
GENERATOR = np.random.default_rng(16)
PARAMETERS = {
    name: GENERATOR.uniform(0.5, 2, 4).astype(np.float32)
    for name in ("gamma", "beta", "moving_mean", "moving_variance")
}
SCALE = GENERATOR.uniform(-2, 2, (1, 4, 1, 1)).astype(np.float32)
SHIFT = GENERATOR.uniform(-2, 2, (1, 4, 1, 1)).astype(np.float32)
KERNEL = GENERATOR.uniform(-1, 1, (2, 2, 2, 3, 3)).astype(np.float32)


def model(dtype: Any = np.float32) -> Any:
    """Return a BatchNormInference, a grouped convolution, a Multiply and an Add behind a ReLU, and a dense layer."""
    from openvino import Model, Type
    from openvino import opset15 as ops

    x = ops.parameter([-1, 4, 6, 6], Type(np.dtype(dtype)), name="image")
    arrays = [ops.constant(array.astype(dtype)) for array in PARAMETERS.values()]
    normal = ops.batch_norm_inference(x, *arrays, EPSILON, name="norm")
    kernel = ops.constant(KERNEL.astype(dtype))
    conv = ops.group_convolution(normal, kernel, [1, 1], [1, 1], [1, 1], [1, 1], name="conv")
    positive = ops.relu(conv, name="positive")
    scaled = ops.multiply(positive, ops.constant(SCALE.astype(dtype)), name="scaled")
    shifted = ops.add(scaled, ops.constant(SHIFT.astype(dtype)), name="pair")
    mean = ops.reduce_mean(shifted, ops.constant(np.array([2, 3], np.int64)), name="mean")
    dense = ops.matmul(mean, ops.constant(np.ones((3, 4), dtype)), False, True, name="dense")
    return Model([ops.result(dense, name="end")], [x], "test")


def write(path: Path, built: Any | None = None, **options: Any) -> Path:
    """Write a model as IR, of float32 unless `compress_to_fp16=True` is given, which is OpenVINO's own default."""
    import openvino

    openvino.save_model(model() if built is None else built, str(path), **{"compress_to_fp16": False, **options})
    return path


def constants(path: Path) -> dict[str, Array]:
    """Return the constants of a file as OpenVINO reads them."""
    import openvino

    loaded = openvino.Core().read_model(str(path))
    return {one.get_friendly_name(): one.data for one in loaded.get_ops() if one.get_type_name() == "Constant"}
