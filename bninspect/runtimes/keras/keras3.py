"""Keras 3 on its TensorFlow backend: whole models of Keras 3, and plain ones of Keras 2."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from bninspect.environment import installed
from bninspect.errors import RuntimeFailure
from bninspect.records import Checkpoint, Estimator, Form
from bninspect.runtimes import loading
from bninspect.runtimes.keras import keras2_config, run, session
from bninspect.runtimes.keras import stream as streams
from bninspect.runtimes.keras.framework import Framework, Training
from bninspect.runtimes.runtime import RunSettings

_CLEANED = "Keras 3 built the model from the configuration in words of Keras 3, and loaded its weights from the file"


def framework() -> Framework:
    """Import it. As `loading.framework`."""
    keras = loading.framework("keras")
    if keras.backend.backend() != "tensorflow":
        raise RuntimeFailure(f"Keras runs on {keras.backend.backend()}", why="only its TensorFlow backend is known")
    return Framework(
        title=f"keras {installed('keras')}",
        keras=keras,
        batch_norm=keras.layers.BatchNormalization,
        load=_load,
        form=lambda _layer: Form.AFFINE,  # tf.nn.batch_normalization at every rank
        trains=lambda layer, training: bool(training) and bool(layer.trainable),
        training=_training,
        layer=_layer,
    )


def _load(checkpoint: Checkpoint, settings: RunSettings) -> tuple[Any, tuple[str, ...]]:
    import keras

    with loading.named_as_expected(Path(checkpoint.path)) as path:
        try:
            return keras.models.load_model(path, compile=False, safe_mode=not settings.trust), ()
        except Exception:
            if not (checkpoint.writer.startswith("Keras 2") and checkpoint.architecture):
                raise
            cleaned = keras2_config.cleaned(checkpoint.architecture)
            if cleaned is None:
                raise
        kind = keras.Sequential if cleaned["class_name"] == "Sequential" else keras.Model
        model = kind.from_config(cleaned["config"])
        model.load_weights(path)
        return model, (_CLEANED,)


def _training(layer: Any, masked: bool) -> Training:  # noqa: FBT001 - called by position
    return Training(
        estimator=Estimator.BIASED,
        decay="float64",
        # Masked moments are computed in two passes even so.
        one_pass=getattr(layer, "synchronized", False) and not masked,
        honours_mask=True,
        refusal="it renormalises by its moving statistics (renorm=True)" if getattr(layer, "renorm", False) else "",
    )


def _layer(axis: tuple[int, ...], **settings: Any) -> Any:
    import keras

    if len(axis) > 1:
        raise RuntimeFailure("Keras 3 has no batch norm over several axes")
    return keras.layers.BatchNormalization(axis=axis[0], **settings)


observe = partial(run.observe_model, framework)
observe_layers = partial(run.observe_layers, framework)
stream = partial(streams.streaming, framework)
opened = partial(session.opened, framework)
