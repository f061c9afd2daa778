"""Right exports of real models: every batch norm is accounted for, whichever converter wrote the file."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.exports import FORMATS, ONNX, convert, converted, counterparts, held, randomise, save, statuses

from bninspect.records import LayerStatus, Status
from bninspect.reports import equivalence_words
from bninspect.settings import IgnoreRule

pytestmark = pytest.mark.tensorflow
ALL = {LayerStatus.VERIFIED}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "sample",
    [
        "keras3_digits.keras",
        "keras2_digits.h5",
        "keras2_nested.h5",
        "keras3_nested.keras",
        "keras2_shared.h5",
        "keras3_partial.keras",
    ],
)
def test_sample_models(sample_models: Path, tmp_path: Path, sample: str, form: str) -> None:
    import keras
    import tf_keras

    kind = keras if sample.startswith("keras3") else tf_keras
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = kind.models.load_model(sample_models / sample, compile=False)
    model = held(sample_models / sample, converted(built, tmp_path, form))
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
    model = held(save(built, tmp_path / f"m{ending}"), converted(built, tmp_path, form))
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
    model = held(save(built, tmp_path / "m.keras"), converted(built, tmp_path, form))
    assert set(statuses(model).values()) == ALL
    assert model.status is Status.PASS


@ONNX
def test_each_step_of_a_sequence(sample_models: Path, tmp_path: Path) -> None:
    """TimeDistributed calls one batch norm for each of eight steps, and the export holds it eight times."""
    import keras

    path = sample_models / "keras3_recurrent.keras"
    model = held(path, converted(keras.models.load_model(path, compile=False), tmp_path, "onnx"))
    assert set(statuses(model).values()) == ALL
    assert model.status is Status.PASS
    assert model.against is not None
    assert not any("no batch norm of the model explains" in note for note in model.against.notes)


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_a_dense_layer_at_each_step(tmp_path: Path, package: str) -> None:
    """Of a fixed batch, tf-keras calls the dense layer itself on reshaped data."""
    keras = importlib.import_module(package)
    layers = keras.layers
    x = layers.Input(batch_shape=(1, 5, 3))
    y = layers.BatchNormalization(name="bn")(layers.TimeDistributed(layers.Dense(6, name="dense"))(x))
    built = randomise(keras.Model(x, y))
    model = held(save(built, tmp_path / "m.h5"), converted(built, tmp_path, "tflite"))
    assert statuses(model) == {"bn": LayerStatus.VERIFIED}
    assert model.status is Status.PASS


@ONNX
@pytest.mark.parametrize("sample", ["keras3_mixed_float16.keras", "keras2_digits.h5"])
def test_exporter_that_does_not_optimise(
    sample_models: Path, tmp_path: Path, sample: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Biases behind a Transpose; layers that round to float16."""
    import keras
    import tf_keras
    from tf2onnx import optimizer

    monkeypatch.setattr(optimizer, "optimize_graph", lambda graph, *_arguments, **_options: graph)
    kind = keras if sample.startswith("keras3") else tf_keras
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = kind.models.load_model(sample_models / sample, compile=False)
    model = held(sample_models / sample, converted(built, tmp_path, "onnx"))
    assert set(statuses(model).values()) == ALL
    assert model.status is Status.PASS


@pytest.mark.parametrize("form", FORMATS)
def test_batch_norms_behind_one_another_and_behind_silu(tmp_path: Path, form: str) -> None:
    """Both of two go into one operation; tf2onnx scales one factor of a product instead of the product."""
    import keras

    layers = keras.layers
    x = inputs = layers.Input((8, 8, 3))
    x = layers.BatchNormalization(name="first")(layers.Conv2D(4, 3)(x))
    x = layers.ReLU()(layers.BatchNormalization(name="second")(x))
    x = layers.BatchNormalization(name="behind_silu")(layers.Activation("silu")(layers.Conv2D(4, 3)(x)))
    built = randomise(keras.Model(inputs, layers.Conv2D(2, 3, padding="same")(x)))
    model = held(save(built, tmp_path / "m.keras"), converted(built, tmp_path, form))
    assert statuses(model) == dict.fromkeys(("first", "second", "behind_silu"), LayerStatus.VERIFIED)
    assert model.status is Status.PASS


@pytest.mark.parametrize("form", FORMATS)
def test_outputs_go_by_their_numbers(tmp_path: Path, form: str) -> None:
    """Converters sort outputs: which is which only their numbers say."""
    import keras

    layers = keras.layers
    x = inputs = layers.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))
    x = layers.GlobalAveragePooling2D()(x)
    built = randomise(keras.Model(inputs, [layers.Dense(3, name="zebra")(x), layers.Dense(3, name="aardvark")(x)]))
    source, export = save(built, tmp_path / "m.keras"), converted(built, tmp_path, form)
    model = held(source, export)
    assert model.status is Status.PASS
    assert model.against is not None
    assert len(model.against.outputs) == 4
    lacking = keras.Model(inputs, built.outputs[1])
    (tmp_path / "lacking").mkdir()
    export = converted(lacking, tmp_path / "lacking", form)
    model = held(source, export)
    assert model.status is held(source, export, select=("BN1",)).status is Status.FAIL
    others = (IgnoreRule("BN4", "of another model", models="other.keras"), IgnoreRule("BN4", "was known", expired=True))
    assert held(source, export, ignores=others).status is Status.FAIL
    assert "no output that could be" in next(one.message for one in model.findings if one.rule == "BN411")


