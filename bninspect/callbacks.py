"""Watches the moving statistics while a model trains, and warns of those that inference had better not use.

    from bninspect.callbacks import BatchNormMonitor

    monitor = BatchNormMonitor()
    model.fit(x, y, callbacks=[monitor])
    print(monitor.states["batch_normalization"][-1].share)

It only looks: no weight, no random number and no metric is touched, so that training is the same with and without it,
bit for bit.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from bninspect.errors import MissingPackage
from bninspect.training_drift import Limits, Norm, Watch

__all__ = ["BatchNormMonitor", "BatchNormWarning", "Limits"]

_OURS_AND_THEIRS = {"bninspect", "keras", "tf_keras", "tensorflow"}
_NEEDED = ("moving_mean", "moving_variance", "epsilon", "momentum")


class BatchNormWarning(UserWarning):
    """The moving statistics of a layer are not fit for inference."""


def BatchNormMonitor(keras: ModuleType | None = None, limits: Limits = Limits()) -> Any:  # noqa: B008, N802
    """Return a callback for `model.fit`, of the Keras at hand.

    It reads the moving statistics once an epoch, and warns once for each layer and cause:

    - a statistic is NaN or infinite;
    - the statistics did not move although the layer is trained: it is called with training=False;
    - at the end of the training, more than 1 % of a statistic is left of the initial one, momentum**k after k updates;
    - at the end of the training, the statistics are still on their way.

    Args:
        keras: the module whose models it is for: `keras`, `tf_keras` or `tf.keras`. Without it tf_keras where that has
            been imported, else Keras 3.
        limits: from when on to warn at the end.

    Returns:
        A `Callback`. Its attribute `states` holds, for each layer by its path in the model, a `State` for each epoch.

    Raises:
        MissingPackage: there is no Keras.
    """
    module = keras or _at_hand()

    class Monitor(module.callbacks.Callback):  # type: ignore[misc,name-defined]
        """Passes on to a `Watch` what happens in the training."""

        def __init__(self) -> None:
            super().__init__()
            # tf_keras: the metrics of a batch need not be fetched from the device for our sake.
            self._supports_tf_logs = True
            self._watch = Watch(limits)
            self._steps = 0
            self.states = self._watch.states

        def set_model(self, model: Any) -> None:
            if not isinstance(model, module.Model):
                raise TypeError(f"this monitor is for models of {module.__name__}: use BatchNormMonitor(keras=...)")
            super().set_model(model)

        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
            self._watch.begin(_norms(self.model))

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self._steps = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            # Where several steps are run at once, Keras 3 tells of the last one that there might have been.
            self._steps = min(batch + 1, self.params.get("steps") or batch + 1)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            _warn(self._watch.epoch(_norms(self.model), self._steps))

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
            _warn(self._watch.end())

    return Monitor()


def _at_hand() -> ModuleType:
    # Nobody imports tf_keras by the way, whereas TensorFlow itself imports Keras 3.
    for name in ("tf_keras", "keras"):
        if name in sys.modules:
            return sys.modules[name]
    for name in ("keras", "tf_keras"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise MissingPackage("there is no Keras here", hint="pip install 'bninspect[tensorflow]'")


def _norms(model: Any) -> Mapping[str, Norm]:
    """Return every built batch norm of a model by its path."""
    from bninspect.runtimes.keras import matching

    found = (norm for norm in matching.batch_norms(model, object) if all(hasattr(norm.layer, name) for name in _NEEDED))
    return {
        one.path: Norm(
            mean=one.parameters["moving_mean"].astype(np.float64),
            variance=one.parameters["moving_variance"].astype(np.float64),
            epsilon=float(one.layer.epsilon),
            momentum=float(one.layer.momentum),
            trained=bool(one.layer.trainable),
        )
        for one in found
    }


def _warn(messages: Iterable[str]) -> None:
    for message in messages:
        warnings.warn(message, BatchNormWarning, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """Return the stack level of the line that called `fit`: it is that line which a warning is about."""
    frame, level = sys._getframe(1), 1  # noqa: SLF001 - as the modules warnings and logging do
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS_AND_THEIRS:
        frame, level = frame.f_back, level + 1
    return level
