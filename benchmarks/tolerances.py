"""What fixed tolerances make of right kernels and of a wrong epsilon, beside the derived bound.

    python benchmarks/tolerances.py

prints the tables of docs/explanation/bounds.md. It runs TensorFlow's two kernels on random layers, seeded, and what
kernel_bounds.py runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import kernel_bounds
import numpy as np
from numpy.typing import NDArray

from bninspect.arithmetic import bounds
from bninspect.arithmetic.formula import Parameters, normalise
from bninspect.records import BatchNorm, Form

Array = NDArray[Any]

CHANNELS, POINTS = 64, 4096
TOLERANCES = {
    "rtol 1e-5, atol 1e-8": (1e-5, 1e-8),
    "rtol 1e-4, atol 1e-4": (1e-4, 1e-4),
    "rtol 1e-3, atol 1e-5": (1e-3, 1e-5),
}


def _fused(layer: BatchNorm, x: Array) -> Array:
    import tensorflow as tf

    parameters = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    y = tf.compat.v1.nn.fused_batch_norm(x[None, None], *parameters, epsilon=layer.epsilon, is_training=False)[0]
    return np.asarray(np.asarray(y)[0, 0])


def _plain(layer: BatchNorm, x: Array) -> Array:
    import tensorflow as tf

    parameters = (layer.moving_mean, layer.moving_variance, layer.beta, layer.gamma)
    return np.asarray(tf.nn.batch_normalization(x, *parameters, layer.epsilon))


KERNELS: dict[str, tuple[Callable[[BatchNorm, Array], Array], Form]] = {
    "tf.nn.fused_batch_norm": (_fused, Form.CENTRED),
    "tf.nn.batch_normalization": (_plain, Form.AFFINE),
}


def layer(rng: np.random.Generator, *, mean: float, variance: float, epsilon: float) -> BatchNorm:
    """Return a random layer whose mean is `mean` deviations from zero."""
    values = variance * rng.uniform(0.5, 2.0, CHANNELS)
    gamma, beta = rng.uniform(0.5, 2.0, CHANNELS), rng.standard_normal(CHANNELS)
    means = mean * np.sqrt(values) * rng.choice([-1, 1], CHANNELS)
    of = [np.asarray(array, np.float32) for array in (gamma, beta, means, values)]
    return BatchNorm("layer", of[0], of[1], of[2], of[3], epsilon=epsilon, axis=(-1,))


def inputs(rng: np.random.Generator, of: BatchNorm) -> Array:
    """Return inputs as the layer saw them in its training."""
    parameters = Parameters.of(of)
    noise = rng.standard_normal((POINTS, CHANNELS)) * parameters.root
    return np.asarray(parameters.mean + noise, np.float32)


def rejected(of: BatchNorm, x: Array, y: Array, form: Form) -> list[float]:
    """Return the shares of values that each tolerance rejects, and that are beyond the bound."""
    parameters = Parameters.of(of)
    expected = normalise(parameters, x, axis=(1,))
    bound = bounds.bound(parameters, x, expected, form=form, axis=(1,))
    error = np.abs(y - expected)
    allowed = [*(atol + rtol * np.abs(expected) for rtol, atol in TOLERANCES.values()), bound]
    return [float(np.mean(~(error <= one))) for one in allowed]


def right_kernels() -> Iterable[tuple[str, list[float]]]:
    """Yield what is rejected of right outputs, by kernel and by how far the mean is from zero."""
    for name, (kernel, form) in KERNELS.items():
        for mean in (0, 10, 100, 1000, 10000):
            rng = np.random.default_rng(0)
            of = layer(rng, mean=mean, variance=1.0, epsilon=1e-3)
            x = inputs(rng, of)
            yield f"`{name}`, mean {mean:,} deviations from 0", rejected(of, x, kernel(of, x), form)


def wrong_epsilons() -> Iterable[tuple[str, list[float]]]:
    """Yield what is rejected where a kernel runs with epsilon 1e-5 instead of 1e-3, by variance."""
    kernel, form = KERNELS["tf.nn.fused_batch_norm"]
    for variance in (0.01, 1.0, 10.0, 100.0):
        rng = np.random.default_rng(0)
        of = layer(rng, mean=1, variance=variance, epsilon=1e-3)
        x = inputs(rng, of)
        yield f"variance about {variance:g}", rejected(of, x, kernel(replace(of, epsilon=1e-5), x), form)


def _shown(share: float) -> str:
    return "none" if not share else f"{100 * share:.3g} %"


def main() -> int:
    """Print the tables, as Markdown. Returns 1 if a kernel is beyond its bound."""
    for title, rows in (("a right kernel", right_kernels()), ("a wrong epsilon", wrong_epsilons())):
        print(f"| {title} | {' | '.join(TOLERANCES)} | derived bound |")
        print("|---" * (len(TOLERANCES) + 2) + "|")
        for name, shares in rows:
            print(f"| {name} | {' | '.join(map(_shown, shares))} |")
        print()
    return kernel_bounds.main()


if __name__ == "__main__":
    sys.exit(main())
