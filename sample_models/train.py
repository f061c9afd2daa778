"""Trains the sample models and writes them, and what is known of each, beside this file.

    python sample_models/train.py

takes about a minute on two CPU cores and needs TensorFlow, tf_keras, Keras 3 and scikit-learn. Seeds are
fixed and TensorFlow's operations deterministic; other versions give other values and the same verdicts.

`manifest.json` holds for each file how it was made, its accuracy, its layers and a digest of their parameters
as the framework held them: these are written here. What `bninspect verify` must say of the file (`verify`) is
written by hand, and this script leaves it alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import architectures
import damage
import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
SEED = 20240229
BATCH = 32
PARAMETERS = ("gamma", "beta", "moving_mean", "moving_variance")
Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Task:
    """Inputs and answers to train on, and others to measure the accuracy with."""

    x: Any
    y: Array
    test_x: Any
    test_y: Array


def digits() -> Task:
    """Return scikit-learn's 1797 handwritten digits in [0, 1], a fifth of them held back."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = (data.images / 16.0).astype("float32")[..., np.newaxis]
    x, test_x, y, test_y = train_test_split(images, data.target, test_size=0.2, random_state=SEED, stratify=data.target)
    return Task(x, y, test_x, test_y)


def pairs(task: Task) -> Task:
    """Return pairs of images and whether both show the same digit, which half of them do."""
    generator = np.random.default_rng(SEED)

    def pair(x: Array, y: Array, count: int) -> tuple[dict[str, Array], Array]:
        left = generator.integers(len(x), size=count)
        right = generator.integers(len(x), size=count)
        for i in range(0, count, 2):
            right[i] = generator.choice(np.flatnonzero(y == y[left[i]]))
        return {"left": x[left], "right": x[right]}, (y[left] == y[right]).astype("float32")

    return Task(*pair(task.x, task.y, 6000), *pair(task.test_x, task.test_y, 1000))


