"""TensorFlow.js layers models: what its own converter wrote of a Keras model, and files made to harm."""

from __future__ import annotations

import copy
import importlib
import json
import sys
import types
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bninspect import formats
from bninspect.errors import BninspectError, DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats import folder_models

GENERATOR = np.random.default_rng(7)
ARRAYS = {
    f"{layer}/{role}": GENERATOR.uniform(0.5, 2, 3).astype(np.float32)
    # Not the order of the configuration, as the shards of the converter are not.
    for layer in ("second", "first")
    for role in ("gamma", "beta", "moving_mean", "moving_variance")
}


def _content() -> dict[str, Any]:
    layers = [
        {"class_name": "BatchNormalization", "config": {"name": name, "axis": -1, "epsilon": epsilon, "momentum": 0.9}}
        for name, epsilon in (("first", 0.25), ("second", 0.5))
    ]
    config = {"class_name": "Sequential", "config": {"name": "both", "layers": layers}}
    weights = [{"name": name, "shape": [3], "dtype": "float32"} for name in ARRAYS]
    return {
        "format": "layers-model",
        "modelTopology": {"keras_version": "2.15.0", "backend": "tensorflow", "model_config": config},
        "weightsManifest": [{"paths": ["shard1of2.bin", "shard2of2.bin"], "weights": weights}],
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    data = b"".join(array.tobytes() for array in ARRAYS.values())
    (tmp_path / "shard1of2.bin").write_bytes(data[:50])
    (tmp_path / "shard2of2.bin").write_bytes(data[50:])
    (tmp_path / "model.json").write_text(json.dumps(_content()))
    return tmp_path / "model.json"


def test_layers_have_their_settings_and_numbers(model: Path) -> None:
    checkpoint = formats.read(model)
    assert checkpoint.writer == "Keras 2.15.0, TensorFlow.js"
    assert checkpoint.bytes == sum(one.stat().st_size for one in model.parent.iterdir())
    assert [(one.name, one.epsilon, one.axis) for one in checkpoint.layers] == [
        ("first", 0.25, (-1,)),
        ("second", 0.5, (-1,)),
    ]
    for layer in checkpoint.layers:
        for role, array in layer.arrays.items():
            np.testing.assert_array_equal(array, ARRAYS[f"{layer.name}/{role}"])
    assert folder_models.search({"path": str(model.parent)}, [], lambda _: None).models == (str(model),)


def _without_weight(content: dict[str, Any]) -> None:
    del content["weightsManifest"][0]["weights"][-1]


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return change


MANIFEST = ("weightsManifest", 0)
FIRST = (*MANIFEST, "weights", 0)
HOSTILE = {
    "a weight that is not listed": (_without_weight, DamagedFile),
    "a shape of a billion": (_set(*FIRST, "shape", to=[10**9, 10**9]), DamagedFile),
    "a negative shape": (_set(*FIRST, "shape", to=[-3]), DamagedFile),
    "a shape of words": (_set(*FIRST, "shape", to=["3"]), DamagedFile),
    "a type that is not one": (_set(*FIRST, "dtype", to="string"), UnreadableFile),
    "whole numbers": (_set(*FIRST, "dtype", to="int32"), DamagedFile),
    "a name twice": (_set(*FIRST, "name", to="second/beta"), DamagedFile),
    "a name that is a number": (_set(*FIRST, "name", to=5), DamagedFile),
    "half a quantisation": (_set(*FIRST, "quantization", to={"dtype": "float32", "scale": 2}), DamagedFile),
    "a scale of a thousand digits": (
        _set(*FIRST, "quantization", to={"dtype": "uint8", "scale": 10**1000, "min": 0}),
        DamagedFile,
    ),
    "another folder": (_set(*MANIFEST, "paths", 0, to="../shard1of2.bin"), UnsafeFile),
    "another host": (_set(*MANIFEST, "paths", 0, to="http://localhost/shard1of2.bin"), UnsafeFile),
    "a shard that is not there": (_set(*MANIFEST, "paths", 0, to="shard9.bin"), DamagedFile),
    "a shard again": (_set(*MANIFEST, "paths", to=["shard1of2.bin"] * 2 + ["shard2of2.bin"]), DamagedFile),
    "no manifest": (_set("weightsManifest", to=[]), UnreadableFile),
    "a manifest of numbers": (_set("weightsManifest", to=[1, 2]), DamagedFile),
    "no configuration": (_set("modelTopology", to=None), UnreadableFile),
    "a graph": (_set("format", to="graph-model"), UnreadableFile),
    "a configuration that is not one": (_set("modelTopology", "model_config", to={"class_name": 5}), DamagedFile),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_file_is_refused(model: Path, kind: str) -> None:
    change, error = HOSTILE[kind]
    content = _content()
    change(content)
    model.write_text(json.dumps(content))
    with pytest.raises(error):
        formats.read(model)


def test_shard_that_leads_elsewhere_or_is_cut_off(model: Path) -> None:
    shard = model.parent / "shard2of2.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match="cut off"):
        formats.read(model)
    shard.unlink()
    shard.symlink_to("/etc/hostname")
    with pytest.raises(UnsafeFile):
        formats.read(model)


def test_more_shards_than_a_model_has_are_not_opened(model: Path) -> None:
    content = copy.deepcopy(_content())
    content["weightsManifest"][0]["paths"] = ["shard1of2.bin"] * 10_001
    model.write_text(json.dumps(content))
    with pytest.raises(BninspectError, match="too many shards"):
        formats.read(model)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), new=st.text(max_size=6), length=st.integers(0, 6))
