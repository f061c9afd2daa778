"""What only one of the two Keras has: subclassed models, several axes, synchronised layers, old configurations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.watching import Save, assert_all_verified, stored, watch

from bninspect import runtimes
from bninspect.errors import MissingPackage, RuntimeFailure
from bninspect.records import Evidence, Form
from bninspect.runtimes import loading
from bninspect.runtimes.keras import keras2_config

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def keras(save: Save) -> Any:
    return loading.framework("keras")


@pytest.fixture
def tf_keras(save: Save) -> Any:
    return loading.framework("tf_keras")


MODULE = """
import keras

@keras.saving.register_keras_serializable("bninspect-tests")
class ConvBlock(keras.layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.norm = keras.layers.BatchNormalization(name="hidden")

    def build(self, shape):
        self.norm.build(shape)
        self.built = True

    def call(self, x):
        return self.norm(x)


@keras.saving.register_keras_serializable("bninspect-tests")
class Net(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.block = ConvBlock(name="block")
        self.norms = [keras.layers.BatchNormalization(name="one"), keras.layers.BatchNormalization(name="one")]
        self.unused = keras.layers.BatchNormalization(name="unused")

    def build(self, shape):
        self.block.build(shape)
        for norm in (*self.norms, self.unused):
            norm.build(shape)
        self.built = True

    def call(self, x):
        for layer in (self.block, *self.norms):
            x = layer(x)
        return x
"""


MAPPED = """
import keras
import tensorflow as tf

@keras.saving.register_keras_serializable("bninspect-tests")
class Mapped(keras.layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.norm = keras.layers.BatchNormalization(name="hidden")

    def build(self, shape):
        self.norm.build(shape)
        self.built = True

    def call(self, x):
        return tf.vectorized_map(lambda row: self.norm(row[None])[0], x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)
"""


def test_a_subclassed_model_with_its_module(
    keras: Any, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its layers are called in Python, some have the same name, one is never called, and inputs are not symbolic."""
    (tmp_path / "my_net.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import my_net  # type: ignore[import-not-found]

    model = my_net.Net()
    model.build((None, 4))
    norms = {
        "block/hidden": model.block.norm,
        "norms/one": model.norms[0],
        "norms/one_1": model.norms[1],
        "unused": model.unused,
    }
    checkpoint = save(model, norms, code=("Net 'net'",))
    keras.saving.get_custom_objects().clear()
    monkeypatch.delitem(sys.modules, "my_net")
    assert "could not" in watch(checkpoint, trust=True).run.reason.lower()

    watched = watch(checkpoint, trust=True, modules=("my_net",), batch=5)
    assert watched.run.evidence is Evidence.MODEL, watched.run
    assert watched.run.unobserved == {"unused": "the forward pass does not reach it"}
    assert watched.calls() == {"block/hidden": 1, "norms/one": 1, "norms/one_1": 1}
    assert len(watched.of("unused", "probed")) == 1
    assert watched.of("block/hidden")[0].x.shape == (5, 4)
    reached = replace(checkpoint, layers=checkpoint.layers[:3])
    assert_all_verified(reached, watch(reached, trust=True, modules=("my_net",)))
    keras.saving.get_custom_objects().clear()


TRAINING = """
import keras

@keras.saving.register_keras_serializable("bninspect-tests")
class Trains(keras.layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.free = keras.layers.BatchNormalization(name="free")
        self.frozen = keras.layers.BatchNormalization(name="frozen", trainable=False)

    def build(self, shape):
        self.free.build(shape)
        self.frozen.build(shape)
        self.built = True

    def call(self, x):
        return self.free(self.frozen(x, training=True), training=True)
"""


def test_training_that_is_wired_into_a_layer(
    keras: Any, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_training.py").write_text(TRAINING)
    monkeypatch.syspath_prepend(tmp_path)
    import my_training  # type: ignore[import-not-found]

    layer = my_training.Trains(name="layer")
    x = keras.Input((4,))
    norms = {"layer/free": layer.free, "layer/frozen": layer.frozen}
    checkpoint = save(keras.Model(x, layer(x)), norms, code=("Trains 'layer'",))
    watched = watch(checkpoint, trust=True, batch=8)
    assert {one.layer: one.training for one in watched.observations if one.observed == "in-model"} == {
        "layer/free": True,
        "layer/frozen": False,
    }
    frozen = replace(checkpoint, layers=checkpoint.layers[1:])
    assert_all_verified(frozen, watch(frozen, trust=True, batch=8))
    keras.saving.get_custom_objects().clear()


def test_a_folder_instead_of_a_zip(keras: Any, save: Save, tmp_path: Path) -> None:
    layer = keras.layers.BatchNormalization(name="bn")
    x = keras.Input((4,))
    model = keras.Model(x, layer(x))
    checkpoint = save(model, {"bn": layer})
    model.save(tmp_path / "folder", zipped=False)
    folder = replace(checkpoint, path=str(tmp_path / "folder"))
    assert_all_verified(folder, watch(folder))


def test_a_layer_that_the_model_does_not_have(keras: Any, save: Save) -> None:
    layer = keras.layers.BatchNormalization(name="bn")
    x = keras.Input((4,))
    checkpoint = save(keras.Model(x, layer(x)), {"bn": layer})
    other = stored("elsewhere", layer)
    other = replace(other, beta=np.zeros(4, np.float32))
    watched = watch(replace(checkpoint, layers=(*checkpoint.layers, other)))
    assert watched.run.unobserved == {"elsewhere": "no batch-norm layer of the loaded model is this one"}
    assert {one.layer for one in watched.observations} == {"bn"}


def test_a_layer_in_a_graph_is_not_passed_off_as_seen(
    keras: Any, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_map.py").write_text(MAPPED)
    monkeypatch.syspath_prepend(tmp_path)
    import my_map  # type: ignore[import-not-found]

    mapped, top = my_map.Mapped(name="mapped"), keras.layers.BatchNormalization(name="top")
    x = keras.Input((4,))
    checkpoint = save(
        keras.Model(x, top(mapped(x))), {"mapped/hidden": mapped.norm, "top": top}, code=("Mapped 'mapped'",)
    )
    watched = watch(checkpoint, trust=True)
    assert watched.run.evidence is Evidence.MODEL, watched.run
    assert watched.run.unobserved == {
        "mapped/hidden": "it runs inside a graph, where its input and output cannot be seen"
    }
    assert watched.calls() == {"top": 1}
    assert len(watched.of("mapped/hidden", "probed")) == 1
    keras.saving.get_custom_objects().clear()


def test_renormalisation_infers_by_the_plain_formula(keras: Any, tf_keras: Any, save: Save) -> None:
    for k in (keras, tf_keras):
        layer = k.layers.BatchNormalization(name="bn", renorm=True)
        x = k.Input((4, 4, 3))
        checkpoint = save(k.Model(x, layer(x)), {"bn": layer})
        watched = watch(checkpoint)
        assert_all_verified(checkpoint, watched)
        assert {one.form for one in watched.observations} == {Form.AFFINE}


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_several_axes(tf_keras: Any, save: Save, ending: str) -> None:
    layer = tf_keras.layers.BatchNormalization(name="bn", axis=[1, 3])
    x = tf_keras.Input((6, 5, 3))
    checkpoint = save(tf_keras.Model(x, layer(x)), {"bn": layer}, ending)
    assert checkpoint.layers[0].channels == 18
    watched = watch(checkpoint)
    assert_all_verified(checkpoint, watched)
    assert {one.axis for one in watched.observations} == {(1, 3)}
    alone = replace(checkpoint, architecture=None)
    assert_all_verified(alone, watch(alone), Evidence.LAYER)
    in_keras_3 = watch(alone, runtime="keras").run
    assert in_keras_3.unobserved == {"bn": "Keras 3 has no batch norm over several axes"}


def test_synchronised_layers(tf_keras: Any, save: Save) -> None:
    layers = {
        "old": tf_keras.layers.experimental.SyncBatchNormalization(name="old"),
        "new": tf_keras.layers.BatchNormalization(name="new", synchronized=True),
    }
    x = tf_keras.Input((4, 4, 3))
    checkpoint = save(tf_keras.Model(x, layers["new"](layers["old"](x))), layers, ".h5")
    watched = watch(checkpoint)
    assert_all_verified(checkpoint, watched)
    # tf-keras does not save `synchronized`: what it loads is the fused kernel.
    forms = {one.layer: one.form for one in watched.observations}
    assert forms == {"old": Form.AFFINE, "new": Form.CENTRED}


def test_layers_of_tf_1_13(tf_keras: Any, save: Save) -> None:
    layer = tf_keras.layers.BatchNormalization(name="bn")
    x = tf_keras.Input((4, 4, 3))
    checkpoint = save(tf_keras.Model(x, layer(x)), {"bn": layer}, ".h5")
    with h5py.File(checkpoint.path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace(
            '"BatchNormalization"', '"BatchNormalizationV1"'
        )
    assert_all_verified(checkpoint, watch(checkpoint))


def _without_tf_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == "tf_keras" else find_spec(name))


def test_keras_3_runs_what_keras_2_wrote_in_its_own_words(
    tf_keras: Any, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nested, shared, of mixed precision, with a model that is an output: each needs other words."""
    k = tf_keras
    bn = k.layers.BatchNormalization
    mixed = k.mixed_precision.Policy("mixed_float16")
    layers = {
        "seq/first": bn(name="first"),
        "inner/last": bn(name="last"),
        "sync": k.layers.experimental.SyncBatchNormalization(name="sync"),
        "top": bn(name="top", dtype=mixed),
    }
    sequential = k.Sequential([k.layers.DepthwiseConv2D(3, input_shape=(8, 8, 3)), layers["seq/first"]], name="seq")
    inner_in = k.Input((6, 6, 3))
    inner = k.Model(inner_in, layers["inner/last"](k.layers.Conv2D(4, 3)(inner_in)), name="inner")
    x = k.Input((8, 8, 3))
    y = layers["sync"](inner(sequential(x)))
    z = inner(sequential(k.layers.ReLU()(x)))
    outputs = [layers["top"](k.layers.Add()([y, z])), sequential(k.layers.Softmax()(x))]
    checkpoint = save(k.Model(x, outputs), layers, ".h5")
    expected = watch(checkpoint)
    assert_all_verified(checkpoint, expected)

    _without_tf_keras(monkeypatch)
    watched = watch(checkpoint)
    assert watched.run.runtime.startswith("keras 3")
    assert_all_verified(checkpoint, watched)
    assert watched.calls() == expected.calls() == {"seq/first": 3, "inner/last": 2, "sync": 1, "top": 1}
    assert any("in words of Keras 3" in note for note in watched.run.notes)
    for name in layers:
        for one, other in zip(watched.of(name), expected.of(name), strict=True):
            assert one.y == pytest.approx(other.y, abs=1e-2 if name == "top" else 1e-5)


def test_what_keras_3_cannot_run_names_what_can(tf_keras: Any, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = tf_keras.layers.BatchNormalization(name="bn")
    x = tf_keras.Input((4,))
    checkpoint = save(tf_keras.Model(x, layer(x)), {"bn": layer}, ".keras")
    _without_tf_keras(monkeypatch)
    watched = watch(checkpoint)
    assert_all_verified(checkpoint, watched, Evidence.LAYER)
    assert watched.run.reason.startswith("keras 3")
    assert "tf-keras (Keras 2) may load it" in watched.run.notes[-1]


def test_a_configuration_of_keras_3_needs_no_cleaning(keras: Any, save: Save) -> None:
    layer = keras.layers.BatchNormalization(name="bn")
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(4), layer])
    checkpoint = save(model, {"bn": layer}, ".h5")
    assert checkpoint.architecture is not None
    assert keras2_config.cleaned(checkpoint.architecture) is None


def test_a_sequential_of_keras_2_0_is_a_list() -> None:
    dense = {"class_name": "Dense", "config": {"name": "d", "batch_input_shape": [None, 4], "units": 2}}
    cleaned = keras2_config.cleaned(json.dumps({"class_name": "Sequential", "config": [dense]}))
    assert cleaned is not None
    first, second = cleaned["config"]["layers"]
    assert first == {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "dtype": "float32"}}
    assert second == {"class_name": "Dense", "config": {"name": "d", "units": 2}}


def test_another_backend_is_not_used(keras: Any, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = keras.layers.BatchNormalization(name="bn")
    x = keras.Input((4,))
    checkpoint = save(keras.Model(x, layer(x)), {"bn": layer})
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeFailure, match="Keras runs on jax"):
        watch(checkpoint)


def test_the_home_of_the_user_decides_nothing(tmp_path: Path) -> None:
    settings = tmp_path / ".keras" / "keras.json"
    settings.parent.mkdir()
    settings.write_text('{"backend": "jax", "floatx": "float16", "image_data_format": "channels_first"}')
    program = """
import os
from bninspect.runtimes import loading
for name in ("keras", "tf_keras"):
    k = loading.framework(name)
    print(k.backend.floatx(), k.backend.image_data_format())
print(loading.framework("keras").backend.backend(), os.environ.get("KERAS_BACKEND"), os.environ.get("KERAS_HOME"))
"""
    environment = {**os.environ, "HOME": str(tmp_path), "KERAS_BACKEND": "torch"}
    environment.pop("KERAS_HOME", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["float32 channels_last", "float32 channels_last", "tensorflow torch None"]
    assert [path.name for path in tmp_path.iterdir()] == [".keras"]


def test_a_framework_that_does_not_start_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(MissingPackage) as raised:
        loading.framework("tf_keras")
    assert raised.value.hint == "pip install 'bninspect[tensorflow]'"
