"""What one call of a Keras layer computes, as operations of a network: its weights in our order, how it moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bninspect.formats.channel_chains import RELUS
from bninspect.records import Array
from bninspect.records import graph as network
from bninspect.records.graph import ActivationLimits, Geometry, Kernel, Node
from bninspect.runtimes.keras import hook

_SAME = {
    **dict.fromkeys(("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "Identity"), "identity"),
    **dict.fromkeys(("GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"), "identity"),
    **dict.fromkeys(("InputLayer", "Masking"), "identity"),
    **dict.fromkeys(("Reshape", "Flatten"), "reshape"),
    "Permute": "transpose",
}
_NO_ACTIVATION = ("", "linear")


def inner(layer: Any) -> Any:
    """Return the layer that a TimeDistributed calls for each step, others as they are."""
    return layer.layer if type(layer).__name__ == "TimeDistributed" else layer


def of_call(
    layer: Any, kernel: tuple[Kernel, str] | None, inputs: tuple[str, ...], outputs: tuple[str, ...], norm: str
) -> Iterator[Node]:
    """Yield the operations of one call, whose `inner` layer has the kernel: one, or two for a separable convolution."""
    own = inner(layer)
    name, kind = str(layer.name), type(own).__name__
    if norm:
        yield Node(name, network.BATCH_NORM, inputs[:1], outputs, layer=norm, geometry=_of_norm(own))
        return
    if kernel is not None:
        if activation(own):  # of a TimeDistributed, which calls what its layer does, not its layer
            between = f"{outputs[0]} before"
            yield from linear(own, kernel, inputs, (between,))
            yield activated(own, between, outputs[0])
        else:
            yield from linear(own, kernel, inputs, outputs)
        return
    operation = _SAME.get(kind, kind.lower())
    if kind == "Activation":
        operation = activation(own) or "identity"
    padded = kind.startswith("ZeroPadding")
    limits, setting = _limits(own, kind), _setting(own, operation)
    yield Node(name, operation, inputs, outputs, padded=padded, limits=limits, setting=setting)


def _of_norm(layer: Any) -> Geometry:
    axes = getattr(layer, "axis", -1)
    axis = axes[0] if isinstance(axes, (list, tuple)) else axes
    rank = getattr(getattr(layer, "input_spec", None), "ndim", None)
    return Geometry(channel_axis=int(axis) - rank if rank and int(axis) >= 0 else int(axis))


def _limits(layer: Any, kind: str) -> ActivationLimits | None:
    """Return where an activation cuts off, if that is all it does."""
    if kind != "ReLU":
        return RELUS.get(activation(layer) if kind == "Activation" else kind.lower())
    if not hasattr(layer, "max_value"):
        return RELUS["relu"]
    if layer.negative_slope or layer.threshold:
        return None
    return ActivationLimits(0.0, float("inf") if layer.max_value is None else float(layer.max_value))


def activated(layer: Any, x: str, y: str) -> Node:
    """Return the activation of a layer that has one as an operation of its own, from value `x` to value `y`."""
    function = activation(layer)
    setting = _setting(layer, function)
    return Node(f"{layer.name} {function}", function, (x,), (y,), limits=RELUS.get(function), setting=setting)


def _setting(layer: Any, operation: str) -> str:
    """Return along which axis a softmax is; that of Keras's activation is the last one."""
    if operation == "softmax":
        axis = getattr(layer, "axis", -1) if type(layer).__name__ == "Softmax" else -1
        return f"axis {axis}" if isinstance(axis, int) and axis < 0 else ""
    if operation == "argmax":
        axis = getattr(layer, "axis", None)
        return f"axis {axis}" if isinstance(axis, int) and axis < 0 else ""
    return "elementwise" if operation == "sigmoid" else ""


