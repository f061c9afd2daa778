"""Ten small nets, really trained on real data that packages ship, half of them with what training adds to the data.

Each is saved three times: settled (the last epochs at a small rate), stopped in the middle at a high rate, and with
weights that are the mean of two checkpoints while the statistics are those of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Augment = Callable[[Array, np.random.Generator], Array]
STAGES = ("settled", "moving", "averaged")


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a net is trained."""

    name: str
    framework: str
    """keras, tf_keras or torch."""
    data: str
    """digits, tiles, textures or cancer."""
    preparation: str
    """What is done to the data: a key of PREPARATIONS."""
    augment: str = ""
    dropout: float = 0.0
    decay: float = 0.0
    convolutions: tuple[int, ...] = (12, 24)


RECIPES = (
    Recipe("digits, Keras 3", "keras", "digits", "unit"),
    Recipe("digits, Keras 3, shifted and brightened", "keras", "digits", "unit", augment="shift"),
    Recipe("digits, tf-keras, dropout", "tf_keras", "digits", "signed", dropout=0.3),
    Recipe("digits, torch, weight decay", "torch", "digits", "raw", decay=5e-4),
    Recipe("tiles, Keras 3", "keras", "tiles", "unit"),
    Recipe("tiles, Keras 3, mirrored and brightened", "keras", "tiles", "torch", augment="mirror"),
    Recipe("tiles, tf-keras", "tf_keras", "tiles", "signed"),
    Recipe("tiles, torch", "torch", "tiles", "caffe"),
    Recipe("textures, torch, dropout and weight decay", "torch", "textures", "decibel", dropout=0.3, decay=5e-4),
    Recipe("cancer, Keras 3, dropout", "keras", "cancer", "standardised", dropout=0.2, convolutions=()),
)

CAFFE = np.array([103.939, 116.779, 123.68], np.float32)
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
PREPARATIONS: Mapping[str, Callable[[Array], Array]] = {
    "raw": lambda x: x,
    "unit": lambda x: x / 255,
    "signed": lambda x: x / 127.5 - 1,
    "torch": lambda x: (x / 255 - MEAN) / DEVIATION,
    "caffe": lambda x: x[..., ::-1] - CAFFE,
    "decibel": lambda x: 10 * np.log10(x),
    "standardised": lambda x: (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True),
}


@dataclass(frozen=True, eq=False)
class TrainedNet:
    """A net in its three stages, and its data as it is before it is prepared; channels last."""

    recipe: Recipe
    paths: Mapping[str, Path]
    seen: Array
    unseen: Array
    accuracy: Mapping[str, float] = field(default_factory=dict)

    def given(self, raw: Array) -> Array:
        """Return raw data prepared as it was for the training, in the layout of the framework."""
        return self.laid_out(PREPARATIONS[self.recipe.preparation](raw).astype(np.float32))

    def laid_out(self, x: Array) -> Array:
        """Return images in the layout of the framework."""
        first = self.recipe.framework == "torch" and x.ndim == 4
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if first else x


def data(name: str) -> tuple[Array, Array]:
    """Return raw samples, shuffled, float32 (images 0..255), and their classes."""
    samples, classes = {"digits": _digits, "tiles": _tiles, "textures": _textures, "cancer": _cancer}[name]()
    order = np.random.default_rng(0).permutation(len(samples))
    return samples[order].astype(np.float32), classes[order]


def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8, 1) * (255 / 16), classes


