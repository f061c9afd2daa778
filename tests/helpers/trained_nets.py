"""Small nets that are really trained, on real data, until they have settled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bninspect.records import Array
from bninspect.runtimes import loading


@dataclass(frozen=True, eq=False)
class Trained:
    """A net and its data."""

    path: Path
    seen: Array
    """What it was trained on."""
    unseen: Array
    """Data of the same kind that it was not."""


def digits_net(folder: Path) -> Trained:
    """Train a Keras net of three batch norms on scikit-learn's digits, 0..1; the last epochs at a small rate."""
    import keras
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images = (images[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    labels = labels[order]
    keras.utils.set_random_seed(1)
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(12, 3, use_bias=False),
            layers.BatchNormalization(momentum=0.9, name="first"),
            layers.ReLU(),
            layers.Conv2D(24, 3, use_bias=False),
            layers.BatchNormalization(momentum=0.9, name="second"),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(24),
            layers.BatchNormalization(momentum=0.9, name="third"),
            layers.ReLU(),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
    with loading.quiet():
        net.fit(images[:1400], labels[:1400], batch_size=32, epochs=5, verbose=0)
        net.optimizer.learning_rate = 0.001
        net.fit(images[:1400], labels[:1400], batch_size=32, epochs=2, verbose=0)
        path = folder / "digits.keras"
        net.save(path)
    return Trained(path, images[:1400], images[1400:])
