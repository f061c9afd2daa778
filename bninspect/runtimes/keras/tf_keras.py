"""tf-keras, which is Keras 2 under a name of its own: whole models of Keras 2 and tf.keras."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from bninspect.environment import installed
from bninspect.records import Checkpoint, Estimator, Form
from bninspect.runtimes import loading
from bninspect.runtimes.keras import run, session
from bninspect.runtimes.keras import stream as streams
from bninspect.runtimes.keras.framework import Framework, Training
from bninspect.runtimes.runtime import RunSettings


def framework() -> Framework:
    """Import it. As `loading.framework`."""
    keras = loading.framework("tf_keras")
    # The common ancestor is not public: BatchNormalization and SyncBatchNormalization are siblings below it.
    from tf_keras.src.layers.normalization.batch_normalization import BatchNormalizationBase

    return Framework(
        title=f"tf-keras {installed('tf_keras')}",
        keras=keras,
        batch_norm=BatchNormalizationBase,
        load=_load,
        form=_form,
        trains=_trains,
        training=_training,
        layer=_layer,
    )


def _load(checkpoint: Checkpoint, settings: RunSettings) -> tuple[Any, tuple[str, ...]]:
    import tf_keras

    # For HDF5 safe_mode does nothing here: that this loader sees no file with code unasked is the caller's care.
    with loading.named_as_expected(Path(checkpoint.path)) as path:
        return tf_keras.models.load_model(path, compile=False, safe_mode=not settings.trust), ()


def _form(layer: Any) -> Form:
    # Fused kernels compute (x - mean) * scale + beta; the others are tf.nn.batch_normalization.
    return Form.CENTRED if layer.fused else Form.AFFINE


def _trains(layer: Any, training: Any) -> bool:
    # It also knows that the layers of TF 1 ignore `trainable`.
    return bool(layer._get_training_value(training))  # noqa: SLF001


def _training(layer: Any, _masked: bool) -> Training:  # noqa: FBT001 - called by position
    import tensorflow as tf

    return Training(
        # tensorflow#55545: the fused kernel stores the unbiased variance, the others the biased one.
        estimator=Estimator.UNBIASED if layer.fused else Estimator.BIASED,
        decay="float32",
        one_pass=bool(getattr(layer, "synchronized", False)),
        honours_mask=not layer.fused,
        # tensorflow#34062: cuDNN divides by n - 1.
        single=not (layer.fused and tf.config.list_logical_devices("GPU")),
        refusal=_refusal(layer),
    )


def _refusal(layer: Any) -> str:
    if layer.renorm:
        return "it renormalises by its moving statistics (renorm=True)"
    if layer.virtual_batch_size is not None:
        return "it takes the moments of parts of the batch (virtual_batch_size)"
    return "it adjusts the output of a training step at random (adjustment)" if layer.adjustment else ""


def _layer(axis: tuple[int, ...], **settings: Any) -> Any:
    import tf_keras

    return tf_keras.layers.BatchNormalization(axis=list(axis), **settings)


observe = partial(run.observe_model, framework)
observe_layers = partial(run.observe_layers, framework)
stream = partial(streams.streaming, framework)
opened = partial(session.opened, framework)
