"""Tensors in what a layer takes and returns: tuples, lists and mappings of them, in one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def tensors(structure: Any) -> list[Any]:
    """Return the eager tensors in a structure, in their order."""
    import tensorflow as tf

    return [tensor for tensor in tf.nest.flatten(structure) if is_tensor(tensor)]


def is_symbolic(structure: Any) -> bool:
    """Return whether layers are called to build a model: with what stands for a tensor, in either Keras or a graph."""
    import tensorflow as tf

    flat = tf.nest.flatten(structure)
    return any(
        type(leaf).__name__ == "KerasTensor" or (isinstance(leaf, tf.Tensor) and tf.is_symbolic_tensor(leaf))
        for leaf in flat
    )


def is_tensor(one: Any) -> bool:
    """Return whether something is a tensor that has values."""
    import tensorflow as tf

    return isinstance(one, tf.Tensor) and not tf.is_symbolic_tensor(one)


def mapped(structure: Any, change: Callable[[Any], Any]) -> Any:
    """Return a structure with every tensor in it changed."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda one: change(one) if is_tensor(one) else one, structure)
