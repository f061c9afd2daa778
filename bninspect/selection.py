"""Which layers of a model are looked at, and what the user adds to what the file says of them."""

from __future__ import annotations

from dataclasses import replace

from bninspect import errors, names
from bninspect.records import BatchNorm, Checkpoint
from bninspect.settings import Settings


def select(checkpoint: Checkpoint, settings: Settings) -> Checkpoint:
    """Return the checkpoint with the chosen layers only, each with the epsilon that the user supplies for it.

    An epsilon that the file states is never replaced.

    Raises:
        NothingToCheck: the file holds no batch-norm layer.
    """
    if not checkpoint.layers:
        raise errors.NothingToCheck(
            "no batch-norm layer in this file",
            why=checkpoint.notes[0] if checkpoint.notes else f"read completely as {checkpoint.format}",
            hint="--allow-empty makes this a success",
        )
    layers = [_with_epsilon(layer, settings) for layer in checkpoint.layers if wanted(layer.name, settings)]
    return replace(checkpoint, layers=tuple(layers))


def wanted(name: str, settings: Settings) -> bool:
    """Return whether `--layer` and `--exclude-layer` leave a layer in."""
    return (not settings.layers or names.matches(name, settings.layers)) and not names.matches(
        name, settings.exclude_layers
    )


def _with_epsilon(layer: BatchNorm, settings: Settings) -> BatchNorm:
    if layer.epsilon is not None:
        return layer
    for rule in settings.epsilon:
        if names.matches(layer.name, (rule.layers,)):
            return replace(layer, epsilon=rule.value, epsilon_source="--epsilon")
    return layer
