"""Exports of the nets of small_nets.py: every kind of file, with the options of its converter that people use."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from small_nets import SmallNet, in_keras, in_torch, inputs

Convert = Callable[[SmallNet, Path], None]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what converters print to themselves, and their warnings."""
    kept, void = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(void, 2)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(void)


def calibration(net: SmallNet) -> Any:
    """Return samples of the training's kind, one by one, as a representative data set."""
    samples, _ = inputs(net, 48, 777)
    return lambda: ([sample[np.newaxis]] for sample in samples)


def lite(kind: str, *, batch: int | None = None, whole: bool = False, per_channel: bool = True) -> Convert:
    """Return a converter to TFLite: float32, float16, dynamic, int8 or int16x8; `whole`: integers in and out."""

    def convert(net: SmallNet, path: Path) -> None:
        import tensorflow as tf

        model = in_keras(net)
        if batch is None:
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
        else:
            from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

            call = tf.function(lambda x: model(x, training=False))
            concrete = call.get_concrete_function(tf.TensorSpec((batch, *net.shape), tf.float32))
            converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(concrete)])
        if kind != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        converter._experimental_disable_per_channel = not per_channel  # noqa: SLF001 - the only way to ask for it
        if kind in {"int8", "int16x8"}:
            converter.representative_dataset = calibration(net)
            sets = tf.lite.OpsSet
            wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.target_spec.supported_ops = [wide if kind == "int16x8" else sets.TFLITE_BUILTINS_INT8]
            if whole:
                own = tf.int16 if kind == "int16x8" else tf.int8
                converter.inference_input_type = converter.inference_output_type = own
        path.write_bytes(converter.convert())

    return convert


def tf2onnx(opset: int = 15, *, first: bool = False) -> Convert:
    """Return tf2onnx; `first`: with the channels of its input first."""

    def convert(net: SmallNet, path: Path) -> None:
        import tensorflow as tf
        import tf2onnx as converter

        model = in_keras(net)
        spec = [tf.TensorSpec((None, *net.shape), tf.float32, name="x")]
        function = tf.function(lambda x: model(x, training=False), input_signature=spec)
        more = {"inputs_as_nchw": ["x"]} if first and len(net.shape) == 3 else {}
        converter.convert.from_function(function, input_signature=spec, opset=opset, output_path=str(path), **more)

    return convert


def quantised_onnx(kind: str, then: Convert | None = None) -> Convert:
    """Return ONNX Runtime's quantisation: `dynamic`, `qdq` or `qoperator`, per channel or `... per tensor`."""

    def convert(net: SmallNet, path: Path) -> None:
        import onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quantize_dynamic,
            quantize_static,
        )

        plain = path.with_suffix(".plain.onnx")
        (then or tf2onnx())(net, plain)
        taken = onnx.load(plain).graph.input[0].name
        samples, _ = inputs(net, 48, 777)
        if then is not None and len(net.shape) == 3:
            samples = np.moveaxis(samples, -1, 1)
        if kind == "dynamic":
            quantize_dynamic(str(plain), str(path), weight_type=QuantType.QInt8)
            return

        class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is Any to mypy
            def __init__(self) -> None:
                self.left = iter(samples)

            def get_next(self) -> dict[str, Any] | None:
                return next(({taken: np.ascontiguousarray(one[np.newaxis])} for one in self.left), None)

        quantize_static(
            str(plain),
            str(path),
            Reader(),
            quant_format=QuantFormat.QOperator if "qoperator" in kind else QuantFormat.QDQ,
            per_channel="per tensor" not in kind,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8 if "signed" in kind else QuantType.QUInt8,
        )

    return convert


def optimised_onnx(then: Convert, level: str = "ORT_ENABLE_EXTENDED") -> Convert:
    """Return the file as ONNX Runtime writes its optimised graph."""

    def convert(net: SmallNet, path: Path) -> None:
        import onnxruntime as ort

        plain = path.with_suffix(".plain.onnx")
        then(net, plain)
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 4
        ort.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])

    return convert


