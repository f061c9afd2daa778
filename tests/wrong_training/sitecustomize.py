"""A tf_keras that trains each batch norm of keras2_digits.h5 wrongly in its own way. Python imports this at its start.

At inference it is right, so nothing but a training step shows it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from typing import Any


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


class _Patcher(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != "tf_keras.src.layers.normalization.batch_normalization":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def patched(module: Any) -> None:
            execute(module)
            base = module.BatchNormalizationBase
            right = base.call

            def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
                if not training:
                    return right(self, inputs, training=training, mask=mask)
                return _train(self, lambda: right(self, inputs, training=training, mask=mask), inputs)

            base.call = call

        spec.loader.exec_module = patched  # type: ignore[method-assign]
        return spec


if os.environ.get("WRONG_TRAINING"):
    sys.meta_path.insert(0, _Patcher())
