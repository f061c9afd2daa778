"""Right exports of real models: every batch norm is accounted for, whichever converter wrote the file."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import convert, counterparts, held, randomise, save, statuses

from bninspect.records import LayerStatus, Status

pytestmark = pytest.mark.tensorflow
ONNX = pytest.mark.skipif(
    find_spec("tf2onnx") is None or find_spec("onnxruntime") is None,
    reason="tf2onnx and onnxruntime are not installed: pip install tf2onnx 'bninspect[onnx]'",
)
FORMATS = [pytest.param("tflite"), pytest.param("onnx", marks=ONNX)]
ALL = {LayerStatus.VERIFIED}


def _converted(built: Any, path: Path, form: str, **options: Any) -> Path:
    if form == "tflite":
        return convert(built, path / "m.tflite")
    import tensorflow as tf
    import tf2onnx

    specification = (tf.TensorSpec((None, *built.input_shape[1:]), tf.float32, name="x"),)
    function = tf.function(lambda x: built(x, training=False), input_signature=specification)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = str(path / "m.onnx")
        tf2onnx.convert.from_function(function, input_signature=specification, opset=15, output_path=target, **options)
    return path / "m.onnx"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("name", "count"), [("MobileNetV2", 52), ("ResNet50", 53)])
def test_models_of_keras(tmp_path: Path, name: str, count: int, form: str) -> None:
    import keras

    built = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=3)
    generator = np.random.default_rng(0)
    for layer in built.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.get_weights()[0].size
            spread = (
                generator.uniform(low, high, channels) for low, high in ((0.5, 1.5), (-0.4, 0.4), (-0.4, 0.4), (0.3, 2))
            )
            layer.set_weights(list(spread))
    model = held(save(built, tmp_path / "m.keras"), _converted(built, tmp_path, form))
    assert len(counterparts(model)) == count
    assert set(statuses(model).values()) == ALL
    assert model.status is Status.PASS
    assert model.against is not None
    assert len(model.against.outputs) == 2


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "sample", ["keras3_digits.keras", "keras2_digits.h5", "keras3_nested.keras", "keras2_shared.h5"]
)
def test_sample_models(sample_models: Path, tmp_path: Path, sample: str, form: str) -> None:
    import keras
    import tf_keras

    kind = keras if sample.startswith("keras3") else tf_keras
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = kind.models.load_model(sample_models / sample, compile=False)
    model = held(sample_models / sample, _converted(built, tmp_path, form))
    assert set(statuses(model).values()) == ALL
    assert model.status is Status.PASS


def _every_place(keras: Any) -> Any:
    """Return a model with a batch norm in every place that converters treat differently."""
    layers = keras.layers
    x = inputs = layers.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization(name="first")(x))
    x = layers.Conv2D(4, 3, name="conv")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(name="behind_conv", scale=False)(x))
    x = layers.DepthwiseConv2D(3, use_bias=False, padding="same")(x)
    x = layers.BatchNormalization(name="behind_depthwise", center=False)(x)
    y = layers.BatchNormalization(name="behind_pointwise")(layers.Conv2D(4, 1)(x))
    x = layers.BatchNormalization(name="behind_sum")(layers.Add()([x, y]))
    x = layers.SeparableConv2D(6, 3)(layers.ReLU()(x))
    x = layers.BatchNormalization(name="behind_separable")(x)
    x = layers.Conv2DTranspose(6, 2, strides=2)(layers.ReLU()(x))
    x = layers.BatchNormalization(name="behind_transposed")(x)
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    x = layers.BatchNormalization(name="between_dense")(layers.Dense(5)(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_every_place(tmp_path: Path, package: str, form: str) -> None:
    import keras
    import tf_keras

    kind = keras if package == "keras" else tf_keras
    built = randomise(_every_place(kind))
    ending = ".keras" if package == "keras" else ".h5"
    model = held(save(built, tmp_path / f"m{ending}"), _converted(built, tmp_path, form))
    assert statuses(model) == dict.fromkeys(statuses(model), LayerStatus.VERIFIED)
    assert len(statuses(model)) == 8


@pytest.mark.parametrize("form", ["tflite"])
def test_inputs_go_by_their_names(tmp_path: Path, form: str) -> None:
    """Two inputs of one shape, named so that a converter that sorts them swaps them."""
    import keras

    layers = keras.layers
    one, two = layers.Input((6, 6, 3), name="zebra"), layers.Input((6, 6, 3), name="aardvark")
    x = layers.ReLU()(layers.BatchNormalization(name="of_zebra")(layers.Conv2D(4, 3)(one)))
    y = layers.ReLU()(layers.BatchNormalization(name="of_aardvark")(layers.Conv2D(4, 3)(two)))
    built = randomise(keras.Model([one, two], layers.GlobalAveragePooling2D()(layers.Subtract()([x, y]))))
    model = held(save(built, tmp_path / "m.keras"), _converted(built, tmp_path, form))
    assert set(statuses(model).values()) == ALL
    assert model.status is Status.PASS


@ONNX
def test_channels_first_export_of_a_channels_last_model(tmp_path: Path) -> None:
    import keras

    built = randomise(_every_place(keras))
    export = _converted(built, tmp_path, "onnx", inputs_as_nchw=["x"])
    model = held(save(built, tmp_path / "m.keras"), export)
    assert set(statuses(model).values()) == ALL
    assert model.status is Status.PASS


def test_quantised_weights_within_half_a_step(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    layers = keras.layers
    x = inputs = layers.Input((8, 8, 3))
    for _ in range(2):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))
    built = randomise(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    generator = np.random.default_rng(0)

    def samples() -> Any:
        return ([generator.normal(size=(1, 8, 8, 3)).astype(np.float32)] for _ in range(8))

    export = convert(
        built, tmp_path / "q.tflite", optimizations=[tf.lite.Optimize.DEFAULT], representative_dataset=samples
    )
    source = save(built, tmp_path / "m.keras")
    model = held(source, export)
    assert set(statuses(model).values()) == ALL
    assert model.against is not None
    assert any("quantised" in note for note in model.against.notes)
    for one in counterparts(model).values():
        assert {each.observed for each in one.comparisons} == {"weights", "bias"}
        # Rounding to a step uses it up: a bound of half of one is no wider than it must be.
        assert max(each.ratio or 0 for each in one.comparisons if each.observed == "weights") > 0.5
    other = save(randomise(keras.models.clone_model(built), seed=5), tmp_path / "other.keras")
    assert held(other, export).status is Status.FAIL


def test_real_pair_and_real_mismatch(shared_models: Path) -> None:
    folder = shared_models / "mlperf-tiny"
    right = held(folder / "pretrainedResnet.h5", folder / "pretrainedResnet.tflite")
    assert right.status is Status.PASS
    assert {name: one.how for name, one in counterparts(right).items()} == dict.fromkeys(counterparts(right), "folded")
    assert len(counterparts(right)) == 7
    wrong = held(folder / "kws_ref_model", folder / "kws_ref_model_float32.tflite")
    assert wrong.status is Status.FAIL
    assert wrong.against is not None
    assert wrong.against.same is False
    assert "is not the same model" in next(one.message for one in wrong.findings if one.rule == "BN410")


def test_what_its_runtime_cannot_run_is_unverified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    from bninspect import runtimes
    from bninspect.errors import MissingPackage

    layers = keras.layers
    x = inputs = layers.Input((8, 8, 3))
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3)(x))
    built = randomise(keras.Model(inputs, layers.ReLU()(x)))
    export = convert(built, tmp_path / "m.tflite")
    source = save(built, tmp_path / "m.keras")
    choose = runtimes.choose

    def without(checkpoint: Any, forced: str | None = None) -> Any:
        if checkpoint.format == "tflite":
            raise MissingPackage("LiteRT is not installed", hint="pip install it")
        return choose(checkpoint, forced)

    monkeypatch.setattr(runtimes, "choose", without)
    model = held(source, export)
    one = counterparts(model)["bn"]
    assert (model.status, one.status) == (Status.ERROR, LayerStatus.UNVERIFIED)
    assert "its numbers are right, and the export was not run: LiteRT is not installed" in one.sentence
