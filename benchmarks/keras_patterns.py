"""The patterns of converter_patterns.py as models of Keras 3, and of Keras 2 where only that has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
from converter_patterns import BY_NAME, Pattern, generator, parameters
from keras import Input, Model, layers, ops

IMAGE = (8, 8, 3)
FEATURES = (12,)
KERAS_2 = frozenset({"axis-list"})
"""Patterns that Keras 3 does not have."""

Norm = Callable[..., Any]
Builder = Callable[[Norm], Any]
BUILDERS: dict[str, Builder] = {}


def builder(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that enters a function under one name, or under several, which it then takes first."""

    def enter(build: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            BUILDERS[name] = build if len(names) == 1 else partial(build, name)
        return build

    return enter


def build(name: str) -> Any:
    """Return a pattern's model, its parameters random and the same each time."""
    pattern = BY_NAME[name]
    if name in KERAS_2:
        import tf_keras

        tf_keras.utils.set_random_seed(1)
        model = BUILDERS[name](lambda **how: tf_keras.layers.BatchNormalization(epsilon=pattern.epsilon, **how))
    else:
        keras.utils.set_random_seed(1)
        model = BUILDERS[name](lambda **how: layers.BatchNormalization(epsilon=pattern.epsilon, **how))
    fill(model, pattern)
    return model


def fill(model: Any, pattern: Pattern) -> None:
    """Give every batch norm of a model, and every bias, numbers of its own."""
    numbers = generator(pattern.name)
    for layer in flattened(model):
        if type(layer).__name__ == "BatchNormalization":
            own = parameters(pattern, tuple(layer.moving_mean.shape), numbers)
            kept = [own["gamma"]] * bool(layer.scale) + [own["beta"]] * bool(layer.center)
            layer.set_weights([*kept, own["mean"], own["variance"]])
        elif getattr(layer, "use_bias", False) and getattr(layer, "bias", None) is not None:
            *kernels, bias = layer.get_weights()
            layer.set_weights([*kernels, numbers.normal(0, 0.3, bias.shape)])


def flattened(model: Any) -> Iterator[Any]:
    """Yield each layer once, those of nested models and of wrappers too."""
    seen: set[int] = set()
    waiting = list(model.layers)
    while waiting:
        layer = waiting.pop(0)
        waiting += [*getattr(layer, "layers", ()), *([layer.layer] if hasattr(layer, "layer") else [])]
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer


def chain(*parts: Any, shape: tuple[int, ...] = IMAGE) -> Any:
    """Return the model of layers one after the other."""
    start = x = Input(shape)
    for part in parts:
        x = part(x)
    return Model(start, x)


def conv(filters: int = 6, size: int = 3, **how: Any) -> Any:
    """Return a convolution with zero padding and no bias."""
    return layers.Conv2D(filters, size, **({"padding": "same", "use_bias": False} | how))


ACTIVATIONS: dict[str, Callable[[], Any]] = {
    "conv": layers.ReLU,
    "relu6": lambda: layers.ReLU(6.0),
    "leaky-relu": layers.LeakyReLU,
    "swish": lambda: layers.Activation("swish"),
    "hard-swish": lambda: layers.Activation("hard_swish"),
    "tiny-variance": layers.ReLU,
    "large-epsilon": layers.ReLU,
}
KERNELS: dict[str, Callable[[], list[Any]]] = {
    "conv-bias": lambda: [conv(use_bias=True), "norm", layers.ReLU()],
    "conv-strided": lambda: [conv(strides=2), "norm"],
    "conv-dilated": lambda: [conv(dilation_rate=2), "norm", layers.ReLU()],
    "conv-valid": lambda: [conv(padding="valid"), "norm", layers.ReLU()],
    "conv-padded": lambda: [layers.ZeroPadding2D(1), conv(padding="valid", strides=2), "norm"],
    "depthwise": lambda: [layers.DepthwiseConv2D(3, padding="same", use_bias=False), "norm", layers.ReLU(6.0)],
    "depthwise-multiplied": lambda: [layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), "norm"],
    "separable": lambda: [layers.SeparableConv2D(6, 3, padding="same", use_bias=False), "norm", layers.ReLU()],
    "grouped": lambda: [conv(6, 1), conv(6, groups=3), "norm", layers.ReLU()],
    "transposed": lambda: [layers.Conv2DTranspose(6, 3, strides=2, padding="same"), "norm", layers.ReLU()],
    "before-conv": lambda: ["norm", conv(use_bias=True)],
    "before-conv-valid": lambda: ["norm", conv(padding="valid", use_bias=True)],
    "before-depthwise": lambda: ["norm", layers.DepthwiseConv2D(3, padding="same")],
    "before-transposed": lambda: ["norm", layers.Conv2DTranspose(6, 3, strides=2, padding="same")],
    "between": lambda: [conv(), "norm", conv(5, use_bias=True)],
    "two-in-a-row": lambda: [conv(), "norm", "norm", layers.ReLU()],
    "after-relu": lambda: [conv(use_bias=True), layers.ReLU(), "norm", conv(4)],
    "after-average-pool": lambda: [conv(), layers.AveragePooling2D(2), "norm", layers.ReLU()],
    "after-max-pool": lambda: [conv(), layers.MaxPooling2D(2), "norm", layers.ReLU()],
    "after-global-pool": lambda: [conv(), layers.GlobalAveragePooling2D(), "norm", layers.Dense(4)],
    "after-flatten": lambda: [conv(3, strides=2), layers.Flatten(), "norm", layers.Dense(4)],
    "after-upsampling": lambda: [conv(), layers.UpSampling2D(2), "norm"],
    "input": lambda: ["norm", conv(use_bias=True), layers.ReLU()],
    "output": lambda: [conv(use_bias=True), layers.ReLU(), "norm"],
    "alone": lambda: ["norm"],
    "huge-mean": lambda: ["norm", conv(padding="valid")],
}
DENSE: dict[str, Callable[[], list[Any]]] = {
    "dense": lambda: [layers.Dense(8, use_bias=False), "norm", layers.ReLU()],
    "dense-square": lambda: [layers.Dense(12), "norm"],
    "before-dense": lambda: ["norm", layers.Dense(5)],
    "softmax": lambda: [layers.Dense(5), "norm", layers.Softmax()],
}