def test_outputs_that_hold_no_floats_must_be_equal(tmp_path: Path) -> None:
    import keras

    inputs = keras.layers.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    built = randomise(keras.Model(inputs, [x, keras.ops.cast(8 * x, "int32")]))
    model = held(save(built, tmp_path / "m.keras"), convert(built, tmp_path / "m.tflite"))
    assert model.status is Status.PASS
    assert model.against is not None
    assert not model.against.open


@pytest.mark.parametrize("sample", ["keras3_digits.keras", "keras2_digits.h5"])
def test_float16_weights(sample_models: Path, tmp_path: Path, sample: str) -> None:
    """Some of them are so small that float16 has few digits left for them."""
    import keras
    import tensorflow as tf
    import tf_keras

    kind = keras if sample.startswith("keras3") else tf_keras
    built = kind.models.load_model(sample_models / sample, compile=False)
    options = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    export = convert(built, tmp_path / "h.tflite", supported_types=[tf.float16], **options)
    model = held(sample_models / sample, export)
    assert set(statuses(model).values()) == ALL
    assert model.status is Status.PASS


@ONNX
def test_channels_first_export_of_a_channels_last_model(tmp_path: Path) -> None:
    import keras

    built = randomise(_every_place(keras))
    export = converted(built, tmp_path, "onnx", inputs_as_nchw=["x"])
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
        assert {each.observed for each in one.comparisons} == {"weights", "bias", "output"}
        # Rounding to a step uses it up: a bound of half of one is no wider than it must be.
        assert max(each.ratio or 0 for each in one.comparisons if each.observed == "weights") > 0.5
    other = save(randomise(keras.models.clone_model(built), seed=5), tmp_path / "other.keras")
    assert held(other, export).status is Status.FAIL
    gated = held(source, export, precision="float32")
    assert [one.message for one in gated.findings] == [
        "it is computed in int8, --precision asks for float32, as the file says"
    ]
    assert equivalence_words.shippable(gated, "error") == f"can this ship?  no: {gated.findings[0].message}"


@pytest.mark.parametrize(("wanted", "found"), [("float32", []), ("float64", ["BN407"])])
def test_gate_on_the_precision_of_an_export(sample_models: Path, wanted: str, found: list[str]) -> None:
    model = held(sample_models / "keras2_digits.h5", sample_models / "keras2_digits.tflite", precision=wanted)
    assert [one.rule for one in model.findings if one.rule == "BN407"] == found
    assert set(statuses(model).values()) == ALL


def test_quantised_scale_and_shift(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    layers = keras.layers
    x = inputs = layers.Input((8, 8, 3))
    x = layers.BatchNormalization(name="bn")(layers.MaxPooling2D()(x))
    built = randomise(keras.Model(inputs, layers.ReLU()(x)))
    generator = np.random.default_rng(0)

    def samples() -> Any:
        return ([generator.normal(size=(1, 8, 8, 3)).astype(np.float32)] for _ in range(8))

    options = {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": samples}
    export = convert(built, tmp_path / "q.tflite", **options)
    model = held(save(built, tmp_path / "m.keras"), export)
    assert (counterparts(model)["bn"].how, model.status) == ("scale and shift", Status.PASS)
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


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("off", [0.0, 0.01])
def test_a_constant_that_is_added_goes_into_the_bias_before_it(tmp_path: Path, off: float, *, whole: bool) -> None:
    """As in the squeeze-and-excite blocks of MobileNetV3, whose hard sigmoid is relu6(x + 3) / 6."""
    import keras
    import tensorflow as tf

    layers = keras.layers
    x = inputs = layers.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization(name="behind_conv")(layers.Conv2D(4, 3)(x)))
    y = layers.Conv2D(4, 1, name="gate")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    y = layers.ReLU(6.0)(y + 3.0) * (1.0 / 6.0)
    x = layers.Dense(3)(layers.Flatten()(layers.Multiply()([x, y])))
    built = keras.Model(inputs, x)
    randomise(built)
    saved = save(built, tmp_path / "model.keras")
    built.get_layer("gate").bias.assign_add(np.full(4, off, np.float32))
    seen = np.random.default_rng(5).standard_normal((32, 1, 8, 8, 3)).astype(np.float32)
    to_whole = {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": lambda: ([one] for one in seen)}
    model = held(saved, convert(built, tmp_path / "m.tflite", **(to_whole if whole else {})))
    assert model.status is (Status.FAIL if off else Status.PASS)