def _tiles() -> tuple[Array, Array]:
    """Return tiles of photographs that scikit-learn and scikit-image ship; the class is the photograph."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    images = [
        *load_sample_images().images,
        *(getattr(skimage.data, one)() for one in ("astronaut", "chelsea", "coffee")),
    ]
    found = [_cut(image[..., :3], 16, 420, seed) for seed, image in enumerate(images)]
    return np.concatenate(found), np.repeat(np.arange(len(found)), 420)


def _textures() -> tuple[Array, Array]:
    """Return power spectra of tiles of three textures, as of sound: none is zero."""
    import skimage.data

    images = [getattr(skimage.data, name)() for name in ("brick", "grass", "gravel")]
    tiles = np.concatenate([_cut(image[..., np.newaxis], 16, 600, seed) for seed, image in enumerate(images)])
    spectra = np.abs(np.fft.fft(tiles[..., 0].astype(np.float64), axis=2))[:, :, 1:9] ** 2 + 1.0
    return spectra[..., np.newaxis], np.repeat(np.arange(3), 600)


def _cancer() -> tuple[Array, Array]:
    from sklearn.datasets import load_breast_cancer

    table, classes = load_breast_cancer(return_X_y=True)
    return np.log(table + 1e-3), classes


def _cut(image: Array, side: int, number: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    height, width = image.shape[0] - side, image.shape[1] - side
    corners = zip(generator.integers(0, height, number), generator.integers(0, width, number), strict=True)
    return np.stack([image[top : top + side, left : left + side] for top, left in corners])


def _shifted(x: Array, generator: np.random.Generator) -> Array:
    rolled = np.stack([np.roll(one, generator.integers(-1, 2, 2), (0, 1)) for one in x])
    return rolled + generator.uniform(-0.05, 0.05, (len(x), 1, 1, 1)).astype(np.float32)


def _mirrored(x: Array, generator: np.random.Generator) -> Array:
    flipped = np.where(generator.random((len(x), 1, 1, 1)) < 0.5, x[:, :, ::-1], x)
    return flipped * generator.uniform(0.9, 1.1, (len(x), 1, 1, 1)).astype(np.float32)


def _as_it_is(x: Array, _generator: np.random.Generator) -> Array:
    return x


AUGMENT: Mapping[str, Augment] = {"": _as_it_is, "shift": _shifted, "mirror": _mirrored}
BATCH = 32
_CLASSES = {"digits": 10, "tiles": 5, "textures": 3, "cancer": 2}


def trained(recipe: Recipe, folder: Path) -> TrainedNet:
    """Train a net, or take it from a folder where it was saved earlier."""
    samples, classes = data(recipe.data)
    part = len(samples) * 3 // 4
    ending = {"keras": ".keras", "tf_keras": ".h5", "torch": ".pt2"}[recipe.framework]
    stem = "".join(one if one.isalnum() else "-" for one in recipe.name)
    paths = {stage: folder / f"{stem}-{stage}{ending}" for stage in STAGES}
    net = TrainedNet(recipe, paths, samples[:part], samples[part:])
    if not all(path.exists() for path in paths.values()):
        x, y = net.given(net.seen), classes[:part]
        (_train_torch if recipe.framework == "torch" else _train_keras)(recipe, x, y, paths)
    return net


def _epochs(x: Array, y: Array, recipe: Recipe, epochs: int, seed: int) -> Any:
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            part = order[start : start + BATCH]
            yield AUGMENT[recipe.augment](x[part], generator), y[part]


RATE, SETTLING = 0.05, (0.005, 0.0005)
APART = 40
"""Least steps at the high rate between two checkpoints that are averaged: an epoch of a small table has thirteen."""


def _between(x: Array) -> int:
    """Return the epochs from one checkpoint to the next."""
    return math.ceil(APART / (len(x) // BATCH))


def _train_keras(recipe: Recipe, x: Array, y: Array, paths: Mapping[str, Path]) -> None:
    from importlib import import_module

    keras = import_module(recipe.framework)
    keras.utils.set_random_seed(1)
    layers = keras.layers
    decay = {"kernel_regularizer": keras.regularizers.L2(recipe.decay)} if recipe.decay else {}
    net = keras.Sequential([layers.InputLayer(x.shape[1:])])
    for width in recipe.convolutions:
        net.add(layers.Conv2D(width, 3, use_bias=False, **decay))
        net.add(layers.BatchNormalization(momentum=0.9))
        net.add(layers.ReLU())
    if recipe.convolutions:
        net.add(layers.Flatten())
    for width in (24, 24) if not recipe.convolutions else (24,):
        if recipe.dropout:
            net.add(layers.Dropout(recipe.dropout))
        net.add(layers.Dense(width, **decay))
        net.add(layers.BatchNormalization(momentum=0.9))
        net.add(layers.ReLU())
    net.add(layers.Dense(int(y.max()) + 1))
    net.compile(keras.optimizers.SGD(RATE, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rate = net.optimizer.learning_rate
    for batch in _epochs(x, y, recipe, 4, 0):
        net.train_on_batch(*batch)
    earlier = net.get_weights()
    for batch in _epochs(x, y, recipe, _between(x), 1):
        net.train_on_batch(*batch)
    net.save(paths["moving"])
    later = net.get_weights()
    moving = {id(one) for one in net.non_trainable_variables}
    mean = [
        b if id(variable) in moving else (a + b) / 2 for a, b, variable in zip(earlier, later, net.weights, strict=True)
    ]
    net.set_weights(mean)
    net.save(paths["averaged"])
    net.set_weights(later)
    for number, slow in enumerate(SETTLING):
        rate.assign(slow)
        for batch in _epochs(x, y, recipe, 2, 2 + number):
            net.train_on_batch(*batch)
    net.save(paths["settled"])


def build_torch(recipe: Recipe, x: Array) -> Any:
    """Return a net of torch with its first weights."""
    import torch

    torch.manual_seed(1)
    parts: list[Any] = []
    channels = x.shape[1]
    for width in recipe.convolutions:
        parts += [torch.nn.Conv2d(channels, width, 3, bias=False), torch.nn.BatchNorm2d(width), torch.nn.ReLU()]
        channels = width
    places = np.prod([side - 2 * len(recipe.convolutions) for side in x.shape[2:]])
    parts += [torch.nn.Flatten(), torch.nn.Dropout(recipe.dropout), torch.nn.Linear(int(channels * places), 24)]
    parts += [torch.nn.BatchNorm1d(24), torch.nn.ReLU(), torch.nn.Linear(24, _CLASSES[recipe.data])]
    return torch.nn.Sequential(*parts)


def _train_torch(recipe: Recipe, x: Array, y: Array, paths: Mapping[str, Path]) -> None:
    import torch

    torch.set_num_threads(1)
    net = build_torch(recipe, x)
    steps = torch.optim.SGD(net.parameters(), RATE, momentum=0.9, weight_decay=recipe.decay)

    def run(epochs: int, seed: int) -> None:
        net.train()
        for batch, classes in _epochs(x, y, recipe, epochs, seed):
            steps.zero_grad()
            outputs = net(torch.from_numpy(np.ascontiguousarray(batch, np.float32)))
            torch.nn.functional.cross_entropy(outputs, torch.from_numpy(classes.astype(np.int64))).backward()
            steps.step()

    def save(path: Path) -> None:
        batch = torch.export.Dim("batch", min=1, max=65536)
        example = (torch.from_numpy(x[:4]),)
        torch.export.save(torch.export.export(net.eval(), example, dynamic_shapes=({0: batch},)), path)

    run(4, 0)
    earlier = {name: value.clone() for name, value in net.state_dict().items()}
    run(_between(x), 1)
    save(paths["moving"])
    later = {name: value.clone() for name, value in net.state_dict().items()}
    mean = {
        name: value if "running" in name or "num_batches" in name else (value + earlier[name]) / 2
        for name, value in later.items()
    }
    net.load_state_dict(mean)
    save(paths["averaged"])
    net.load_state_dict(later)
    for number, slow in enumerate(SETTLING):
        for group in steps.param_groups:
            group["lr"] = slow
        run(2, 2 + number)
    save(paths["settled"])
