"""Where the weights of each layer of a configuration are: `layers/functional/layers/batch_normalization_1` ...

The path is made of classes and attributes, never of layer names, so that a model can be rebuilt under other names.
In `layers`, and in any other list, objects are numbered per class in the model's order. An object that stands twice
is saved where it comes first; whether it is counted where it stands again differs. The input layer that Keras adds to
a Sequential has a class of its own, so whether that is counted makes no difference.

Source: `_save_container_state` and `to_snake_case` in Keras 2.12 to 3.15.1, each of which was run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bninspect.formats.keras.config import Architecture
    from bninspect.formats.keras.config_node import ConfigNode

LAYERS = "layers"

# Wrappers keep what they wrap under an attribute that is called otherwise than in their configuration.
_ATTRIBUTES = {("Bidirectional", "layer"): "forward_layer"}
_OWN = frozenset({LAYERS, "layer", "forward_layer", "backward_layer", "cell", "cells"})


@dataclass(frozen=True)
class WeightPlace:
    """Where the weights of one object should be."""

    node: ConfigNode
    path: str
    """Path of its group; empty for the model."""
    around: str
    """Path of the object that it is part of."""
    certain: bool
    """Whether all attributes on the way are Keras's own. Those of custom layers are a guess."""


@dataclass(frozen=True)
class _Counting:
    """What the numbers depend on."""

    keras: int
    twice: bool
    """Keras 2.12 and 2.13 count a layer with weights twice: as `layer-0` and as `layer_with_weights-0`."""
    occupied: frozenset[str]
    """Paths at or below which there are arrays."""
    repeats: Mapping[tuple[str, ...], tuple[str, ...]]
    paths: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Where each object stands first."""


def places(architecture: Architecture, version: tuple[int, int], full: Iterable[str]) -> Iterator[WeightPlace]:
    """Yield a place for every object of the configuration that stands there first, in the model's order.

    Args:
        architecture: the configuration.
        version: of the Keras that wrote it.
        full: paths of all groups that hold arrays.
    """
    steps = [path.split("/") for path in full]
    occupied = frozenset("/".join(path[:depth]) for path in steps for depth in range(1, len(path) + 1))
    counting = _Counting(version[0], version in {(2, 12), (2, 13)}, occupied, architecture.repeats)
    yield from _within(WeightPlace(architecture.root, "", "", certain=True), counting)


def snake_case(class_name: str, keras: int) -> str:
    """Return a class name as Keras spells it in group paths: `Conv2DTranspose` is `conv2d_transpose`."""
    plain = re.sub(r"\W+", "", class_name) if keras >= 3 else class_name
    spread = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", plain)
    snake = re.sub("([a-z])([A-Z])", r"\1_\2", spread).lower()
    return f"private{snake}" if keras < 3 and snake.startswith("_") else snake


def _within(place: WeightPlace, counting: _Counting) -> Iterator[WeightPlace]:
    yield place
    node = place.node
    used: Counter[tuple[str, str]] = Counter()
    for child in node.children:
        first = counting.repeats.get(child.path)
        if first and counting.keras < 3 and not counting.twice:
            continue
        attribute = _ATTRIBUTES.get((node.class_name, child.attribute), child.attribute)
        path = f"{place.path}/{attribute}".lstrip("/")
        name = snake_case(child.class_name, counting.keras)
        if isinstance(node.config.get(child.attribute), list):
            number = used[attribute, name]
            path += f"/{name}_{number}" if number else f"/{name}"
        if first:
            path = counting.paths.get(first, path)
        else:
            counting.paths[child.path] = path
        both = counting.twice and attribute == LAYERS and path in counting.occupied
        used[attribute, name] += 2 if both else 1
        if not first:
            certain = place.certain and attribute in _OWN
            yield from _within(WeightPlace(child, path, place.path, certain), counting)
