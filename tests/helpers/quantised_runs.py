"""Quantised operations run by real kernels, with every number of the file beside what came out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from helpers import kernel_runs

from bninspect.arithmetic.kernels.grid import Grid


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a quantised TFLite model after it ran."""

    q: Any
    step: Any
    zero: Any

    @property
    def grid(self) -> Grid:
        return Grid.of(self.q.dtype.name, np.squeeze(self.step), np.squeeze(self.zero))

    @property
    def shifted(self) -> Any:
        """The whole numbers, less the zero point."""
        return self.q.astype(np.float64) - self.grid.zero


@dataclass(frozen=True, eq=False)
class Done:
    """An operation of a TFLite model: what it is called, and its tensors; None for those that it does not have."""

    name: str
    inputs: tuple[Tensor | None, ...]
    output: Tensor


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


def run(model: bytes, x: Any, *, xnnpack: bool = False) -> list[Done]:
    """Run a model on whole numbers; with XNNPACK only models of one operation say what that computed."""
    interpreter = kernel_runs.litert_interpreter(model, xnnpack=xnnpack)
    plain = kernel_runs.litert_interpreter(model)
    for each in (interpreter, plain):
        each.allocate_tensors()
        each.set_tensor(each.get_input_details()[0]["index"], x)
        each.invoke()
    details = {detail["index"]: detail for detail in plain.get_tensor_details()}
    ends = {detail["index"] for detail in interpreter.get_output_details()}

    def tensor(index: int) -> Tensor | None:
        if index < 0:
            return None
        source = interpreter if index in ends else plain
        parameters = details[index]["quantization_parameters"]
        values = np.array(source.get_tensor(index))
        return Tensor(values, parameters["scales"].astype(np.float64), parameters["zero_points"].astype(np.float64))

    done = []
    for operation in plain._get_ops_details():
        output = tensor(int(operation["outputs"][0]))
        assert output is not None
        done.append(Done(operation["op_name"], tuple(tensor(int(i)) for i in operation["inputs"]), output))
    return done


def random_input(model: bytes, rng: np.random.Generator) -> Any:
    """Return whole numbers over the full range of the input's type."""
    detail = kernel_runs.litert_interpreter(model).get_input_details()[0]
    info = np.iinfo(detail["dtype"])
    return rng.integers(info.min, info.max + 1, detail["shape"], dtype=detail["dtype"])
