"""What Keras 2 wrote about its layers into a SavedModel: JSON beside the objects.

Until TensorFlow 2.4 it is the metadata of each object in saved_model.pb, since 2.5 in keras_metadata.pb (fields:
tensorflow/python/keras/protobuf/saved_metadata.proto). Keras 3 writes nothing of the kind.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.tensorflow.object_graph import STATISTICS, Object, norm_keys, paths, walk_together
from bninspect.records import BatchNorm

_MOST_JSON = 32 << 20


@dataclass(frozen=True, eq=False)
class KerasNorm:
    """A batch-norm layer as Keras describes it."""

    layer: BatchNorm
    """Its settings without parameters; its name is those of nested models and wrappers and its own, joined by `/`."""
    keys: Mapping[str, str]
    """Checkpoint keys of its variables, by standard name."""


def norms(saved: Sequence[Object], stored: Callable[[], Sequence[Object]], metadata: Message) -> tuple[KerasNorm, ...]:
    """Return the batch-norm layers of a Keras 2 SavedModel, in the model's order.

    Args:
        saved: objects of saved_model.pb.
        stored: returns the objects of the checkpoint, called only if there is a Keras layer.
        metadata: SavedMetadata of keras_metadata.pb, empty where there is none.
    """
    texts = {node.integer(2): node.data(5) for node in metadata.messages(1)}

    @functools.cache
    def described(number: int) -> dict[str, Any]:
        # Only of norms and what they are in: that of a whole model holds all of its layers once more.
        user = saved[number].message.message(4)
        return _parsed(texts.get(number) or user.data(3)) if user.text(1).startswith("_tf_keras") else {}

    partners: Mapping[int, int] | None = None
    found = []
    numbers = dict[tuple[str, ...], int]()
    for number, path in paths(saved):
        numbers[path] = number
        if not path or not all(name in saved[number].children for name in STATISTICS):
            continue
        description = described(number)
        if not _is_norm(description):
            continue
        partners = walk_together(saved, stored()) if partners is None else partners
        if number in partners:
            above = [described(numbers[path[:end]]).get("name") for end in range(1, len(path) + 1)]
            name = "/".join(str(part) for part in above if part)
            found.append(_norm(name, description, norm_keys(stored(), stored()[partners[number]])))
    return tuple(found)


def _parsed(text: memoryview) -> dict[str, Any]:
    """Return the JSON of a layer; an empty one if it is none: it only adds to what graph and variables say."""
    if len(text) > _MOST_JSON:
        return {}
    try:
        value = json.loads(bytes(text))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_norm(description: Mapping[str, Any]) -> bool:
    config = _config(description)
    named = "BatchNorm" in str(description.get("class_name", ""))
    return named or all(key in config for key in ("epsilon", "momentum", "axis"))


def _config(description: Mapping[str, Any]) -> Mapping[str, Any]:
    # Keras of TensorFlow 2.0 to 2.2 wrote no `config`, but its entries among the others.
    config = description.get("config")
    return config if isinstance(config, dict) else description


def _norm(name: str, description: Mapping[str, Any], keys: Mapping[str, str]) -> KerasNorm:
    config = _config(description)
    axis = config.get("axis")
    axes = axis if isinstance(axis, list) else [axis]
    known = tuple(one for one in axes if type(one) is int)
    epsilon = _number(config.get("epsilon"))
    layer = BatchNorm(
        name,
        epsilon=epsilon,
        momentum=_number(config.get("momentum")),
        axis=known if len(known) == len(axes) else None,
        scale=_flag(config.get("scale")),
        center=_flag(config.get("center")),
        class_name=str(description.get("class_name", "")),
        epsilon_source=None if epsilon is None else "file",
    )
    return KerasNorm(layer, keys)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _flag(value: object) -> bool | None:
    return None if value is None else bool(value)