@builder(*ACTIVATIONS)
def _activated(name: str, norm: Norm) -> Any:
    return chain(conv(), norm(), ACTIVATIONS[name]())


@builder(*KERNELS)
def _of_kernels(name: str, norm: Norm) -> Any:
    return chain(*(norm() if part == "norm" else part for part in KERNELS[name]()))


@builder(*DENSE)
def _of_dense(name: str, norm: Norm) -> Any:
    return chain(*(norm() if part == "norm" else part for part in DENSE[name]()), shape=FEATURES)


@builder("dense-sequence")
def _sequence(norm: Norm) -> Any:
    return chain(layers.Dense(6, use_bias=False), norm(), layers.ReLU(), shape=(5, 7))


@builder("conv-1d")
def _one_dimension(norm: Norm) -> Any:
    return chain(layers.Conv1D(6, 3, padding="same", use_bias=False), norm(), layers.ReLU(), shape=(16, 4))


@builder("conv-3d")
def _three_dimensions(norm: Norm) -> Any:
    return chain(layers.Conv3D(4, 3, padding="same", use_bias=False), norm(), layers.ReLU(), shape=(5, 6, 6, 2))


@builder("pre-activation")
def _pre_activation(norm: Norm) -> Any:
    start = Input(IMAGE)
    x = first = conv(6)(start)
    for _ in range(2):
        x = conv(6)(layers.ReLU()(norm()(x)))
    return Model(start, layers.Add()([x, first]))


@builder("residual")
def _residual(norm: Norm) -> Any:
    start = Input(IMAGE)
    x = layers.ReLU()(norm()(conv(6, strides=2)(start)))
    x = norm()(conv(6)(x))
    return Model(start, layers.ReLU()(layers.Add()([x, norm()(conv(6, 1, strides=2)(start))])))


@builder("after-concat", "after-add")
def _joined(name: str, norm: Norm) -> Any:
    start = Input(IMAGE)
    both = [conv(4)(start), conv(4, 1, use_bias=True)(start)]
    if name == "after-add":
        return Model(start, norm()(layers.Add()(both)))
    return Model(start, layers.ReLU()(norm()(layers.Concatenate()(both))))


@builder("shared")
def _shared(norm: Norm) -> Any:
    start, both = Input(IMAGE), norm()
    return Model(start, layers.Add()([both(conv(6)(start)), layers.ReLU()(both(conv(6, 1)(start)))]))


@builder("branch-twice")
def _branch_twice(norm: Norm) -> Any:
    start = Input(IMAGE)
    x = conv()(start)
    return Model(start, layers.Add()([x, layers.ReLU()(norm()(x))]))


@builder("nested")
def _nested(norm: Norm) -> Any:
    inner = chain(conv(3), norm(), layers.ReLU())
    return chain(inner, inner, conv(4))


@builder("time-distributed")
def _time_distributed(norm: Norm) -> Any:
    return chain(layers.TimeDistributed(conv(4)), layers.TimeDistributed(norm()), layers.ReLU(), shape=(3, 6, 6, 2))


@builder("other-axis")
def _other_axis(norm: Norm) -> Any:
    return chain(conv(), norm(axis=1), layers.ReLU())


@builder("axis-list")
def _axis_list(norm: Norm) -> Any:
    import tf_keras

    how = {"padding": "same", "use_bias": False}
    parts = [tf_keras.layers.Conv2D(6, 3, **how), norm(axis=[1, 3]), tf_keras.layers.ReLU()]
    return tf_keras.Sequential([tf_keras.Input(IMAGE), *parts])


@builder("no-scale", "no-center", "neither")
def _partial(name: str, norm: Norm) -> Any:
    return chain(conv(), norm(scale=name == "no-center", center=name == "no-scale"), layers.ReLU())


@builder("gating")
def _gating(norm: Norm) -> Any:
    start = Input(IMAGE)
    x = layers.Activation("swish")(norm()(conv()(start)))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = conv(6, 1, activation="sigmoid", use_bias=True)(conv(2, 1, activation="relu", use_bias=True)(gate))
    return Model(start, norm()(conv(4, 1)(layers.Multiply()([x, gate]))))


def _rounded(x: Any, step: float) -> Any:
    return ops.multiply(ops.clip(ops.round(ops.divide(x, step)), -128, 127), step)


@builder("fake-quant")
def _fake_quant(norm: Norm) -> Any:
    start = Input(IMAGE)
    x = norm()(conv()(_rounded(start, 0.03)))
    return Model(start, conv(4)(_rounded(layers.ReLU()(x), 0.05)))


@builder("float16")
def _float16(norm: Norm) -> Any:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return chain(conv(), norm(), layers.ReLU(), layers.Activation("linear", dtype="float32"))
    finally:
        keras.config.set_dtype_policy(before)


def weights_of(model: Any) -> list[Any]:
    """Return the arrays of a model."""
    return [np.asarray(array) for array in model.get_weights()]
