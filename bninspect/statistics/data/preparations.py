"""The usual preparations of images and sound, by name: what is done to data before a model is given it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from bninspect.errors import UsageError
from bninspect.records import Array
from bninspect.statistics.data.samples import Samples

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)
"""Blue, green, red. Source of all three: keras.applications.imagenet_utils.preprocess_input, modes torch and caffe."""


def by_channel(values: Sequence[float], x: Array) -> Array:
    """Return one number per channel, to be broadcast against images of 3 channels, last or, failing that, second."""
    shape = [1] * x.ndim
    shape[channel_axis(x)] = 3
    return np.asarray(values, np.float32).reshape(shape)


def channel_axis(x: Array) -> int:
    """Return the axis of the channels of images: the last one or, if it has not 3, the second. -1 or 1."""
    return 1 if x.ndim == 4 and x.shape[-1] != 3 and x.shape[1] == 3 else -1


def _torch(x: Array) -> Array:
    return (x / np.float32(255) - by_channel(IMAGENET_MEAN, x)) / by_channel(IMAGENET_DEVIATION, x)


def _caffe(x: Array) -> Array:
    return np.flip(x, channel_axis(x)) - by_channel(CAFFE_MEAN, x)


PREPARATIONS: Mapping[str, tuple[str, Callable[[Array], Array]]] = MappingProxyType(
    {
        "unit": ("divided by 255", lambda x: x / np.float32(255)),
        "tf": ("divided by 127.5, less 1", lambda x: x / np.float32(127.5) - np.float32(1)),
        "torch": ("divided by 255, less ImageNet's mean, divided by its deviation", _torch),
        "caffe": ("channels reversed, less ImageNet's mean", _caffe),
    }
)
"""By name, what is done to values from 0 to 255 in words, and how."""


BY_CHANGE: Mapping[str, str] = MappingProxyType(
    {
        "scale 0..255 to 0..1": "unit",
        "scale 0..255 to -1..1": "tf",
        "torch from 0..255": "torch",
        "caffe from 0..255": "caffe",
    }
)
"""The preparation that is a change of `changes`, by its name."""


def prepared(data: Samples, name: str | None) -> Samples:
    """Return data whose samples are prepared when they are read; of several inputs those that are images.

    Raises:
        UsageError: there is no such preparation.
    """
    if name is None:
        return data
    if name not in PREPARATIONS:
        raise UsageError(f"there is no preparation {name!r}", why=f"known are {', '.join(PREPARATIONS)}")
    _, change = PREPARATIONS[name]

    def read(places: Sequence[int]) -> Mapping[str, Array]:
        arrays = data.read(places)
        return {
            key: change(values.astype(np.float32)) if len(arrays) == 1 or values.ndim == 4 else values
            for key, values in arrays.items()
        }

    return Samples(data.title, data.count, read, data.notes)


def sentence(name: str | None, notes: Sequence[str]) -> str:
    """Return what is done to data, in words."""
    done = [] if name is None else [f"{name}: {PREPARATIONS[name][0]}"]
    return "; ".join([*notes, *done])
