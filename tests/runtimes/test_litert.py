"""LiteRT, and TensorFlow Lite, as runtimes: what survived as scale and shift, seen where it is computed."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bninspect import formats, runtimes
from bninspect.formats.tflite import format as container
from bninspect.formats.tflite.graph import affine_maps
from bninspect.records import Checkpoint, Evidence, LayerStatus, Observation, Run, Status
from bninspect.runtimes.runtime import RunSettings
from bninspect.settings import Settings
from bninspect.verdicts import verify_task

pytestmark = pytest.mark.tensorflow

RUNTIMES = [
    pytest.param(
        name, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed: pip install it")
    )
    for name, package in (("litert", "ai_edge_litert"), ("tflite", "tensorflow"))
]
X = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype(np.float32)


def _converted(path: Path, built: Any, **options: Any) -> Path:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(built)
    for name, value in options.items():
        setattr(converter, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (path / "m.tflite").write_bytes(converter.convert())
    np.save(path / "x.npy", X)
    return path / "m.tflite"


def _built(*after: Any) -> Any:
    """Return a model in which nothing can take in the batch norms: each comes first, or behind an activation."""
    import keras

    keras.utils.set_random_seed(1)
    x = inputs = keras.layers.Input((6, 6, 2))
    for name, layer in zip("abc", after, strict=False):
        x = layer(keras.layers.BatchNormalization(name=name, epsilon=0.5)(x))
    built = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    generator = np.random.default_rng(4)
    for one in built.layers:
        one.set_weights([generator.uniform(0.25, 1.5, weight.shape) for weight in one.get_weights()])
    return built


def _read(path: Path) -> Checkpoint:
    """Return what is read, and as layers the scales and shifts: the tests know that they are batch norms."""
    layers = tuple(affine.layer(name) for name, affine in affine_maps(container.parsed(path)))
    return replace(formats.read(path), layers=layers)


def _observed(path: Path, runtime: str) -> tuple[Run, list[Observation]]:
    seen: list[Observation] = []
    settings = RunSettings(runtime=runtime, input=path.with_name("x.npy"))
    return runtimes.run(_read(path), settings, lambda: seen.append), seen


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_scale_and_shift_where_they_are_computed(tmp_path: Path, runtime: str) -> None:
    import keras

    built = _built(keras.layers.Activation("sigmoid"), keras.layers.ReLU(), keras.layers.ReLU(6.0))
    path = _converted(tmp_path, built)
    run, seen = _observed(path, runtime)
    assert run.evidence is Evidence.MODEL
    assert len(seen) == 3
    for name, observation in zip("abc", seen, strict=True):
        before = keras.Model(built.input, built.get_layer(name).output)(X, training=False).numpy()
        # Behind a fused relu only what it cut off is our own.
        np.testing.assert_allclose(observation.y, before, rtol=0, atol=2e-6)
    model = verify_task.verify_checkpoint(_read(path), Settings(runtime=runtime, input=str(tmp_path / "x.npy"))).model
    assert model.status is Status.PASS
    assert [layer.status for layer in model.layers] == [LayerStatus.VERIFIED] * 3


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_relu_that_cuts_off_too_much_is_found_out(
    tmp_path: Path, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime returns 0 for what is positive: the part that a relu hides must not be believed."""
    import keras

    from bninspect.runtimes import litert

    path = _converted(tmp_path, _built(keras.layers.ReLU()))
    original = litert._values

    def tampered(interpreter: Any, names: Any) -> Any:
        values = dict(original(interpreter, names))
        for name, array in values.items():
            if array.ndim == 4 and (array >= 0).all():
                values[name] = np.where(array == array.max(), 0, array)
        return values

    monkeypatch.setattr(litert, "_values", tampered)
    settings = Settings(runtime=runtime, input=str(tmp_path / "x.npy"))
    model = verify_task.verify_checkpoint(_read(path), settings).model
    assert [layer.status for layer in model.layers] == [LayerStatus.MISMATCH]


def test_quantised_numbers_are_unverified(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    built = _built(keras.layers.Activation("sigmoid"))
    path = _converted(
        tmp_path,
        built,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([X[one : one + 1]] for one in range(3)),
    )
    model = verify_task.verify_checkpoint(_read(path), Settings(input=str(tmp_path / "x.npy"))).model
    assert model.status is Status.ERROR
    assert {layer.reason for layer in model.layers} == {"its numbers are quantised"}
