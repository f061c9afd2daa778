"""A walk from depth to depth finds the bits that a pass from the front for each layer finds, and computes less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bninspect
from bninspect import formats
from bninspect.errors import BninspectError
from bninspect.records import Array
from bninspect.records.recalibrated import Recalibrated
from bninspect.runtimes import loading
from bninspect.settings import Settings
from bninspect.statistics import recalibration, stops
from bninspect.statistics.recalibrate_task import recalibrate_checkpoint

pytestmark = pytest.mark.tensorflow


def data(samples: int = 130) -> Array:
    return (np.random.default_rng(0).standard_normal((samples, 9, 9, 3)) * 2 + 1).astype(np.float32)


def build(keras: Any) -> Any:
    """Return a net with a residual block, whose shortcut has a norm of its own, in a model within the model."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = layers.Input((7, 7, 6))
    a = layers.Conv2D(6, 3, padding="same")(layers.ReLU()(layers.BatchNormalization(name="a")(x)))
    a = layers.BatchNormalization(name="b")(a)
    s = layers.BatchNormalization(name="s")(layers.Conv2D(6, 1)(x))
    block = keras.Model(x, layers.ReLU()(layers.Add()([a, s])), name="block")
    x = layers.Input((9, 9, 3))
    h = block(layers.Conv2D(6, 3)(x))
    h = layers.BatchNormalization(name="last")(layers.GlobalAveragePooling2D()(h))
    return keras.Model(x, layers.Dense(2)(h))


def saved(keras: Any, path: Path) -> Path:
    with loading.quiet():
        model = build(keras)
        for number, norm in enumerate(
            layer for layer in model._flatten_layers() if "ormalization" in repr(type(layer))
        ):
            size = int(norm.gamma.shape[0])
            generator = np.random.default_rng(number)
            norm.set_weights([*np.ones((1, size)), *np.zeros((1, size)), *generator.uniform(0.5, 2, (2, size))])
        model.save(path)
    return path


def recalibrated(model: Path, folder: Path, name: str, x: Array) -> tuple[Recalibrated, bytes]:
    np.save(folder / "x.npy", x)
    checkpoint = formats.read(model)
    output = folder / f"{name}{model.suffix}"
    done = recalibrate_checkpoint(checkpoint, checkpoint, output, Settings(data=str(folder / "x.npy")))
    return done, output.read_bytes()


@pytest.mark.parametrize(("package", "suffix"), [("keras", ".keras"), ("tf_keras", ".h5")])
def test_walking_finds_what_passes_find(
    package: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras = pytest.importorskip(package)
    model = saved(keras, tmp_path / f"net{suffix}")
    walked, first = recalibrated(model, tmp_path, "walked", data())
    assert (walked.passes, walked.depths, walked.notes) == (2, 3, ())
    monkeypatch.setattr(stops, "chosen", lambda seconds, *_: stops.Stops(frozenset({1}), sum(seconds), 0))
    _, second = recalibrated(model, tmp_path, "seldom", data()[::-1])
    monkeypatch.setattr(recalibration, "_taken_apart", lambda *_: (None, ()))
    passed, third = recalibrated(model, tmp_path, "passed", data())
    assert passed.passes == passed.depths + 1 > 3
    assert first == second == third


def test_a_model_whose_parts_compute_other_bits_is_not_walked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    from bninspect.runtimes.keras.dissection import _Parts

    original = _Parts.run

    def other(self: _Parts, given: Any, names: Any) -> dict[str, Array]:
        values = original(self, given, names)
        return {name: np.nextafter(each, np.float32(9)) for name, each in values.items()}

    model = saved(keras, tmp_path / "net.keras")
    _, right = recalibrated(model, tmp_path, "right", data())
    monkeypatch.setattr(_Parts, "run", other)
    done, same = recalibrated(model, tmp_path, "same", data())
    assert done.passes > 2
    assert any("other bits" in note for note in done.notes)
    assert same == right


def test_a_layer_that_depends_on_itself_is_refused(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    norm, x = layers.BatchNormalization(name="twice"), layers.Input((9, 9, 3))
    model = keras.Model(x, norm(layers.Conv2D(3, 1)(norm(x))))
    with loading.quiet():
        model.save(tmp_path / "net.keras")
    with pytest.raises(BninspectError, match="twice"):
        bninspect.recalibrate(tmp_path / "net.keras", data(), tmp_path / "out.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["net.keras"]


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_of_a_saved_model_only_numbers_and_checksums_change(package: str, tmp_path: Path) -> None:
    import tensorflow as tf

    keras = pytest.importorskip(package)
    source = tmp_path / "source"
    with loading.quiet():
        model = build(keras)
        model.export(source, verbose=False) if package == "keras" else model.save(source, save_format="tf")
    x = data()
    for name, part in (("one", x), ("two", x[::-1])):
        done = bninspect.recalibrate(source, part, tmp_path / name)
        assert done.passes == 2
    files = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    one, two = tmp_path / "one", tmp_path / "two"
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)
    assert {path.relative_to(one) for path in one.rglob("*") if path.is_file()} == set(files)
    changed = {str(name) for name in files if (one / name).read_bytes() != (source / name).read_bytes()}
    assert changed == {"fingerprint.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"}
    # TensorFlow itself reads every tensor, whose CRC it checks.
    reader = tf.train.load_checkpoint(str(one / "variables" / "variables"))
    original = tf.train.load_checkpoint(str(source / "variables" / "variables"))
    others = [
        name
        for name, shape in reader.get_variable_to_shape_map().items()
        if shape and not np.array_equal(reader.get_tensor(name), original.get_tensor(name))
    ]
    assert len(others) == 8
    with loading.quiet():
        arrived = model.get_layer(index=1)(x).numpy().astype(np.float64).mean(axis=(0, 1, 2))
    means = [reader.get_tensor(name) for name in others]
    assert any(np.allclose(mean, arrived, rtol=1e-5) for mean in means)
    assert bninspect.verify(one).summary.exit_code == 0
    with pytest.raises(BninspectError, match="it is a folder"):
        bninspect.recalibrate(source, x, one, force=True)
