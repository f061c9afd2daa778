"""The networks of the sample models. `api` is the module `tf_keras` (Keras 2) or `keras` (Keras 3).

All of them read scikit-learn's digits: 8x8 images, one channel, ten classes. They are small on purpose; what
they differ in is where their batch-norm layers are and how those are configured.
"""

from __future__ import annotations

from typing import Any

SHAPE = (8, 8, 1)
CLASSES = 10


def convolutional(api: Any, *, training: bool | None = None) -> Any:
    """Three convolutions and a dense layer, batch norm after each, names and settings left at their defaults.

    Args:
        api: `tf_keras` or `keras`.
        training: passed to the first batch norm; True fixes it in training mode, a common mistake.
    """
    layers = api.layers
    images = api.Input(SHAPE)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(images)
    x = layers.ReLU()(layers.BatchNormalization()(x, **({} if training is None else {"training": training})))
    x = layers.Conv2D(12, 3, padding="same", use_bias=False)(x)
    x = layers.MaxPooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(24, use_bias=False)(x)))
    return api.Model(images, layers.Dense(CLASSES, activation="softmax")(x))


def nested(api: Any, *, inner: str = "norm") -> Any:
    """A functional model that holds a Sequential model that holds another one, each with a batch norm.

    Args:
        api: `tf_keras` or `keras`.
        inner: name of the innermost batch norm. Keras 3 allows that of the outer one; tf_keras, which puts
            both into one HDF5 group, cannot save that.
    """
    layers = api.layers
    block = api.Sequential(
        [
            layers.Conv2D(12, 3, padding="same", use_bias=False),
            layers.BatchNormalization(name=inner, epsilon=1.001e-5),
            layers.ReLU(),
        ],
        name="block",
    )
    features = api.Sequential(
        [
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            block,
            layers.GlobalAveragePooling2D(),
        ],
        name="features",
    )
    images = api.Input(SHAPE)
    x = layers.BatchNormalization(name="head_norm", momentum=0.9)(features(images))
    return api.Model(images, layers.Dense(CLASSES, activation="softmax")(x))


def partial(api: Any) -> Any:
    """Layers without gamma, without beta, and without both."""
    layers = api.layers
    images = api.Input(SHAPE)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(images)
    x = layers.ReLU()(layers.BatchNormalization(scale=False, name="no_scale")(x))
    x = layers.Conv2D(12, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(center=False, name="no_center")(x))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(scale=False, center=False, name="statistics_only")(x))
    return api.Model(images, layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


def shared(api: Any) -> Any:
    """One tower for two images: its batch norm is called twice. Says whether both show the same digit."""
    layers = api.layers
    left, right = api.Input(SHAPE, name="left"), api.Input(SHAPE, name="right")
    tower = [
        layers.Conv2D(12, 3, padding="same", use_bias=False),
        layers.BatchNormalization(name="shared_norm"),
        layers.ReLU(),
        layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(32),
    ]
    ends = []
    for x in (left, right):
        for layer in tower:
            x = layer(x)  # noqa: PLW2901 - layer after layer
        ends.append(x)
    difference = layers.Subtract()(ends)
    x = layers.BatchNormalization(name="pair_norm")(layers.Multiply()([difference, difference]))
    x = layers.Dense(16, activation="relu")(x)
    return api.Model([left, right], layers.Dense(1, activation="sigmoid")(x))


def recurrent(api: Any) -> Any:
    """Reads an image row by row: batch norm inside TimeDistributed, and another on the summary."""
    layers = api.layers
    rows = api.Input(SHAPE[:2])
    x = layers.TimeDistributed(layers.Dense(16, use_bias=False, name="dense"), name="each_row")(rows)
    x = layers.TimeDistributed(layers.BatchNormalization(name="norm"), name="each_row_norm")(x)
    x = layers.BatchNormalization(name="summary_norm")(layers.GRU(24)(x))
    return api.Model(rows, layers.Dense(CLASSES, activation="softmax")(x))


def with_lambda(api: Any) -> Any:
    """A Lambda layer before the convolution: the file holds Python bytecode."""
    layers = api.layers
    # With a file name of its own: the bytecode would otherwise carry the path of the machine that trains.
    function = eval(compile("lambda x: 2 * x - 1", "lambda", "eval"))  # the text is ours
    images = api.Input(SHAPE)
    x = layers.Lambda(function, output_shape=SHAPE, name="centre")(images)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.Flatten()(layers.ReLU()(layers.BatchNormalization(name="norm")(x)))
    return api.Model(images, layers.Dense(CLASSES, activation="softmax")(x))


def without_batch_norm(api: Any) -> Any:
    """A model in which there is nothing to check."""
    layers = api.layers
    return api.Sequential(
        [
            api.Input(SHAPE),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.LayerNormalization(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
