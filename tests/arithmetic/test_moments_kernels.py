"""The bounds of a training step hold for the kernels of TensorFlow, Keras 3 and tf_keras; wrong steps are beyond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from bninspect.arithmetic.compare import merge
from bninspect.records import PARAMETERS, Array, BatchNorm, Comparison, Estimator, Form, Observation, Replay
from bninspect.runtimes import loading
from bninspect.runtimes.keras import keras3 as keras_runtime
from bninspect.runtimes.keras import tf_keras as tf_keras_runtime
from bninspect.runtimes.keras.hook import Recorder
from bninspect.verdicts.replay import Replayed

pytestmark = pytest.mark.tensorflow

CHANNELS = 240
COUNTS = (1, 2, 3, 8, 12, 100, 1025)
MOMENTA = (0.0, 0.3, 0.9, 0.99, 0.999)
EPSILONS = (1e-12, 1e-5, 1e-3)


@dataclass(frozen=True)
class Kernel:
    """A layer that trains: of which framework, and how it is built."""

    keras3: bool
    policy: str = "float32"
    rank: int = 4
    masked: bool = False
    fused: bool | None = None
    synchronized: bool = False

    @property
    def stored(self) -> str:
        """Type of the parameters."""
        if self.policy == "float16" and not self.keras3:
            return "float32"
        return "float32" if "mixed" in self.policy else self.policy

    @property
    def taken(self) -> str:
        """Type of the input."""
        return self.policy.removeprefix("mixed_")

    def layer(self, stored: BatchNorm) -> Any:
        """Return the framework's layer with the settings of a stored one."""
        import keras
        import tf_keras

        options: dict[str, Any] = {"epsilon": stored.epsilon, "momentum": stored.momentum}
        if self.synchronized:
            options["synchronized"] = True
        if self.keras3:
            return keras.layers.BatchNormalization(dtype=self.policy, **options)
        policy = tf_keras.mixed_precision.Policy(self.policy)
        return tf_keras.layers.BatchNormalization(dtype=policy, fused=self.fused, **options)

    def step(self, stored: BatchNorm, x: Array) -> Observation:
        """Train on x of shape (n, channels), as the runtime does; a mask leaves the last third of the values out."""
        import tensorflow as tf

        framework = (keras_runtime if self.keras3 else tf_keras_runtime).framework()
        shape = (1, 1, len(x), x.shape[1]) if self.rank == 4 else (1, len(x), x.shape[1]) if self.rank == 3 else x.shape
        layer = self.layer(stored)
        layer.build(shape)
        layer.set_weights(list(stored.arrays.values()))
        mask = tf.constant(np.arange(len(x)) < max(1, len(x) * 2 // 3))
        options = {"mask": tf.reshape(mask, shape[:-1])} if self.masked else {}
        seen: list[Observation] = []
        recorder = Recorder(framework, {id(layer): stored.name}, seen.append)
        batch = tf.cast(tf.constant(x.reshape(shape)), self.taken)
        with loading.quiet():  # a fused kernel warns that it ignores masks
            failure = recorder.watch("training", lambda: layer(batch, training=True, **options))
        assert failure is None
        assert all(
            np.array_equal(np.asarray(after, array.dtype), array)
            for after, array in zip(layer.get_weights(), stored.arrays.values(), strict=True)
        ), "the statistics were not put back"
        (observation,) = seen
        return observation


KERNELS = {
    "keras": Kernel(keras3=True),
    "keras, rank 2": Kernel(keras3=True, rank=2),
    "keras, masked": Kernel(keras3=True, rank=3, masked=True),
    "keras, synchronized": Kernel(keras3=True, synchronized=True),
    "keras mixed_float16": Kernel(keras3=True, policy="mixed_float16"),
    "keras mixed_bfloat16": Kernel(keras3=True, policy="mixed_bfloat16"),
    "keras float16": Kernel(keras3=True, policy="float16"),
    "keras bfloat16": Kernel(keras3=True, policy="bfloat16"),
    "keras float64": Kernel(keras3=True, policy="float64"),
    "keras float64, masked": Kernel(keras3=True, policy="float64", rank=3, masked=True),
    "tf_keras fused": Kernel(keras3=False),
    "tf_keras not fused": Kernel(keras3=False, fused=False),
    "tf_keras, rank 2": Kernel(keras3=False, rank=2),
    "tf_keras, masked": Kernel(keras3=False, rank=3, masked=True),
    "tf_keras fused, masked": Kernel(keras3=False, masked=True),
    "tf_keras, synchronized": Kernel(keras3=False, synchronized=True),
    "tf_keras mixed_float16": Kernel(keras3=False, policy="mixed_float16"),
    "tf_keras mixed_float16, rank 2": Kernel(keras3=False, policy="mixed_float16", rank=2),
    "tf_keras mixed_bfloat16": Kernel(keras3=False, policy="mixed_bfloat16"),
    "tf_keras float16": Kernel(keras3=False, policy="float16"),
    "tf_keras float64": Kernel(keras3=False, policy="float64"),
}


def cases(kernel: Kernel, seed: int) -> Iterator[tuple[BatchNorm, Array]]:
    """Yield layers with batches on which rounding hurts: large means, tiny and huge variances, outliers."""
    rng = np.random.default_rng(seed)
    half = "float16" in (kernel.stored, kernel.taken)
    decades = (-2.0, 1.3) if half else (-6.0, 4.0)
    ratios = (-3.0, 2.0) if half else (-3.0, 7.0)
    for n in COUNTS:
        momentum, epsilon = rng.choice(MOMENTA), rng.choice(EPSILONS)
        sigma = 10.0 ** rng.uniform(*decades, CHANNELS)
        mean = rng.choice([-1, 1], CHANNELS) * sigma * 10.0 ** rng.uniform(*ratios, CHANNELS)
        x = mean + sigma * rng.standard_normal((n, CHANNELS)) * rng.choice([0.01, 1, 3], (n, 1))
        x[: n // 4, :20] = mean[:20]
        arrays = {
            "gamma": rng.choice([-1, 1], CHANNELS) * 10.0 ** rng.uniform(-3, 1.5, CHANNELS),
            "beta": rng.standard_normal(CHANNELS) * 10.0 ** rng.uniform(-3, 1.5, CHANNELS),
            "moving_mean": mean * 10.0 ** rng.uniform(-1, 0.3, CHANNELS),
            "moving_variance": sigma**2 * 10.0 ** rng.uniform(-2, 1, CHANNELS),
        }
        cast = {name: array.astype(_numpy(kernel.stored)) for name, array in arrays.items()}
        yield (
            stored_as(cast, float(epsilon), float(momentum)),
            x.astype("float64" if kernel.taken == "float64" else "float32"),
        )


def stored_as(arrays: dict[str, Array], epsilon: float = 1e-3, momentum: float = 0.99) -> BatchNorm:
    gamma, beta, mean, variance = (arrays[name] for name in PARAMETERS)
    return BatchNorm("bn", gamma, beta, mean, variance, epsilon, momentum, (-1,))


def plain(rng: np.random.Generator, channels: int, kernel: Kernel) -> BatchNorm:
    """Return a layer of ordinary parameters."""
    return stored_as({name: rng.uniform(0.5, 2, channels).astype(_numpy(kernel.stored)) for name in PARAMETERS})


def _numpy(name: str) -> Any:
    import ml_dtypes

    return ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)


def compared(observation: Observation, stored: BatchNorm) -> Replayed:
    assert observation.replay is not None
    replayed = Replayed()
    widened: dict[str, Any] = {
        name: np.asarray(array, np.float32) for name, array in stored.arrays.items() if array.dtype.kind != "f"
    }
    replayed.see(observation, observation.replay, replace(stored, **widened))
    return replayed


@pytest.mark.parametrize("name", KERNELS)
def test_no_kernel_violates_the_bounds(name: str) -> None:
    kernel, joined = KERNELS[name], dict[str, Comparison]()
    for seed in range(3):
        for stored, x in cases(kernel, seed):
            replayed = compared(kernel.step(stored, x), stored)
            assert not replayed.findings, list(replayed.findings.values())
            for (_, reference), one in replayed.comparisons.items():
                joined[reference] = merge(joined[reference], one) if reference in joined else one
    assert {name: one.violations for name, one in joined.items()} == dict.fromkeys(joined, 0)
    assert joined["output"].elements == 3 * sum(COUNTS) * CHANNELS
    # The bounds are no larger than they must be.
    assert (joined["output"].ratio or 0) > 0.4
    for statistic in ("moving_mean", "moving_variance"):
        assert (joined[statistic].ratio or 0) > 0.15


@pytest.mark.parametrize("name", KERNELS)
def test_the_estimator_of_every_kernel_is_told_apart(name: str) -> None:
    kernel = KERNELS[name]
    expected = Estimator.UNBIASED if not kernel.keras3 and kernel.rank == 4 and kernel.fused is None else None
    if kernel.synchronized or kernel.policy == "float64":
        expected = None
    rng = np.random.default_rng(0)
    stored = replace(plain(rng, 50, kernel), momentum=0.9)
    observation = kernel.step(stored, (3 * rng.standard_normal((12, 50)) + 1).astype(np.float32))
    assert observation.replay is not None
    assert observation.replay.estimator is (expected or Estimator.BIASED)
    found = compared(observation, stored)
    # bfloat16 has too few digits to tell n - 1 from n - (1 + epsilon), or any of them apart in some batches.
    assert observation.replay.estimator in found.estimators
    if "float16" not in kernel.stored:
        assert found.estimators == {observation.replay.estimator}


def test_the_fused_op_of_tensorflow() -> None:
    """With exponential_avg_factor=1, which is its default, it returns the moments of the batch itself."""
    import tensorflow as tf

    for stored, x in cases(Kernel(keras3=False), seed=5):
        shaped = x.reshape(1, 1, *x.shape)
        for factor in (1.0, 0.1):
            arrays = stored.arrays
            op = tf.compat.v1.nn.fused_batch_norm(
                tf.constant(shaped),
                arrays["gamma"],
                arrays["beta"],
                arrays["moving_mean"],
                arrays["moving_variance"],
                epsilon=stored.epsilon,
                is_training=True,
                exponential_avg_factor=factor,
            )
            y, mean, variance = (one.numpy() for one in op)
            layer = replace(stored, momentum=1.0 - factor)
            replay = Replay(
                {"moving_mean": mean, "moving_variance": variance}, layer.momentum or 0.0, Estimator.UNBIASED
            )
            call = Observation(
                "bn", "training", shaped, y, (3,), form=Form.CENTRED, epsilon=stored.epsilon, loaded=arrays
            )
            replayed = compared(replace(call, training=True, replay=replay), layer)
            assert all(one.agrees for one in replayed.comparisons.values())


@pytest.mark.parametrize("name", ["keras", "keras, rank 2", "tf_keras fused", "tf_keras not fused"])
@pytest.mark.parametrize("n", [8, 12, 100])
def test_wrong_steps_are_beyond_the_bounds(name: str, n: int) -> None:
    """Negative controls: the same kernels, held against what they do not do."""
    kernel = KERNELS[name]
    rng = np.random.default_rng(n)
    stored = plain(rng, CHANNELS, kernel)
    x = (3 * rng.standard_normal((n, CHANNELS)) + 1).astype(np.float32)
    right = kernel.step(stored, x)
    assert right.replay is not None
    assert not compared(right, stored).findings

    swapped = compared(right, replace(stored, momentum=0.01))
    skipped = compared(replace(right, replay=replace(right.replay, after=right.loaded)), stored)
    for wrong in (swapped, skipped):
        for statistic in ("moving_mean", "moving_variance"):
            one = wrong.comparisons["training", statistic]
            assert one.violations > 0.98 * CHANNELS
    assert "swapped" in swapped.findings["BN312", "moving_mean"].message
    assert "it is not updated" in skipped.findings["BN312", "moving_variance"].message

    other = Estimator.BIASED if right.replay.estimator is Estimator.UNBIASED else Estimator.UNBIASED
    estimated = compared(replace(right, replay=replace(right.replay, estimator=other)), stored)
    assert estimated.comparisons["training", "moving_variance"].violations > 0.98 * CHANNELS

    # sqrt((n-1)/n) is the step from one to the other; beta is what does not change.
    moments = x.astype(np.float64)
    variance = moments.var(axis=0)
    factor = np.sqrt((variance + 1e-3) / (variance * n / (n - 1) + 1e-3)).astype(np.float32)
    beta = stored.arrays["beta"]
    unbiased = replace(right, y=(right.y - beta) * factor + beta)
    assert compared(unbiased, stored).comparisons["training", "output"].violations > 0.9 * x.size
