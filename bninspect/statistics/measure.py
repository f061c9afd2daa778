"""Data through a model: the moments of what arrives at each of its batch norms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bninspect.records import Arrival, BatchNorm
from bninspect.runtimes.runtime import Forward
from bninspect.statistics import sample_moments
from bninspect.statistics.data.samples import Batch
from bninspect.statistics.population import Census, Population


@dataclass(frozen=True, eq=False)
class Measured:
    """What arrived at the layers of a model."""

    populations: Mapping[str, Population] = field(default_factory=dict)
    """By the layer, in the order in which they were reached."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Layers whose input has no moments by channel, and why."""


def measure(
    forward: Forward,
    batches: Iterable[Batch],
    layers: Iterable[BatchNorm],
    until: frozenset[str] | None = None,
    began: Callable[[int], None] = lambda _: None,
) -> Measured:
    """Run batches through a model, and return the moments of what arrived at its layers.

    Args:
        forward: runs a batch through the model.
        batches: the data.
        layers: to look at.
        until: layers after which the rest of the model need not run.
        began: is told how many samples have gone through, before each batch.
    """
    wanted = {layer.name: layer for layer in layers}
    censuses: dict[str, Census] = {}
    refused: dict[str, str] = {}
    done = 0
    for batch in batches:
        began(done)

        def receive(arrival: Arrival, batch: Batch = batch) -> None:
            layer = wanted.get(arrival.layer)
            if layer is None or layer.name in refused:
                return
            try:
                moments = sample_moments.of_batch(arrival.x, arrival.axis, batch.size, arrival.mask, batch.samples)
                if moments.means.shape[1] != layer.channels:
                    raise ValueError(f"{moments.means.shape[1]} channels arrive, the file holds {layer.channels}")
            except ValueError as error:
                refused[layer.name] = str(error)
                return
            censuses.setdefault(layer.name, Census(layer.channels)).add(moments)

        forward(batch.arrays, receive, until)
        done += batch.samples
    found = {name: census.result() for name, census in censuses.items() if name not in refused and census.samples}
    return Measured(found, refused)


def sound(layer: BatchNorm) -> str:
    """Return why the stored statistics of a layer cannot be held against anything; empty if they can."""
    if layer.moving_mean is None or layer.moving_variance is None:
        return "the file does not hold its moving_mean and moving_variance"
    with np.errstate(all="ignore"):
        root = np.sqrt(np.asarray(layer.moving_variance, np.float64) + (layer.epsilon or 0.0))
    if not np.isfinite(layer.moving_mean).all() or not np.isfinite(root).all() or not root.all():
        return "its stored statistics are not finite, or its variance + epsilon is not above zero"
    return ""
