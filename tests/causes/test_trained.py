"""On trained parameters every wrong kernel is named, alone or with its ties, or its outputs say nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers.wrong_kernels import KERNELS, Numbers

from bninspect import causes, formats
from bninspect.records import Array, BatchNorm, Observation

# Equal while no output exceeds 6, and between wide bounds of few digits.
ALIKE = [
    {"relu-after", "relu6-after"},
    {"relu-before", "relu6-before"},
    {"arithmetic=float16", "output=bfloat16"},
]


def alike(names: set[str], layer: BatchNorm) -> bool:
    """Return whether the layer cannot tell these causes apart: the variance drowns epsilon, or a scale is a scale."""
    least = np.min(layer.arrays["moving_variance"])
    if all(name.startswith("epsilon") for name in names):
        return bool(least > 1e-3)
    if {name.partition("=")[0] for name in names} == {"variance-factor", "gamma-factor"}:
        return bool(least > 1e5 * (layer.epsilon or 0))
    return any(names <= each for each in ALIKE)


def computes_the_same(names: set[str], x: Array, numbers: Numbers, y: Array) -> bool:
    """Return whether the kernels of all these causes give y to the last bit: where mean is 0, folds round alike."""
    with np.errstate(all="ignore"):
        return all(
            name in KERNELS and np.array_equal(KERNELS[name](x, numbers).astype(np.float32), y, equal_nan=True)
            for name in names
        )


def read(path: Path) -> tuple[BatchNorm, ...]:
    return formats.read(path).layers


@cache
def activations(channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.random.default_rng(1).normal(size=(2, 6, 5, channels))


def check(layer: BatchNorm) -> Iterator[str]:
    """Yield what goes wrong on one layer."""
    assert layer.moving_mean is not None
    assert layer.moving_variance is not None
    assert layer.epsilon is not None
    one = np.ones(layer.channels, np.float32)
    gamma = one if layer.gamma is None else layer.gamma
    beta = 0 * one if layer.beta is None else layer.beta
    numbers = Numbers(gamma, beta, layer.moving_mean, layer.moving_variance, layer.epsilon)
    spread = np.sqrt(numbers.variance + np.float32(layer.epsilon))
    x = (numbers.mean + 2 * spread * activations(layer.channels)).astype(np.float32)
    for name, kernel in KERNELS.items():
        if layer.channels % 3 and name == "channels=shuffled 3":
            continue
        if name in {"variance-exponential", "variance-log10"} and numbers.variance.max() > 40:
            continue  # 10**(2 * 40) is beyond float32
        with np.errstate(all="ignore"):
            y = kernel(x, numbers).astype(np.float32)
        observation = Observation(layer.name, "in-model", x, y, (3,))
        found = causes.explain(layer, [causes.sample(layer, observation)])
        named = {cause.name for cause in found.causes}
        if found.matches:
            if name in {"gamma-absolute", "gamma-clipped"}:
                assert (gamma >= 0).all()
            elif name.startswith("epsilon"):
                assert layer.moving_variance.min() > 100
            else:
                yield f"{name} is not seen"
        elif not np.isfinite(y).any():
            if named:
                yield f"{name} is explained by {named} although no output is a number"
        elif name not in named and not (named and alike(named | {name}, layer) and numbers.variance.min() > 100):
            yield f"{name} is not among {named}"
        elif len(named) > 1 and not alike(named, layer) and not computes_the_same(named, x, numbers, y):
            yield f"{name} cannot be told from {named - {name}}"
        elif len(named) > 1 and not all(cause.separated_by and cause.ties for cause in found.causes):
            yield f"{name} has ties that nothing is said to separate"


@pytest.mark.parametrize("number", [0, 9])
def test_layers_of_a_face_classifier(number: int, shared_models: Path) -> None:
    layers = read(shared_models / "face-classification" / "fer2013_mini_XCEPTION.102-0.66.hdf5")
    assert list(check(layers[number])) == []


@pytest.mark.parametrize("number", [0])
def test_layers_of_a_tiny_resnet(number: int, shared_models: Path) -> None:
    assert list(check(read(shared_models / "mlperf-tiny" / "pretrainedResnet.h5")[number])) == []


def test_layers_of_a_sample(sample_models: Path) -> None:
    assert list(check(read(sample_models / "keras2_digits.h5")[1])) == []
