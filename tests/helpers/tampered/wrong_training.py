"""A tf_keras that trains each batch norm of keras2_digits.h5 wrongly in its own way.

At inference it is right, so nothing but a training step shows it.
"""

from __future__ import annotations

from typing import Any

MODULES = {"tf_keras.src.layers.normalization.batch_normalization"}


def _swapped(layer: Any, call: Any) -> Any:
    stated, layer.momentum = layer.momentum, 1 - layer.momentum
    result = call()
    layer.momentum = stated
    return result


def _unbiased(layer: Any, call: Any, x: Any) -> Any:
    import tensorflow as tf

    n = x.shape.num_elements() / x.shape[-1]
    _, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)))
    factor = tf.sqrt((variance + layer.epsilon) / (variance * (n / max(n - 1, 1)) + layer.epsilon))
    return (call() - layer.beta) * factor + layer.beta


def _not_updated(layer: Any, call: Any) -> Any:
    before = layer.get_weights()
    result = call()
    layer.set_weights(before)
    return result


def _by_moving_statistics(layer: Any, call: Any, x: Any) -> Any:
    import tensorflow as tf

    y = tf.nn.batch_normalization(x, layer.moving_mean, layer.moving_variance, layer.beta, layer.gamma, layer.epsilon)
    call()
    return y


def _train(layer: Any, call: Any, x: Any) -> Any:
    match layer.name:
        case "batch_normalization":
            return _swapped(layer, call)
        case "batch_normalization_1":
            return _unbiased(layer, call, x)
        case "batch_normalization_2":
            return _not_updated(layer, call)
        case _:
            return _by_moving_statistics(layer, call, x)


def patch(module: Any) -> None:
    """Make each batch norm wrong, when it trains."""
    base = module.BatchNormalizationBase
    right = base.call

    def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if not training:
            return right(self, inputs, training=training, mask=mask)
        return _train(self, lambda: right(self, inputs, training=training, mask=mask), inputs)

    base.call = call
