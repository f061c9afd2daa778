"""Which layers of a model are looked at, and what the user adds to what the file says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath

from bninspect import errors, safe_text
from bninspect.records import BatchNorm, Checkpoint, LeftOut, Option, Tolerance
from bninspect.settings import Settings


def complete(checkpoint: Checkpoint, settings: Settings) -> Checkpoint:
    """Return the checkpoint with the epsilon that the user supplies for layers whose file does not state one.

    Of what was not read only that is kept which `--layer` and `--exclude-layer` leave in.

    Raises:
        NothingToCheck: the file holds no batch norm.
    """
    if not checkpoint.layers and not checkpoint.unread:
        raise errors.NothingToCheck(
            "no batch-norm layer in this file",
            why=checkpoint.empty or next(iter(checkpoint.notes), f"read completely as {checkpoint.format}"),
            hint="name the model that it was made from" if checkpoint.empty else "",
        )
    return replace(
        checkpoint,
        layers=tuple(with_epsilon(layer, settings) for layer in checkpoint.layers),
        unread=tuple(calls for calls in checkpoint.unread if wanted(calls.where, settings)),
    )


def select(checkpoint: Checkpoint, settings: Settings) -> Checkpoint:
    """Return the checkpoint, completed, with the layers only that `--layer` and `--exclude-layer` leave in."""
    completed = complete(checkpoint, settings)
    return replace(completed, layers=tuple(layer for layer in completed.layers if wanted(layer.name, settings)))


def left_out(checkpoint: Checkpoint, settings: Settings, options: Mapping[str, Option]) -> LeftOut | None:
    """Return how many layers of a whole checkpoint `--layer` and `--exclude-layer` leave out, and where that stands.

    Args:
        checkpoint: with all layers of its file.
        settings: what is left out.
        options: where each option came from; without, nobody knows.
    """
    count = sum(not wanted(layer.name, settings) for layer in checkpoint.layers)
    given = {"layer": settings.layers, "exclude_layer": settings.exclude_layers}
    by = [_origin(name, options.get(name)) for name, patterns in given.items() if patterns]
    return LeftOut(count, " and ".join(dict.fromkeys(by)), _nearest(checkpoint, settings)) if count else None


def _nearest(checkpoint: Checkpoint, settings: Settings) -> str:
    """Return the layer that was probably meant by a pattern of `--layer` that fits none; empty if none is near."""
    known = [layer.name for layer in checkpoint.layers]
    unfit = (pattern for pattern in settings.layers if not any(safe_text.matches(name, (pattern,)) for name in known))
    return next(filter(None, (safe_text.nearest(pattern, known) for pattern in unfit)), "")


def _origin(name: str, option: Option | None) -> str:
    """Return the option as it is written on a command line, or the file that it stands in."""
    beside = {"command line", "environment", "default"}
    return f"--{name.replace('_', '-')}" if option is None or option.source in beside else option.source


def wanted(name: str, settings: Settings) -> bool:
    """Return whether `--layer` and `--exclude-layer` leave a layer in."""
    return (not settings.layers or safe_text.matches(name, settings.layers)) and not safe_text.matches(
        name, settings.exclude_layers
    )


def for_model(settings: Settings, path: str) -> Settings:
    """Return the settings with the rules of configuration files that are about the model of this path, and hold."""
    place = PurePath(path)
    return replace(
        settings,
        tolerances=tuple(rule for rule in settings.tolerances if place.match(rule.models)),
        ignores=tuple(rule for rule in settings.ignores if place.match(rule.models) and not rule.expired),
    )


def tolerance(name: str, settings: Settings) -> Tolerance | None:
    """Return by what a layer is judged instead of by the proven bound; None if it is by that."""
    for rule in settings.tolerances:
        if safe_text.matches(name, (rule.layers,)):
            return Tolerance(rule.rtol, rule.atol, rule.reason)
    return None if settings.tolerance is None else Tolerance(*settings.tolerance)


def with_epsilon(layer: BatchNorm, settings: Settings) -> BatchNorm:
    """Return a layer with the epsilon that the user supplies for it, if its file states none."""
    if layer.epsilon is not None:
        return layer
    for rule in settings.epsilon:
        if safe_text.matches(layer.name, (rule.layers,)):
            return replace(layer, epsilon=rule.value, epsilon_source="--epsilon")
    return layer
