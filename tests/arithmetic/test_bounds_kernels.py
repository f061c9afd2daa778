"""The bounds hold for the kernels of TensorFlow, Keras 3 and tf_keras, and a wrong formula is beyond them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from helpers import nasty

from bninspect.arithmetic.compare import judge, merge
from bninspect.arithmetic.formula import Parameters, normalise
from bninspect.records import Array, BatchNorm, Comparison, Form, Observation

pytestmark = pytest.mark.tensorflow

Run = Callable[[BatchNorm, Array], Any]


@dataclass(frozen=True)
class Kernel:
    """A way to have batch normalisation computed: what is known of it, and a function of (layer, x) -> y."""

    run: Run
    form: Form
    rank: int = 4
    arithmetic: str = "float32"
    output: str = "float32"
    stored: str = "float32"

    def call(self, norm: BatchNorm, x: Array) -> Observation:
        """Run on x of shape (points, channels), and report it as a runtime would."""
        shape = (1, 4, -1, x.shape[1]) if self.rank == 4 else (-1, x.shape[1])
        container = {"bfloat16": "float32"}.get(self.output, self.output)
        shaped = x.reshape(shape)
        y = np.asarray(self.run(norm, shaped)).astype(container)
        return Observation(
            norm.name, "probed", shaped, y, (len(shape) - 1,), self.arithmetic, self.output, self.form, norm.epsilon
        )


def _tensorflow_fused(norm: BatchNorm, x: Array) -> Any:
    import tensorflow as tf

    beta = np.zeros_like(norm.gamma) if norm.beta is None else norm.beta
    parameters = (norm.gamma, beta, norm.moving_mean, norm.moving_variance)
    return tf.compat.v1.nn.fused_batch_norm(x, *parameters, epsilon=norm.epsilon, is_training=False)[0]


def _tensorflow_plain(norm: BatchNorm, x: Array) -> Any:
    import tensorflow as tf

    parameters = (norm.moving_mean, norm.moving_variance, norm.beta, norm.gamma)
    return tf.nn.batch_normalization(x, *parameters, norm.epsilon)


def _keras(policy: str) -> Run:
    def run(norm: BatchNorm, x: Array) -> Any:
        import keras

        layer = keras.layers.BatchNormalization(epsilon=norm.epsilon, dtype=policy)
        return _run_layer(layer, norm, x)

    return run


def _tf_keras(policy: str, **options: Any) -> Run:
    def run(norm: BatchNorm, x: Array) -> Any:
        import tf_keras

        dtype = tf_keras.mixed_precision.Policy(policy)
        layer = tf_keras.layers.BatchNormalization(epsilon=norm.epsilon, dtype=dtype, **options)
        return _run_layer(layer, norm, x)

    return run


def _run_layer(layer: Any, norm: BatchNorm, x: Array) -> Any:
    import tensorflow as tf

    x = tf.constant(x)
    if "bfloat16" in str(layer.compute_dtype):
        x = tf.cast(x, tf.bfloat16)
    layer.build(x.shape)
    layer.set_weights([norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance])
    y = layer(x, training=False)
    return tf.cast(y, tf.float32) if y.dtype == tf.bfloat16 else y


KERNELS = {
    "tf.nn.fused_batch_norm": Kernel(_tensorflow_fused, Form.CENTRED),
    "tf.nn.batch_normalization": Kernel(_tensorflow_plain, Form.AFFINE),
    "keras": Kernel(_keras("float32"), Form.AFFINE),
    "keras, rank 2": Kernel(_keras("float32"), Form.AFFINE, rank=2),
    "keras mixed_float16": Kernel(_keras("mixed_float16"), Form.AFFINE, output="float16"),
    "keras mixed_bfloat16": Kernel(_keras("mixed_bfloat16"), Form.AFFINE, output="bfloat16"),
    "keras float16": Kernel(_keras("float16"), Form.AFFINE, output="float16", stored="float16"),
    "keras float64": Kernel(_keras("float64"), Form.AFFINE, arithmetic="float64", output="float64", stored="float64"),
    "tf_keras fused": Kernel(_tf_keras("float32"), Form.CENTRED),
    "tf_keras not fused": Kernel(_tf_keras("float32", fused=False), Form.AFFINE),
    "tf_keras, rank 2": Kernel(_tf_keras("float32"), Form.AFFINE, rank=2),
    "tf_keras mixed_float16": Kernel(_tf_keras("mixed_float16"), Form.CENTRED, output="float16"),
    "tf_keras mixed_float16, rank 2": Kernel(_tf_keras("mixed_float16"), Form.AFFINE, rank=2, output="float16"),
    "tf_keras mixed_bfloat16": Kernel(_tf_keras("mixed_bfloat16"), Form.CENTRED, output="bfloat16"),
    "tf_keras float16": Kernel(_tf_keras("float16"), Form.CENTRED, output="float16"),
    "tf_keras float64": Kernel(
        _tf_keras("float64"), Form.AFFINE, arithmetic="float64", output="float64", stored="float64"
    ),
}
CHANNELS, POINTS = 510, 320


def cases(kernel: Kernel, seed: int, points: int = POINTS) -> list[tuple[BatchNorm, Array]]:
    """Return nasty layers with inputs that fit the kernel, one for each epsilon."""
    rng = np.random.default_rng(seed)
    found = []
    for epsilon in nasty.EPSILONS:
        domain, dtype = nasty.WIDE, "float32"
        if kernel.output == "float64":
            domain, dtype = nasty.WIDEST, "float64"
        if kernel.output == "float16":
            domain, dtype = nasty.FLOAT16, "float16"
        if kernel.stored == "float16" and not epsilon:
            continue  # a variance of 1e-9 is zero in float16, and nothing can be promised for 1/sqrt(0)
        norm = nasty.layer(rng, epsilon, CHANNELS, kernel.stored, domain)
        x = nasty.inputs(rng, norm, points, dtype)
        if kernel.output == "bfloat16":
            x = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        found.append((norm, x))
    return found


def sweep(kernel: Kernel, seed: int, points: int = POINTS) -> Comparison:
    """Judge a kernel on nasty layers, `points` of each channel."""
    found = [judge(kernel.call(norm, x), norm) for norm, x in cases(kernel, seed, points)]
    joined = found[0]
    for comparison in found[1:]:
        joined = merge(joined, comparison)
    return joined


@pytest.mark.parametrize("name", KERNELS)
def test_a_real_kernel_stays_within_its_bound(name: str) -> None:
    comparison = sweep(KERNELS[name], seed=0)

    assert comparison.agrees, comparison
    assert comparison.elements > 800_000
    # Overflows of float16 are part of it, but not most of it.
    assert (comparison.nonfinite > 0) == (KERNELS[name].output == "float16")
    assert comparison.nonfinite < comparison.elements / 4
    # A bound that no kernel comes near would find nothing.
    assert comparison.ratio is not None
    assert comparison.ratio > 0.8


def test_parameters_along_another_axis() -> None:
    import keras

    rng = np.random.default_rng(1)
    norm = nasty.layer(rng, 1e-3, 12)
    x = np.moveaxis(nasty.inputs(rng, norm, 300).reshape(4, 15, 5, 12), -1, 1)
    x = np.ascontiguousarray(x)
    y = _run_layer(keras.layers.BatchNormalization(axis=1, epsilon=1e-3), norm, x)

    observation = Observation("nasty", "probed", x, np.asarray(y), (1,), form=Form.AFFINE)

    assert judge(observation, norm).agrees
    assert not judge(replace(observation, y=np.asarray(y)[:, ::-1]), norm).agrees


def ordinary(rng: np.random.Generator, channels: int = 64, points: int = 256) -> tuple[BatchNorm, Array]:
    """Return a layer like those of trained models, and inputs as it would see."""
    mean, variance = rng.standard_normal(channels), rng.uniform(0.1, 3.0, channels)
    gamma, beta = rng.uniform(0.5, 1.5, channels), rng.standard_normal(channels)
    x = mean + np.sqrt(variance) * rng.standard_normal((points, channels))
    a, b, m, v = (each.astype(np.float32) for each in (gamma, beta, mean, variance))
    return BatchNorm("ordinary", a, b, m, v, epsilon=1e-3, axis=(-1,)), x.astype(np.float32)


def _variance(norm: BatchNorm) -> Array:
    assert norm.moving_variance is not None
    return norm.moving_variance


WRONG: dict[str, Callable[[BatchNorm], BatchNorm]] = {
    "epsilon outside the root": lambda norm: replace(
        norm, moving_variance=(np.sqrt(_variance(norm).astype(np.float64)) + 1e-3) ** 2, epsilon=0.0
    ),
    "epsilon of another framework": lambda norm: replace(norm, epsilon=1e-5),
    "epsilon forgotten": lambda norm: replace(norm, epsilon=0.0),
    "epsilon 1 % off": lambda norm: replace(norm, epsilon=1.01e-3),
    "unbiased variance of 16": lambda norm: replace(norm, moving_variance=_variance(norm) * np.float32(16 / 15)),
    "unbiased variance of 10 000": lambda norm: replace(
        norm, moving_variance=_variance(norm) * np.float32(10_000 / 9_999)
    ),
    "standard deviation for variance": lambda norm: replace(norm, moving_variance=np.sqrt(_variance(norm))),
    "gamma and beta swapped": lambda norm: replace(norm, gamma=norm.beta, beta=norm.gamma),
    "gamma and variance swapped": lambda norm: replace(norm, gamma=_variance(norm), moving_variance=norm.gamma),
    "no beta": lambda norm: replace(norm, beta=None),
    "no gamma": lambda norm: replace(norm, gamma=None),
}


@pytest.mark.parametrize("name", ["tf.nn.fused_batch_norm", "keras"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_kernel_that_uses_other_numbers_is_beyond_its_bound(name: str, wrong: str) -> None:
    norm, x = ordinary(np.random.default_rng(2))
    observation = KERNELS[name].call(norm, x)
    assert judge(observation, norm).agrees

    comparison = judge(observation, WRONG[wrong](norm))

    assert not comparison.agrees
    assert comparison.violations > comparison.elements / 10


def test_the_bound_of_the_centred_form_does_not_cover_an_affine_kernel() -> None:
    kernel = KERNELS["keras"]
    share = []
    for norm, x in cases(kernel, seed=3):
        observation = kernel.call(norm, x)
        centred = judge(replace(observation, form=Form.CENTRED), norm)
        share.append(centred.violations / centred.elements)
        assert judge(replace(observation, form=Form.UNKNOWN), norm).agrees

    assert min(share) > 0.1


@pytest.mark.parametrize("parameter", ["beta", "moving_mean"])
def test_a_single_bit_of_a_parameter_is_visible_at_the_mean(parameter: str) -> None:
    norm, _ = ordinary(np.random.default_rng(4))
    if parameter == "moving_mean":
        norm = replace(norm, beta=None)
    assert norm.moving_mean is not None
    x = np.tile(norm.moving_mean, (64, 1))
    observation = KERNELS["tf.nn.fused_batch_norm"].call(norm, x)
    assert judge(observation, norm).agrees

    flipped = getattr(norm, parameter).copy()
    flipped.view(np.uint32)[0] ^= 1
    comparison = judge(observation, replace(norm, **{parameter: flipped}))

    assert comparison.channels == (0,)
    assert comparison.violations == 64


@pytest.mark.parametrize(("form", "wrong"), [(Form.CENTRED, 1e-5), (Form.AFFINE, 1e-5)])
def test_float16_output_hides_no_wrong_epsilon_where_variances_are_small(form: Form, wrong: float) -> None:
    name = {Form.CENTRED: "tf_keras mixed_float16", Form.AFFINE: "keras mixed_float16"}[form]
    norm, x = ordinary(np.random.default_rng(5))
    norm = replace(norm, moving_variance=_variance(norm) * np.float32(1e-2))
    observation = KERNELS[name].call(norm, x.astype(np.float16))

    assert judge(observation, norm).agrees
    assert not judge(observation, replace(norm, epsilon=wrong)).agrees


def test_every_kernel_agrees_with_the_formula_to_its_own_precision() -> None:
    """The same numbers once more without any bound: a relative distance of a few units of the output type."""
    norm, x = ordinary(np.random.default_rng(6))
    for name, kernel in KERNELS.items():
        if kernel.stored != "float32" or kernel.output != "float32":
            continue
        observation = kernel.call(norm, x)
        expected = normalise(Parameters.of(norm), observation.x, axis=observation.axis)
        assert np.max(np.abs(observation.y - expected)) < 2e-6, name