def linear(layer: Any, kernel: tuple[Kernel, str], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Iterator[Node]:
    """Yield the linear operations of a call, without the activation."""
    name, kind = str(layer.name), type(layer).__name__
    padded = getattr(layer, "padding", "valid") != "valid"
    geometry = _geometry(layer)
    if not kind.startswith("Separable"):
        yield Node(name, kernel[1], inputs[:1], outputs, kernel[0], padded=padded, geometry=geometry)
        return
    between = (between_of(outputs[0]),)
    depthwise = _numpy(layer.depthwise_kernel)
    first = _computed_in(layer, Kernel(_depthwise(depthwise), None, depthwise.shape[-2]))
    yield Node(f"{name} depthwise", network.DEPTHWISE, inputs[:1], between, first, padded=padded, geometry=geometry)
    pointwise = Geometry(tuple(1 for _ in geometry.size), channel_axis=geometry.channel_axis)
    yield Node(name, network.CONVOLUTION, between, outputs, kernel[0], geometry=pointwise)


def between_of(output: str) -> str:
    """Return the label of what is between the two kernels of a separable convolution that returns `output`."""
    return f"{output} between"


def depthwise_of(layer: Any, x: Any) -> Any:
    """Return what the depthwise kernel of a separable convolution makes of an input, which its layer shows nobody.

    Computed by TensorFlow's kernel, as the layer does it. None for other layers, and where the layer does more.
    """
    if not type(layer).__name__.startswith("Separable") or layer.data_format != "channels_last":
        return None
    if layer.padding not in {"same", "valid"}:
        return None
    import tensorflow as tf

    x, kernel = (tf.cast(one, layer.compute_dtype) for one in (x, layer.depthwise_kernel))
    flat = len(layer.kernel_size) == 1
    stride, dilation = ([*_lengths(layer, name, 1 + (not flat))] * 2 for name in ("strides", "dilation_rate"))
    if flat:  # a picture of one row
        x, kernel = x[:, tf.newaxis], kernel[tf.newaxis]
    y = tf.nn.depthwise_conv2d(x, kernel, [1, *stride[:2], 1], layer.padding.upper(), dilations=dilation[:2])
    return y[:, 0] if flat else y


def _geometry(layer: Any) -> Geometry:
    """Return how a kernel moves over its input: of a dense layer that it has no places."""
    size = tuple(map(int, getattr(layer, "kernel_size", ()) or ()))
    if not size:
        return Geometry()
    rank = len(size)
    dilation = _lengths(layer, "dilation_rate", rank)
    first_axis = getattr(layer, "data_format", "channels_last") == "channels_first"
    return Geometry(
        size,
        _lengths(layer, "strides", rank),
        _padding(str(layer.padding), size, dilation),
        dilation,
        # Of a transposed one what is behind the border follows from the length of its output.
        channel_axis=-1 - rank if first_axis else -1,
    )


def _lengths(layer: Any, name: str, rank: int) -> tuple[int, ...]:
    found = getattr(layer, name, None) or 1
    return (int(found),) * rank if isinstance(found, int) else tuple(map(int, found))


def _padding(word: str, size: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...] | str:
    if word == "causal":
        return tuple((each * (places - 1), 0) for places, each in zip(size, dilation, strict=True))
    return "same" if word == "same" else tuple((0, 0) for _ in size)


def kernel_of(layer: Any) -> tuple[Kernel, str] | None:
    """Return the constants of a linear layer, the pointwise ones of a separable one; None for every other layer."""
    kind = type(layer).__name__
    if kind.startswith("Separable") and getattr(layer, "pointwise_kernel", None) is not None:
        pointwise = _numpy(layer.pointwise_kernel)
        kernel = Kernel(pointwise.reshape(1, *pointwise.shape[-2:]), _bias(layer))
        return _computed_in(layer, kernel), network.CONVOLUTION
    found, operation = _kernel(layer, kind)
    return None if found is None else (_computed_in(layer, found), operation)


def _computed_in(layer: Any, kernel: Kernel) -> Kernel:
    """Return a layer's constants with the type that it computes in: mixed precision keeps variables in float32."""
    dtype = str(layer.compute_dtype)
    return replace(kernel, dtype=dtype, narrow=True) if dtype in network.NARROW else kernel


def _kernel(layer: Any, kind: str) -> tuple[Kernel | None, str]:
    """Return the constants of a linear layer in our order, and what kind it is; (None, "") for every other layer."""
    # tf-keras has a name of its own for the weights of a depthwise convolution.
    name = "depthwise_kernel" if hasattr(layer, "depthwise_kernel") else "kernel"
    stored = _numpy(getattr(layer, name, None))
    if stored is None:
        return None, ""
    if kind == "Dense" and stored.ndim == 2:
        return Kernel(network.dense(stored), _bias(layer)), network.DENSE
    if kind.startswith("Depthwise"):
        return Kernel(_depthwise(stored), _bias(layer), stored.shape[-2]), network.DEPTHWISE
    if kind.startswith("Conv") and kind.endswith("Transpose"):  # (places..., outputs, inputs)
        weights = np.swapaxes(stored, -1, -2).reshape(-1, stored.shape[-1], stored.shape[-2])
        return Kernel(weights, _bias(layer)), network.TRANSPOSED
    if kind in {"Conv1D", "Conv2D", "Conv3D"}:  # (places..., inputs per group, outputs)
        weights = stored.reshape(-1, *stored.shape[-2:])
        return Kernel(weights, _bias(layer), int(getattr(layer, "groups", 1))), network.CONVOLUTION
    return None, ""


def _depthwise(stored: Array) -> Array:
    """Return the weights of a depthwise convolution, stored as (places..., inputs, multiplier)."""
    return stored.reshape(-1, 1, stored.shape[-2] * stored.shape[-1])


def _bias(layer: Any) -> Any:
    return _numpy(getattr(layer, "bias", None))


def _numpy(variable: Any) -> Any:
    """Return what a variable holds, of Keras 3 without a copy: TensorFlow writes to no memory that is looked at."""
    import tensorflow as tf

    value = getattr(variable, "value", None)
    if value is None or callable(value):
        return None if variable is None else hook.widened(variable.numpy())
    return hook.widened(tf.convert_to_tensor(value))


def activation(layer: Any) -> str:
    """Return the name of the function that a layer applies to its result; empty if it applies none."""
    function = getattr(layer, "activation", None)
    name = str(getattr(function, "__name__", "")) if function is not None else ""
    return "" if name in _NO_ACTIVATION else name