def example(net: SmallNet, batch: int = 2) -> Any:
    """Return an input for a module of torch."""
    import torch

    samples, _ = inputs(net, batch, 5)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(samples, -1, 1) if samples.ndim > 2 else samples))


def torch_onnx(*, dynamo: bool = False, kept: bool = False, opset: int | None = None, half: bool = False) -> Convert:
    """Return torch's exporter; `kept`: with its batch norms not folded."""

    def convert(net: SmallNet, path: Path) -> None:
        import torch

        module = in_torch(net)
        given = example(net)
        if half:
            module, given = module.half(), given.half()
        more: dict[str, Any] = {"dynamic_axes": {"x": {0: "batch"}}} if not dynamo else {}
        if kept and not dynamo:
            more |= {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
        if opset:
            more["opset_version"] = opset
        if dynamo:
            more["dynamic_shapes"] = ({0: torch.export.Dim("batch", min=1, max=64)},)
        torch.onnx.export(module, (given,), str(path), input_names=["x"], dynamo=dynamo, **more)

    return convert


def script(*, frozen: bool = False, optimised: bool = False, half: bool = False) -> Convert:
    """Return torch.jit.trace, frozen (which folds batch norms) or as `optimize_for_inference` leaves it."""

    def convert(net: SmallNet, path: Path) -> None:
        import torch

        module, given = in_torch(net), example(net)
        if half:
            module, given = module.half(), given.half()
        traced = torch.jit.trace(module, given)
        if frozen or optimised:
            traced = torch.jit.freeze(traced)
        if optimised:
            traced = torch.jit.optimize_for_inference(traced)
        traced.save(path)

    return convert


def program(*, batch: bool = True, decomposed: bool = False, fused: bool = False) -> Convert:
    """Return torch.export, with an open batch, with its operators taken apart, or with batch norms folded before."""

    def convert(net: SmallNet, path: Path) -> None:
        import torch

        module = in_torch(folded(net) if fused else net)
        shapes = ({0: torch.export.Dim("batch", min=1, max=64)},) if batch else None
        exported = torch.export.export(module, (example(net),), dynamic_shapes=shapes)
        torch.export.save(exported.run_decompositions() if decomposed else exported, path)

    return convert


def folded(net: SmallNet) -> SmallNet:
    """Return a net whose batch norms directly behind a convolution or dense layer are in it, computed in float32."""
    weights, steps = dict(net.weights), []
    for before, step in zip((None, *net.steps), net.steps, strict=False):
        alone = before is not None and step.op == "norm" and not step.of
        alone = alone and not any(before is not None and before.name in one.of for one in net.steps)
        if before is None or not alone or before.op not in {"conv", "depthwise", "dense"}:
            steps.append(step)
            continue
        kernel, *bias = weights[before.name]
        gamma, beta, mean, variance = weights.pop(step.name)
        scale = (gamma / np.sqrt(variance + np.float32(step.epsilon))).astype(np.float32)
        added = ((bias[0] if bias else 0) - mean) * scale + beta
        weights[before.name] = (kernel * scale.reshape(-1, *(1,) * (kernel.ndim - 1)), added.astype(np.float32))
        steps[-1] = replace(before, bias=True)
        steps.append(replace(step, op="pass"))
    return replace(net, steps=tuple(steps), weights=weights)


def keras_onnx(net: SmallNet, path: Path) -> None:
    """Export with Keras' own `model.export`."""
    model = in_keras(net)
    model(np.zeros((1, *net.shape), np.float32))
    model.export(str(path), format="onnx", verbose=False)


KERAS_KINDS: Mapping[str, tuple[str, Convert]] = {
    **{kind: (".tflite", lite(kind)) for kind in ("float32", "float16", "dynamic", "int8", "int16x8")},
    "onnx": (".onnx", tf2onnx()),
}
TORCH_KINDS: Mapping[str, tuple[str, Convert]] = {
    "torch.onnx": (".onnx", torch_onnx()),
    "TorchScript": (".pt", script(frozen=True)),
    "pt2": (".pt2", program()),
}
"""What tampers.py tampers with."""
KERAS_RIGHT: Mapping[str, tuple[str, Convert]] = {
    **KERAS_KINDS,
    "float32, batch of 1": (".tflite", lite("float32", batch=1)),
    "float16, batch of 1": (".tflite", lite("float16", batch=1)),
    "int8, per tensor": (".tflite", lite("int8", per_channel=False)),
    "int8, whole numbers": (".tflite", lite("int8", whole=True)),
    "int16x8, whole numbers": (".tflite", lite("int16x8", whole=True)),
    "onnx, opset 17": (".onnx", tf2onnx(17)),
    "onnx, channels first": (".onnx", tf2onnx(first=True)),
    "onnx, Keras' own": (".onnx", keras_onnx),
    "onnx, dynamic": (".onnx", quantised_onnx("dynamic")),
    "onnx, QDQ": (".onnx", quantised_onnx("qdq")),
    "onnx, QDQ, signed": (".onnx", quantised_onnx("qdq signed")),
    "onnx, QOperator": (".onnx", quantised_onnx("qoperator")),
    "onnx, QOperator, per tensor": (".onnx", quantised_onnx("qoperator per tensor")),
    "onnx, optimised": (".onnx", optimised_onnx(tf2onnx())),
}
TORCH_RIGHT: Mapping[str, tuple[str, Convert]] = {
    **TORCH_KINDS,
    "torch.onnx, dynamo": (".onnx", torch_onnx(dynamo=True)),
    "torch.onnx, kept": (".onnx", torch_onnx(kept=True)),
    "torch.onnx, opset 11": (".onnx", torch_onnx(opset=11)),
    "torch.onnx, float16": (".onnx", torch_onnx(half=True)),
    "torch.onnx, dynamic": (".onnx", quantised_onnx("dynamic", torch_onnx())),
    "torch.onnx, QDQ": (".onnx", quantised_onnx("qdq", torch_onnx())),
    "torch.onnx, optimised": (".onnx", optimised_onnx(torch_onnx())),
    "torch.onnx, optimised for this machine": (".onnx", optimised_onnx(torch_onnx(), "ORT_ENABLE_ALL")),
    "TorchScript, not frozen": (".pt", script()),
    "TorchScript, optimised": (".pt", script(optimised=True)),
    "pt2, fixed batch": (".pt2", program(batch=False)),
    "pt2, taken apart": (".pt2", program(decomposed=True)),
    "pt2, folded": (".pt2", program(fused=True)),
}


def run(path: Path, samples: Any) -> Any:
    """Return what an export makes of samples, channels last, in its own runtime, one sample at a time."""
    return np.concatenate([_run(path, one[np.newaxis]) for one in samples])


def _run(path: Path, sample: Any) -> Any:
    first = np.ascontiguousarray(np.moveaxis(sample, -1, 1)) if sample.ndim > 2 else sample
    if path.suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path))
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], sample.shape)
        interpreter.allocate_tensors()
        (own,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.set_tensor(own["index"], sample)
        interpreter.invoke()
        return interpreter.get_tensor(made["index"])
    if path.suffix == ".onnx":
        import onnxruntime as ort

        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (taken,) = session.get_inputs()
        given = first if len(taken.shape) > 2 and taken.shape[1] == first.shape[1] else sample
        (made,) = session.run(None, {taken.name: given})
    else:
        import torch

        module = torch.jit.load(str(path)) if path.suffix == ".pt" else torch.export.load(path).module()
        with torch.no_grad():
            made = module(torch.from_numpy(first)).numpy()
        given = first
    return np.moveaxis(made, 1, -1) if given is first and made.ndim > 2 else made
