"""A tf_keras whose batch norms compute what their names say."""

from __future__ import annotations

from typing import Any

MODULES = {"tf_keras.src.layers.normalization.batch_normalization"}


def _compute(layer: Any, x: Any) -> Any:
    """Return what a batch norm called `torch_epsilon`, `deviation`, `batch`, `no_gamma`, `axis_1` or `half` gives."""
    import tensorflow as tf

    gamma, beta, mean, variance = layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance
    epsilon = layer.epsilon
    if layer.name == "torch_epsilon":
        epsilon = 1e-5
    if layer.name == "batch":
        mean, variance = tf.nn.moments(x, [0, 1, 2])
    if layer.name == "no_gamma":
        gamma = tf.ones_like(gamma)
    if layer.name == "axis_1" and x.shape[1] == x.shape[-1]:
        gamma, beta, mean, variance = (tf.reshape(one, [1, -1, 1, 1]) for one in (gamma, beta, mean, variance))
    if layer.name == "deviation":
        return (x - mean) / (variance + epsilon) * gamma + beta
    if layer.name == "half":
        x, gamma, beta, mean, variance = (tf.cast(one, tf.float16) for one in (x, gamma, beta, mean, variance))
    y = (x - mean) * (tf.math.rsqrt(variance + tf.cast(epsilon, x.dtype)) * gamma) + beta
    return tf.cast(y, tf.float32)


def patch(module: Any) -> None:
    """Make each batch norm compute what its name says."""
    module.BatchNormalizationBase.call = lambda layer, inputs, training=None, mask=None: _compute(layer, inputs)
