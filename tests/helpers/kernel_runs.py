"""Single operations run by real kernels: torch, ONNX Runtime and LiteRT (built-in kernels and XNNPACK)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def onnx_run(
    nodes: list[Any], x: Mapping[str, Any], constants: Mapping[str, Any], *, optimised: bool = False, opset: int = 19
) -> Any:
    """Run ONNX nodes on x; the output is called y."""
    import onnx
    import onnxruntime

    from_numpy, info = onnx.numpy_helper.from_array, onnx.helper.make_tensor_value_info
    inputs = [info(name, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for name, a in x.items()]
    initialisers = [from_numpy(np.asarray(a), name) for name, a in constants.items()]
    graph = onnx.helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name="y")], initialisers)
    domains = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["y"], dict(x))[0]


def onnx_node(kind: str, inputs: list[str], domain: str = "", output: str = "y", **attributes: Any) -> Any:
    import onnx

    return onnx.helper.make_node(kind, inputs, [output], domain=domain, **attributes)


def litert_model(
    function: Callable[..., Any], *shapes: tuple[int, ...], set_up: Callable[[Any], None] | None = None
) -> bytes:
    """Convert a function of float32 tensors to a TFLite model; `set_up` may change the converter."""
    import tensorflow as tf

    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    concrete = tf.function(function).get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    if set_up is not None:
        set_up(converter)
    return bytes(converter.convert())


def litert_run(model: bytes, *x: Any, xnnpack: bool = False) -> Any:
    """Run a TFLite model on inputs in their order, and return its output."""
    interpreter = litert_interpreter(model, xnnpack=xnnpack)
    for detail, values in zip(interpreter.get_input_details(), x, strict=True):
        interpreter.resize_tensor_input(detail["index"], values.shape)
    interpreter.allocate_tensors()
    for detail, values in zip(interpreter.get_input_details(), x, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def litert_interpreter(model: bytes, *, xnnpack: bool = False) -> Any:
    from ai_edge_litert import interpreter

    resolvers = interpreter.OpResolverType
    chosen = resolvers.BUILTIN if xnnpack else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return interpreter.Interpreter(
        model_content=model,
        num_threads=1,
        experimental_op_resolver_type=chosen,
        experimental_preserve_all_tensors=not xnnpack,
    )


def torch_convolve(operation: Any, x: Any, w: Any, bias: Any, *, mkldnn: bool = True, kind: str = "float32") -> Any:
    """Run a `Convolution` in torch, in type `kind`; x (batch, *lengths, inputs), w (*size, inputs, outputs)."""
    import torch

    window, groups, rank = operation.window, operation.groups, w.ndim - 2
    data = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    stored = torch.from_numpy(_stored(w, groups, transposed=operation.transposed))
    options: dict[str, Any] = {"stride": window.stride, "dilation": window.dilation, "groups": groups}
    run: Any = getattr(torch.nn.functional, f"conv{'_transpose' * operation.transposed}{rank}d")
    if operation.transposed:
        options["padding"] = tuple(low for low, _ in window.padding)
        options["output_padding"] = operation.output_padding or 0
    else:
        flat = [width for low, high in reversed(window.padding) for width in (low, high)]
        data = torch.nn.functional.pad(data, flat)
    before = torch._C._get_mkldnn_enabled()  # the context manager of torch 2.13 warns of Intel GPUs
    torch._C._set_mkldnn_enabled(mkldnn)
    try:
        y = run(*(each.to(getattr(torch, kind)) for each in (data, stored, torch.from_numpy(bias))), **options)
    finally:
        torch._C._set_mkldnn_enabled(before)
    return np.moveaxis(y.float().numpy(), 1, -1)


def onnx_convolve(operation: Any, x: Any, w: Any, bias: Any, *, optimised: bool = False) -> Any:
    """Run a `Convolution` in ONNX Runtime; the arguments are those of `torch_convolve`."""
    window = operation.window
    lows, highs = zip(*window.padding, strict=True)
    attributes: dict[str, Any] = {
        "strides": window.stride,
        "dilations": window.dilation,
        "pads": (*lows, *highs),
        "group": operation.groups,
    }
    if operation.transposed and operation.output_padding:
        attributes["output_padding"] = operation.output_padding
    node = onnx_node("ConvTranspose" if operation.transposed else "Conv", ["x", "w", "b"], **attributes)
    data = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    constants = {"w": _stored(w, operation.groups, transposed=operation.transposed), "b": bias}
    return np.moveaxis(onnx_run([node], {"x": data}, constants, optimised=optimised), 1, -1)


def _stored(w: Any, groups: int, *, transposed: bool) -> Any:
    """Return weights (*size, inputs per group, outputs) as torch and ONNX store them."""
    *size, each, outputs = w.shape
    if not transposed:
        return np.ascontiguousarray(np.moveaxis(w, (-1, -2), (0, 1)))
    split = np.moveaxis(w.reshape(*size, each, groups, outputs // groups), (-2, -3, -1), (0, 1, 2))
    return np.ascontiguousarray(split.reshape(groups * each, outputs // groups, *size))


def litert_convolve(operation: Any, x: Any, w: Any, bias: Any, *, xnnpack: bool = False) -> Any:
    """Run a two-dimensional `Convolution`, padded as SAME or not at all, in LiteRT; arguments of `torch_convolve`."""
    import tensorflow as tf

    window, groups = operation.window, operation.groups
    padding = "SAME" if any(low or high for low, high in window.padding) else "VALID"

    def call(data: Any) -> Any:
        if operation.transposed:
            shape = (x.shape[0], *operation.outputs(x.shape[1:-1]), w.shape[-1])
            return tf.nn.conv2d_transpose(data, np.swapaxes(w, -1, -2), shape, window.stride, padding) + bias
        if groups == x.shape[-1] and groups > 1:
            stride = (1, *window.stride, 1)
            kernel = w.reshape(*w.shape[:2], groups, -1)
            return tf.nn.depthwise_conv2d(data, kernel, stride, padding, dilations=window.dilation) + bias
        return tf.nn.conv2d(data, w, window.stride, padding, dilations=window.dilation) + bias

    return litert_run(litert_model(call, x.shape), x, xnnpack=xnnpack)
