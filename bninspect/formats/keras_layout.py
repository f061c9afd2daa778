"""Where the weights of each layer of a configuration are: `layers/functional/layers/batch_normalization_1` ...

The path is made of classes and attributes, never of layer names, so that a model can be rebuilt under other names.
In `layers`, and in any other list, objects are numbered per class in the model's order. An object that stands twice
is saved where it comes first; Keras 3 still counts it where it stands again, Keras 2 does not. The input layer that
Keras adds to a Sequential has a class of its own, so whether it is counted makes no difference.

Source: `_save_container_state` and `to_snake_case` of Keras 2.13, 3.0 and 3.15.1.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bninspect.formats.keras_config import Architecture, Node

# Wrappers keep what they wrap under an attribute that is called otherwise than in their configuration.
_ATTRIBUTES = {("Bidirectional", "layer"): "forward_layer"}
_OWN = frozenset({"layers", "layer", "forward_layer", "backward_layer", "cell", "cells"})


@dataclass(frozen=True)
class Place:
    """Where the weights of one object should be."""

    node: Node
    path: str
    """Path of its group; empty for the model."""
    around: str
    """Path of the object that it is part of."""
    certain: bool
    """Whether all attributes on the way are Keras's own. Those of custom layers are a guess."""


def places(architecture: Architecture, keras: int) -> Iterator[Place]:
    """Yield a place for every object of the configuration that stands there first, in the model's order.

    Args:
        architecture: the configuration.
        keras: major version of the writer.
    """
    model = Place(architecture.root, "", "", certain=True)
    yield from _within(model, architecture, keras)


def snake_case(class_name: str, keras: int) -> str:
    """Return a class name as Keras spells it in group paths: `Conv2DTranspose` is `conv2d_transpose`."""
    plain = re.sub(r"\W+", "", class_name) if keras >= 3 else class_name
    spread = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", plain)
    snake = re.sub("([a-z])([A-Z])", r"\1_\2", spread).lower()
    return f"private{snake}" if keras < 3 and snake.startswith("_") else snake


def _within(place: Place, architecture: Architecture, keras: int) -> Iterator[Place]:
    yield place
    node = place.node
    used: Counter[tuple[str, str]] = Counter()
    for child in node.children:
        again = child.path in architecture.repeats
        if again and keras < 3:
            continue
        attribute = _ATTRIBUTES.get((node.class_name, child.attribute), child.attribute)
        step = f"{place.path}/{attribute}".lstrip("/")
        if isinstance(node.config.get(child.attribute), list):
            name = snake_case(child.class_name, keras)
            number = used[attribute, name]
            used[attribute, name] += 1
            step += f"/{name}_{number}" if number else f"/{name}"
        if not again:
            certain = place.certain and attribute in _OWN
            yield from _within(Place(child, step, place.path, certain), architecture, keras)
