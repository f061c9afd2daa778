"""What each section of a `.cfg` computes, and what the `.weights` file holds of it: float32 numbers without names.

What a section stores, and in which order, follows from the shapes that run through the network (`load_weights_upto` in
parser.c). A batch norm is part of a [convolutional] or [connected] section with `batch_normalize=1`: beta (`biases`)
first, then gamma (`scales`), rolling_mean, rolling_variance, in front of the weights or, of [connected], behind them.

The file does not state epsilon, and Darknet has two: its CPU divides by sqrt(variance) + 0.000001, outside of the root
(`normalize_cpu`, blas.c), its GPU and AlexeyAB's fork by sqrt(variance + 0.00001).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bninspect.errors import DamagedFile, LimitExceeded, UnreadableFile
from bninspect.formats.darknet import cfg
from bninspect.formats.darknet.cfg import Section
from bninspect.records import Array, BatchNorm
from bninspect.records import graph as network
from bninspect.records.graph import Kernel
from bninspect.safe_text import printable

HEADER = re.compile(rb"\x00{4}[\x01-\x03]\x00{3}[\x00-\x10]\x00{3}", re.DOTALL)
"""Major version 0, minor 1 or more, revision."""
_SAME = "dropout yolo gaussian_yolo region detection softmax cost activation logistic l2norm"
"""Sections that return what they take, or as much."""
Shape = tuple[int, int, int]
"""Height, width and channels."""


@dataclass(frozen=True, eq=False)
class DarknetLayer:
    """A section with what the weights hold of it."""

    name: str
    section: Section
    takes: tuple[int, ...]
    """Places of the sections whose results it takes; -1 is the input."""
    shape: Shape
    """Of its result."""
    kernel: Kernel | None = None
    norm: BatchNorm | None = None


class _Stored:
    """The numbers of a weights file, taken one after the other."""

    def __init__(self, data: bytes, label: str) -> None:
        self._label = label
        if len(data) < 16 or not HEADER.match(data):
            raise DamagedFile(f"{label} is not a weights file of Darknet", why="its header is not one of Darknet's")
        minor = struct.unpack_from("<i", data, 4)[0]
        # From version 0.2 on the count of images that were seen has 8 bytes.
        start = 20 if minor >= 2 else 16
        body = memoryview(data)[start:]
        self._numbers = np.frombuffer(body[: len(body) // 4 * 4], "<f4")
        self._whole = len(body) % 4 == 0
        self._place = 0

    def take(self, whose: str, *shape: int) -> Array:
        """Return the next numbers. Raises DamagedFile if there are not as many."""
        size = math.prod(shape)
        if size > self._numbers.size - self._place:
            why = f"{whose} has {size:,} numbers, {self._numbers.size - self._place:,} are left"
            raise DamagedFile(f"{self._label} is cut off, or of another .cfg", why=why)
        values = self._numbers[self._place : self._place + size].reshape(shape).astype(np.float32)
        values.flags.writeable = False
        self._place += size
        return values

    def end(self) -> None:
        """Raise DamagedFile if numbers are left: then all that were taken may be those of other layers."""
        left = self._numbers.size - self._place
        if left or not self._whole:
            raise DamagedFile(f"{self._label} is of another .cfg", why=f"{left:,} numbers are left over")


def read_layers(sections: Sequence[Section], data: bytes, label: str) -> tuple[Shape, tuple[DarknetLayer, ...]]:
    """Return the shape of the input and the layers of a model, in order.

    Args:
        sections: of the `.cfg`.
        data: of the weights.
        label: what the file of the weights is called.

    Raises:
        DamagedFile: the two contradict themselves or each other.
        UnreadableFile: a section is of a kind that is not read.
        LimitExceeded: results would be larger than any.
    """
    stored = _Stored(data, label)
    height, width, channels = (sections[0].number(name, 0) for name in ("height", "width", "channels"))
    image = (height, width, channels or 3)
    layers = tuple(_layers(sections[1:], image, stored))
    stored.end()
    return image, layers


def _layers(sections: Sequence[Section], image: Shape, stored: _Stored) -> Iterator[DarknetLayer]:
    shapes = [image]
    for place, section in enumerate(sections):
        name = f"{place}.{section.kind}"
        takes = _sources(section, place)
        if any(not -1 <= take < place for take in takes):
            raise DamagedFile("the .cfg is damaged", why=f"{printable(name)} takes the result of a later section")
        taken = [shapes[take + 1] for take in takes]
        layer = _layer(name, section, takes, taken, stored)
        if min(layer.shape) < 0 or max(layer.shape) > cfg.MOST_NUMBER:
            raise LimitExceeded("the .cfg asks for too much", why=f"{printable(name)} returns {layer.shape}")
        shapes.append(layer.shape)
        yield layer


def _sources(section: Section, place: int) -> tuple[int, ...]:
    """Return which sections one takes: the one before, and for [route] and [shortcut] those that they name."""
    if section.kind == "route":
        named = section.numbers("layers") or (-1,)
    elif section.kind == "shortcut":
        named = (-1, *(section.numbers("from") or (-1,)))
    else:
        named = (-1,)
    return tuple(number if number >= 0 else place + number for number in named)


def _layer(
    name: str, section: Section, takes: tuple[int, ...], taken: Sequence[Shape], stored: _Stored
) -> DarknetLayer:
    height, width, channels = taken[0]
    size, stride = section.number("size", 1), max(section.number("stride", 1), 1)
    kernel, norm = None, None
    match section.kind:
        case "convolutional" | "deconvolutional":
            outputs = section.number("filters", 1)
            kernel, norm = _linear(name, section, stored, (outputs, channels, size))
            padding = size // 2 if section.number("pad", 0) else section.number("padding", 0)
            grown = section.kind == "deconvolutional"
            places = [
                (side - 1) * stride + size - 2 * padding if grown else (side + 2 * padding - size) // stride + 1
                for side in (height, width)
            ]
            shape = (places[0], places[1], outputs)
        case "connected":
            outputs = section.number("output", 1)
            kernel, norm = _linear(name, section, stored, (outputs, height * width * channels, 0))
            shape = (1, 1, outputs)
        case "maxpool" if "maxpool_depth" not in section.options:
            padding = section.number("padding", max(size, 1) - 1)
            shape = ((height + padding - size) // stride + 1, (width + padding - size) // stride + 1, channels)
        case "avgpool":
            shape = (1, 1, channels)
        case "upsample":
            shape = (height * stride, width * stride, channels)
        case "reorg" if not section.number("reverse", 0):
            shape = (height // stride, width // stride, channels * stride**2)
        case "crop":
            shape = (section.number("crop_height", 1), section.number("crop_width", 1), channels)
        case "route":
            shape = (height, width, sum(one[2] for one in taken) // max(section.number("groups", 1), 1))
        case kind if kind in _SAME.split() or (
            kind == "shortcut" and section.options.get("weights_type", "none") == "none"
        ):
            shape = taken[0]
        case kind:
            # The two Darknets store a [batchnorm] of its own differently, and recurrent sections hold sections.
            why = f"{printable(name)} may store numbers in an order that is not known"
            raise UnreadableFile(f"a section [{printable(kind)}] is not read", why=why)
    return DarknetLayer(name, section, takes, shape, kernel, norm)


def _linear(
    name: str, section: Section, stored: _Stored, sizes: tuple[int, int, int]
) -> tuple[Kernel, BatchNorm | None]:
    """Return what a section multiplies by and its batch norm, taken in the order in which they are stored."""
    outputs, inputs, size = sizes
    groups = section.number("groups", 1)
    strange = [word for word in ("dontload", "dontloadscales", "share_index", "flipped") if word in section.options]
    unsized = size < 0 or (size == 0) != (section.kind == "connected")
    if strange or unsized or min(outputs, inputs, groups) < 1 or inputs % groups or outputs % groups:
        why = f"{printable(name)}: {strange or f'{inputs} inputs, {outputs} outputs, {groups} groups of size {size}'}"
        raise UnreadableFile("a section is not read", why=why)
    bias = stored.take(name, outputs)
    if size:
        norm = _norm(name, section, stored, bias)
        if section.kind == "deconvolutional":
            weights = network.transposed(stored.take(name, inputs, outputs, size, size))
        else:
            weights = network.convolution(stored.take(name, outputs, inputs // groups, size, size), groups)
    else:
        weights = network.dense(stored.take(name, outputs, inputs).T)
        norm = _norm(name, section, stored, bias)
    return Kernel(weights, bias if norm is None else None, groups), norm


def _norm(name: str, section: Section, stored: _Stored, beta: Array) -> BatchNorm | None:
    """Return the batch norm of a section; None if it has none."""
    if not section.number("batch_normalize", 0):
        return None
    gamma, mean, variance = (stored.take(name, beta.size) for _ in range(3))
    return BatchNorm(
        name,
        gamma,
        beta,
        mean,
        variance,
        axis=(1,),
        scale=True,
        center=True,
        location=f"section {name.partition('.')[0]}",
        class_name=f"[{section.kind}]",
    )
