"""The ways in which networks use batch norm that converters.py puts to converters, and the numbers in them.

keras_patterns.py and torch_patterns.py build them. Nothing here but NumPy: it is imported in each converter's own
environment.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

SAMPLES = 4
CALIBRATION = 24


@dataclass(frozen=True)
class Pattern:
    """A way to use batch norm, and what is special about its numbers."""

    name: str
    title: str
    epsilon: float = 1e-3
    variance: tuple[float, float] = (0.3, 2.0)
    mean: tuple[float, float] = (-1.0, 1.0)
    offset: float = 0.0
    """What the inputs lie around."""
    kind: str = "float32"
    """The coarsest rounding in the model itself: a key of UNITS."""


PATTERNS = (
    Pattern("conv", "convolution, batch norm, relu"),
    Pattern("conv-bias", "convolution with a bias, batch norm, relu"),
    Pattern("conv-strided", "convolution with stride 2, batch norm"),
    Pattern("conv-dilated", "dilated convolution, batch norm, relu"),
    Pattern("conv-valid", "convolution without padding, batch norm, relu"),
    Pattern("conv-padded", "zero padding of its own, convolution, batch norm"),
    Pattern("conv-1d", "convolution over one dimension, batch norm, relu"),
    Pattern("conv-3d", "convolution over three dimensions, batch norm, relu"),
    Pattern("depthwise", "depthwise convolution, batch norm, relu6"),
    Pattern("depthwise-multiplied", "depthwise convolution with two outputs a channel, batch norm"),
    Pattern("separable", "separable convolution, batch norm, relu"),
    Pattern("grouped", "grouped convolution, batch norm, relu"),
    Pattern("transposed", "transposed convolution, batch norm, relu"),
    Pattern("dense", "dense layer, batch norm, relu"),
    Pattern("dense-square", "dense layer with as many outputs as inputs, batch norm"),
    Pattern("dense-sequence", "dense layer on each step of a sequence, batch norm, relu"),
    Pattern("before-conv", "batch norm, convolution with zero padding"),
    Pattern("before-conv-valid", "batch norm, convolution without padding"),
    Pattern("before-depthwise", "batch norm, depthwise convolution with zero padding"),
    Pattern("before-dense", "batch norm, dense layer"),
    Pattern("before-transposed", "batch norm, transposed convolution"),
    Pattern("between", "convolution, batch norm, convolution with zero padding"),
    Pattern("pre-activation", "batch norm, relu, convolution, twice, with a shortcut"),
    Pattern("residual", "two convolutions with batch norm and a shortcut with one, added, relu"),
    Pattern("two-in-a-row", "convolution, two batch norms, relu"),
    Pattern("after-relu", "convolution, relu, batch norm"),
    Pattern("after-concat", "two convolutions, concatenated, batch norm, relu"),
    Pattern("after-add", "two convolutions, added, batch norm"),
    Pattern("after-average-pool", "convolution, average pooling, batch norm, relu"),
    Pattern("after-max-pool", "convolution, max pooling, batch norm, relu"),
    Pattern("after-global-pool", "convolution, global pooling, batch norm, dense layer"),
    Pattern("after-flatten", "convolution, flattened, batch norm, dense layer"),
    Pattern("after-upsampling", "convolution, nearest neighbours doubled, batch norm"),
    Pattern("relu6", "convolution, batch norm, relu6"),
    Pattern("leaky-relu", "convolution, batch norm, leaky relu"),
    Pattern("swish", "convolution, batch norm, swish"),
    Pattern("hard-swish", "convolution, batch norm, hard swish"),
    Pattern("softmax", "batch norm of logits, softmax"),
    Pattern("input", "batch norm of the input, convolution, relu"),
    Pattern("output", "convolution, relu, batch norm as the output"),
    Pattern("alone", "a batch norm and nothing else"),
    Pattern("shared", "one batch norm after two convolutions"),
    Pattern("branch-twice", "a convolution that a batch norm and an addition read"),
    Pattern("nested", "a model with batch norm inside a model, called twice"),
    Pattern("time-distributed", "convolution and batch norm on each step of a sequence"),
    Pattern("other-axis", "batch norm along an axis that is not the channels of the convolution"),
    Pattern("axis-list", "batch norm along two axes (Keras 2)"),
    Pattern("no-scale", "convolution, batch norm without gamma, relu"),
    Pattern("no-center", "convolution, batch norm without beta, relu"),
    Pattern("neither", "convolution, batch norm without gamma and beta, relu"),
    Pattern("gating", "convolution, batch norm, squeeze and excitation"),
    Pattern("fake-quant", "fake quantisation of weights and outputs around convolution and batch norm", kind="int8"),
    Pattern("float16", "convolution, batch norm, relu computed in float16", kind="float16"),
    Pattern("tiny-variance", "convolution, batch norm of variances about 1e-6, relu", 1e-5, variance=(5e-7, 2e-6)),
    Pattern("large-epsilon", "convolution, batch norm with epsilon 0.5, relu", 0.5),
    Pattern("huge-mean", "batch norm of inputs around 1000, convolution", mean=(999.0, 1001.0), offset=1000.0),
)
BY_NAME = {pattern.name: pattern for pattern in PATTERNS}


def generator(name: str) -> np.random.Generator:
    """Return the source of a pattern's random numbers."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def parameters(pattern: Pattern, channels: tuple[int, ...], numbers: np.random.Generator) -> dict[str, Any]:
    """Return gamma, beta, mean and variance of a layer: gammas of both signs and of any size, one of them zero."""
    gamma = numbers.uniform(0.3, 1.5, channels) * numbers.choice([-1.0, 1.0], channels)
    if gamma.size > 2:
        gamma.reshape(-1)[1] = 0.0
    return {
        "gamma": gamma.astype(np.float32),
        "beta": numbers.normal(0, 0.5, channels).astype(np.float32),
        "mean": numbers.uniform(*pattern.mean, channels).astype(np.float32),
        "variance": numbers.uniform(*pattern.variance, channels).astype(np.float32),
    }


def inputs(pattern: Pattern, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the samples that outputs are compared on, and those that quantisers see, which are these and more."""
    numbers = generator(pattern.name + " inputs")
    every = (pattern.offset + numbers.standard_normal((SAMPLES + CALIBRATION, *shape))).astype(np.float32)
    return every[:SAMPLES], every


UNITS = {"float32": 2.0**-24, "float16": 2.0**-11, "int16": 2.0**-8, "int8": 2.0**-8, "halves": 2.0**-24}
"""By how much of it a number that flows may be off, and for int8 by how much of the largest number of its array."""
STORED = {**UNITS, "halves": 2.0**-11}
"""The same of a number that is stored: `halves` are stored in float16 and computed with in float32."""


def nudged(values: Any, kind: str, numbers: np.random.Generator, units: Mapping[str, float]) -> Any:
    """Return an array with each number off by at most one rounding of a kind."""
    wide = np.asarray(values, np.float64)
    size = np.abs(wide).max(initial=0.0) if kind.startswith("int") else np.abs(wide)
    return wide + units[kind] * size * numbers.uniform(-1, 1, wide.shape)