def train(api: Any, build: Callable[[Any], Any], task: Task, *, epochs: int = 20) -> tuple[Any, float]:
    """Train the model that `build` makes and return it with its accuracy on what was held back."""
    api.backend.clear_session()
    api.utils.set_random_seed(SEED)
    model = build(api)
    loss = "sparse_categorical_crossentropy" if model.output_shape[-1] > 1 else "binary_crossentropy"
    steps = epochs * -(-len(task.y) // BATCH)
    rate = api.optimizers.schedules.CosineDecay(0.01, steps)
    model.compile(optimizer=api.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
    model.fit(task.x, task.y, batch_size=BATCH, epochs=epochs, verbose=0)
    return model, float(model.evaluate(task.test_x, task.test_y, verbose=0)[1])


def norms(parent: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every batch-norm layer below `parent` with the names of what holds it, each layer once."""
    for layer in getattr(parent, "layers", None) or [parent.layer]:
        name = f"{path}{layer.name}"
        if type(layer).__name__ == "BatchNormalization":
            yield name, layer
        elif hasattr(layer, "layers") or hasattr(layer, "layer"):
            yield from norms(layer, f"{name}/")


def facts(layer: Any) -> dict[str, Any]:
    """Return what the framework holds of a layer; `digest` is of its arrays, little-endian, in that order."""
    arrays = [np.asarray(array) for name in PARAMETERS if (array := getattr(layer, name)) is not None]
    content = b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays)
    return {
        "channels": int(layer.moving_variance.shape[0]),
        "epsilon": layer.epsilon,
        "momentum": layer.momentum,
        "digest": hashlib.sha256(content).hexdigest(),
    }


class Manifest:
    """`manifest.json`: what this script measured, beside what people expect."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"models": {}}

    def add(self, name: str, made: str, model: Any = None, accuracy: float | None = None) -> None:
        """Note the file `name`, which exists already, and the layers of the model that it was saved from."""
        content = (FOLDER / name).read_bytes()
        layers = None if model is None else {path: facts(layer) for path, layer in norms(model)}
        entry = self.content["models"].setdefault(name, {"verify": []})
        entry |= {"made": made, "accuracy": None if accuracy is None else round(accuracy, 4)}
        entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "layers": layers}
        print(f"{name:40} {len(content):7} bytes  accuracy {entry['accuracy']}", flush=True)

    def add_export(self, name: str, source: str, made: str) -> None:
        """Note the file `name`, which was made from the model `source`."""
        content = (FOLDER / name).read_bytes()
        entry = self.content.setdefault("exports", {}).setdefault(name, {"verify": {}})
        entry |= {"of": source, "made": made, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        print(f"{name:40} {len(content):7} bytes", flush=True)

    def save(self, versions: dict[str, str]) -> None:
        """Write the manifest with the versions that made the models."""
        self.content["versions"] = versions
        self.path.write_text(json.dumps(self.content, indent=2) + "\n")


def write_keras2(manifest: Manifest, api: Any, task: Task) -> None:
    """Write the models that tf_keras saves."""
    model, accuracy = train(api, architectures.convolutional, task)
    model.save(FOLDER / "keras2_digits.h5")
    manifest.add("keras2_digits.h5", "tf_keras: whole model with its optimiser, HDF5", model, accuracy)
    model.save(FOLDER / "keras2_digits.keras")
    manifest.add("keras2_digits.keras", "tf_keras: the same model as .keras", model, accuracy)
    model.save_weights(FOLDER / "keras2_digits_weights.h5")
    manifest.add("keras2_digits_weights.h5", "tf_keras: its weights only, HDF5", model, accuracy)

    nested = partial(architectures.nested, inner="inner_norm")
    training_mode = partial(architectures.convolutional, training=True)
    for name, build, data, made in (
        ("keras2_nested.h5", nested, task, "batch norm in models in a model"),
        ("keras2_shared.h5", architectures.shared, pairs(task), "one batch norm called twice, two inputs"),
        ("keras2_lambda.h5", architectures.with_lambda, task, "a Lambda layer, which holds bytecode"),
        ("keras2_training_mode.h5", training_mode, task, "training=True in the first batch norm's call"),
    ):
        model, accuracy = train(api, build, data)
        model.save(FOLDER / name, include_optimizer=False)
        manifest.add(name, f"tf_keras: {made}, HDF5", model, accuracy)


def write_keras3(manifest: Manifest, api: Any, task: Task) -> None:
    """Write the models that Keras 3 saves."""
    model, accuracy = train(api, architectures.convolutional, task)
    model.save(FOLDER / "keras3_digits.keras")
    manifest.add("keras3_digits.keras", "Keras 3: whole model with its optimiser, .keras", model, accuracy)
    model.save(FOLDER / "keras3_digits.h5", include_optimizer=False)
    manifest.add("keras3_digits.h5", "Keras 3: the same model as HDF5", model, accuracy)
    model.save_weights(FOLDER / "keras3_digits.weights.h5")
    manifest.add("keras3_digits.weights.h5", "Keras 3: its weights only, .weights.h5", model, accuracy)
    write_damaged(manifest, bytes(np.asarray(next(norms(model))[1].gamma).tobytes()))

    for name, build, made in (
        ("keras3_nested.keras", architectures.nested, "batch norm in models in a model"),
        ("keras3_partial.keras", architectures.partial, "layers without gamma, without beta, without both"),
        ("keras3_recurrent.keras", architectures.recurrent, "batch norm in TimeDistributed"),
        ("keras3_without_batch_norm.keras", architectures.without_batch_norm, "no batch norm at all"),
    ):
        model, accuracy = train(api, build, task)
        model.save(FOLDER / name)
        manifest.add(name, f"Keras 3: {made}, .keras", model, accuracy)

    write_mixed_precision(manifest, api, task)


def write_mixed_precision(manifest: Manifest, api: Any, task: Task) -> None:
    """Write the model whose layers compute in float16 and keep float32 variables."""

    def build(api: Any) -> Any:
        # Here and not before: clear_session, with which training starts, forgets the policy.
        api.config.set_dtype_policy("mixed_float16")
        return architectures.convolutional(api)

    model, accuracy = train(api, build, task)
    api.config.set_dtype_policy("float32")
    if {layer.compute_dtype for _, layer in norms(model)} != {"float16"}:
        raise ValueError("the model is not in mixed precision")
    model.save(FOLDER / "keras3_mixed_float16.keras")
    manifest.add("keras3_mixed_float16.keras", "Keras 3: mixed_float16 policy, .keras", model, accuracy)


def write_damaged(manifest: Manifest, gamma: bytes) -> None:
    """Write broken copies of the Keras 3 digits model; `gamma` is the first one in it, as bytes."""
    source, archive = FOLDER / "keras3_digits.h5", FOLDER / "keras3_digits.keras"
    for name, layer, parameter, channel, value in (
        ("broken_negative_variance.h5", "batch_normalization_1", "moving_variance", 3, -0.25),
        ("broken_slightly_negative_variance.h5", "batch_normalization_1", "moving_variance", 3, -0.0005),
        ("broken_nan.h5", "batch_normalization_2", "gamma", 5, np.nan),
    ):
        damage.set_value(source, FOLDER / name, (layer, parameter, channel), value)
        manifest.add(name, f"keras3_digits.h5 with {layer} {parameter}[{channel}] = {value}")
    damage.truncate(source, FOLDER / "broken_truncated.h5", 0.6)
    manifest.add("broken_truncated.h5", "the first 60 % of keras3_digits.h5")
    damage.point(source, FOLDER / "broken_lfs_pointer.h5")
    manifest.add("broken_lfs_pointer.h5", "what a clone without Git LFS leaves of keras3_digits.h5")
    damage.flip_bit(archive, FOLDER / "broken_bit.keras", "model.weights.h5", gamma)
    manifest.add("broken_bit.keras", "keras3_digits.keras with one bit of a gamma flipped, CRC untouched")


def write_exports(manifest: Manifest, tf: Any, api: Any) -> None:
    """Write what TFLite's converter makes of a model, and what it makes of it with another epsilon."""
    model = api.models.load_model(FOLDER / "keras2_digits.h5")
    (FOLDER / "keras2_digits.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    manifest.add_export("keras2_digits.tflite", "keras2_digits.h5", "by TFLite's converter")
    model.get_layer("batch_normalization_1").epsilon = 1e-5
    (FOLDER / "broken_epsilon.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    manifest.add_export("broken_epsilon.tflite", "keras2_digits.h5", "with epsilon 1e-5 in batch_normalization_1")


def main() -> None:
    """Train and write everything."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import h5py
    import keras
    import tensorflow as tf
    import tf_keras

    tf.config.experimental.enable_op_determinism()
    manifest, task = Manifest(FOLDER / "manifest.json"), digits()
    write_keras2(manifest, tf_keras, task)
    write_keras3(manifest, keras, task)
    write_exports(manifest, tf, tf_keras)
    modules = (tf, tf_keras, keras, h5py, np)
    manifest.save({module.__name__: module.__version__ for module in modules})


if __name__ == "__main__":
    main()