def test_changed_file_is_read_or_refused(model: Path, place: int, new: str, length: int) -> None:
    text = json.dumps(_content())
    start = place % len(text)
    model.write_text(text[:start] + new + text[start + length :], encoding="utf-8", errors="replace")
    try:
        formats.read(model)
    except BninspectError:
        return


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return what imports a module of TensorFlow.js' converter, without the packages that only its others need."""
    spec = find_spec("tensorflowjs")
    if spec is None or spec.origin is None:
        pytest.skip("tensorflowjs is not installed: pip install --no-deps tensorflowjs")
    folder = Path(spec.origin).parent
    for package, place in (("tensorflowjs", folder), ("tensorflowjs.converters", folder / "converters")):
        module = types.ModuleType(package)
        module.__path__ = [str(place)]
        monkeypatch.setitem(sys.modules, package, module)
    return importlib.import_module


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stored", ["float32", "float16", "uint8", "uint16"])
def test_file_of_the_converter_is_the_model(tmp_path: Path, converter: Callable[[str], Any], stored: str) -> None:
    written = converter("tensorflowjs.converters.keras_h5_conversion")
    reading = converter("tensorflowjs.read_weights")
    import tf_keras

    layers = tf_keras.layers
    # Its inner scopes sort before and behind those of the outer model.
    inner = tf_keras.Sequential([layers.Dense(4, input_shape=(4,)), layers.BatchNormalization(epsilon=0.01)], name="z")
    x = inputs = layers.Input((6, 4))
    x = layers.TimeDistributed(layers.BatchNormalization(name="within"), name="a")(x)
    x = layers.BatchNormalization(name="m", epsilon=0.25)(x)
    x = inner(layers.GlobalAveragePooling1D()(x))
    built = tf_keras.Model(inputs, layers.BatchNormalization(name="b", scale=False)(x))
    built.set_weights([GENERATOR.uniform(0.5, 2, one.shape) for one in built.get_weights()])
    built.save(tmp_path / "m.h5")
    types_of = {} if stored == "float32" else {"quantization_dtype_map": {stored: "*"}}
    written.save_keras_model(built, str(tmp_path / "js"), **types_of)

    source, found = formats.read(tmp_path / "m.h5"), formats.read(tmp_path / "js" / "model.json")
    assert [(one.name, one.epsilon, one.scale) for one in found.layers] == [
        (one.name, one.epsilon, one.scale) for one in source.layers
    ]
    manifest = json.loads((tmp_path / "js" / "model.json").read_text())["weightsManifest"]
    own = {one["name"]: one["data"] for one in reading.read_weights(manifest, str(tmp_path / "js"), flatten=True)}
    for layer, original in zip(found.layers, source.layers, strict=True):
        assert layer.dtype == ("float16" if stored == "float16" else "float32")
        for role, array in layer.arrays.items():
            library = own[f"{layer.location}/{role}"]
            if stored.startswith("uint"):
                # The converter's own reader multiplies in float32, a browser in float64.
                np.testing.assert_array_max_ulp(array, library.astype(np.float32), 2)
            else:
                expected = original.arrays[role].astype(array.dtype)
                np.testing.assert_array_equal(array, expected)
                np.testing.assert_array_equal(array, library.astype(array.dtype))
