"""Data through a model: the moments of what arrives at each of its batch norms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bninspect.records import Array, Arrival, BatchNorm
from bninspect.runtimes.runtime import Forward
from bninspect.statistics import sample_moments
from bninspect.statistics.data.samples import Batch
from bninspect.statistics.population import Census, Population, pooled

_TOGETHER = 1 << 16
"""Values of a batch from which on it is worth the calls that it takes."""


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
    by_name = {layer.name: layer for layer in layers}
    reached: dict[str, list[_Gathered]] = {}
    done = 0
    for batch in batches:
        began(done)
        calls: Counter[str] = Counter()

        def receive(arrival: Arrival, batch: Batch = batch, calls: Counter[str] = calls) -> None:
            if arrival.layer not in by_name:
                return
            of_layer = reached.setdefault(arrival.layer, [])
            if calls[arrival.layer] == len(of_layer):
                of_layer.append(_Gathered(by_name[arrival.layer]))
            of_layer[calls[arrival.layer]].add(arrival, batch)
            calls[arrival.layer] += 1

        forward(batch.arrays, receive, until)
        done += batch.samples
    found = {name: [call.result() for call in of_layer] for name, of_layer in reached.items()}
    refused = {name: next(filter(None, (call.refused for call in calls)), "") for name, calls in reached.items()}
    populations = {
        name: pooled(filled)
        for name, censuses in found.items()
        if not refused[name] and (filled := [census for census in censuses if census.samples])
    }
    return Measured(populations, {name: why for name, why in refused.items() if why})


class _Gathered:
    """What arrives at a layer in one of its calls; small batches are put together first, as each array costs time."""

    def __init__(self, layer: BatchNorm) -> None:
        self._channels = layer.channels
        self._census = Census(layer.channels)
        self._waiting = np.empty(0, np.float32)
        self._axis: tuple[int, ...] = ()
        self._samples = 0
        """How many wait."""
        self.refused = ""
        """Why there are no moments; empty if there are."""

    def add(self, arrival: Arrival, batch: Batch) -> None:
        """Take in what arrived of one batch."""
        x, axis = arrival.x, arrival.axis
        if arrival.mask is not None or x.ndim == 0 or len(x) != batch.size or x.size >= _TOGETHER:
            self._take(x, axis, batch.size, arrival.mask, batch.samples)
            return
        if axis != self._axis or x.shape[1:] != self._waiting.shape[1:] or x.dtype != self._waiting.dtype:
            self._flush()
            self._axis = axis
            self._waiting = np.empty((max(1, _TOGETHER // max(1, x[0].size)), *x.shape[1:]), x.dtype)
        if self._samples + batch.samples > len(self._waiting):
            self._flush()
        # A copy, of those that count: the runtime may use its memory again.
        self._waiting[self._samples : self._samples + batch.samples] = x[: batch.samples]
        self._samples += batch.samples

    def _flush(self) -> None:
        if self._samples:
            samples, self._samples = self._samples, 0
            self._take(self._waiting[:samples], self._axis, samples, None, samples)

    def _take(self, x: Array, axis: tuple[int, ...], size: int, mask: Array | None, samples: int) -> None:
        if self.refused:
            return
        try:
            moments = sample_moments.of_batch(x, axis, size, mask, samples)
            if moments.means.shape[1] != self._channels:
                raise ValueError(f"{moments.means.shape[1]} channels arrive, the file holds {self._channels}")
        except ValueError as error:
            self.refused = str(error)
            return
        self._census.add(moments)

    def result(self) -> Census:
        """Return all that arrived."""
        self._flush()
        return self._census


def sound(layer: BatchNorm) -> str:
    """Return why the stored statistics of a layer cannot be held against anything; empty if they can."""
    if layer.moving_mean is None or layer.moving_variance is None:
        return "the file does not hold its moving_mean and moving_variance"
    with np.errstate(all="ignore"):
        root = np.sqrt(np.asarray(layer.moving_variance, np.float64) + (layer.epsilon or 0.0))
    if not np.isfinite(layer.moving_mean).all() or not np.isfinite(root).all() or not root.all():
        return "its stored statistics are not finite, or its variance + epsilon is not above zero"
    return ""
