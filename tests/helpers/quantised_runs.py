"""Models of quantised operations, as LiteRT and ONNX Runtime have them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from helpers import kernel_runs


def quantised_model(
    function: Callable[..., Any], samples: list[Any], *, int16: bool = False, per_tensor: bool = False
) -> bytes:
    """Convert a function of one float32 tensor to a TFLite model of int8 throughout, or int16 activations."""
    import tensorflow as tf

    def set_up(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        sets, kind = tf.lite.OpsSet, tf.int16 if int16 else tf.int8
        wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wide if int16 else sets.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = kind
        converter._experimental_disable_per_channel = per_tensor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that statistics were expected
        return kernel_runs.litert_model(function, samples[0].shape, set_up=set_up)
