"""The inputs that a loaded Keras model takes, and data brought into the structure that it takes them in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bninspect.records import Array
from bninspect.runtimes.keras import matching
from bninspect.runtimes.runtime import Input


def taken_by(model: Any, embedding: type[Any], architecture: str | None) -> tuple[Input, ...]:
    """Return the inputs of a loaded model in its own order.

    Args:
        model: of Keras 3 or tf-keras.
        embedding: the framework's Embedding class; what feeds one must be an index into its table.
        architecture: JSON of the file. A subclassed model has no symbolic inputs, but may say what it was built for.
    """
    structure = _structure(model)
    if structure is None:
        return _built_for(architecture)
    import tensorflow as tf

    tensors = tf.nest.flatten(structure)
    tables = [layer for layer in matching.layers(model) if isinstance(layer, embedding)]
    return tuple(_described(tensor, tables, tensors) for tensor in tensors)


def _structure(model: Any) -> Any:
    """Return the symbolic inputs in the structure that the model takes; None for a subclassed model."""
    try:
        return model.input
    except AttributeError:
        # A Sequential that was never called has inputs, but no input.
        return model.inputs[0] if getattr(model, "inputs", None) else None


def _described(tensor: Any, tables: Sequence[Any], tensors: Sequence[Any]) -> Input:
    import tensorflow as tf

    shape = tuple(None if length is None else int(length) for length in tuple(tensor.shape))
    dtype = str(tf.as_dtype(tensor.dtype).name)
    # The name of a symbolic tensor is a count of this session; users know the name of its input layer.
    name = str(tensor._keras_history[0].name)  # noqa: SLF001 - the only way from a tensor to its layer
    return Input(name, shape, dtype, _below(tensor, dtype, len(shape), tables, tensors))


def _below(tensor: Any, dtype: str, rank: int, tables: Sequence[Any], tensors: Sequence[Any]) -> int | None:
    direct = [int(table.input_dim) for table in tables if _source(table) is tensor]
    if direct:
        return min(direct)
    # A table inside a nested model or behind another layer: from here nobody can tell which input reaches it.
    elsewhere = [int(table.input_dim) for table in tables if not any(_source(table) is one for one in tensors)]
    if elsewhere and rank <= 2:
        return min(elsewhere)
    if np.dtype(np.float32 if dtype in ("bfloat16", "string") else dtype).kind in "iu":
        return 256 if rank >= 4 else 2
    return None


def _source(layer: Any) -> Any:
    try:
        return layer.input
    except (AttributeError, ValueError):  # Never called with a symbol, or called more than once.
        return None


def _built_for(architecture: str | None) -> tuple[Input, ...]:
    """Return the input that a subclassed model was built for; nothing if the file does not say."""
    build = json.loads(architecture).get("build_config") if architecture else None
    shape = build.get("input_shape") if isinstance(build, dict) else None
    if not isinstance(shape, list) or not all(size is None or (type(size) is int and size > 0) for size in shape):
        return ()
    return (Input("", tuple(shape), "float32"),)


def fed(model: Any, inputs: Sequence[Input], data: Mapping[str, Array]) -> Any:
    """Return the data as tensors of the types and in the structure that the model takes."""
    import tensorflow as tf

    if not inputs:
        return tf.convert_to_tensor(data[""])
    structure = _structure(model)
    tensors = [tf.cast(tf.convert_to_tensor(data[source.name]), source.dtype) for source in inputs]
    return tensors[0] if structure is None else tf.nest.pack_sequence_as(structure, tensors)
