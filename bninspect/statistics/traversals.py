"""Two ways through a model, layer after layer: a walk that stops at each depth, or a pass from the front for each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from bninspect.records import Arrival, BatchNorm
from bninspect.runtimes.dissection import Dissection
from bninspect.runtimes.runtime import Forward, Receive, Stream
from bninspect.statistics import depths as deep
from bninspect.statistics.data.samples import Batch
from bninspect.statistics.depths import Depth
from bninspect.statistics.frontier import Frontier
from bninspect.statistics.measure import Measured, measure

Batches = Callable[[], Iterable[Batch]]
"""Yields the data anew."""


class Way(Protocol):
    """A way through a model."""

    groups: Sequence[tuple[str, ...]]
    """Layers that are measured together, in the order in which that is done."""

    def measure(self, number: int, layers: Sequence[BatchNorm], began: Callable[[int], None]) -> Measured:
        """Return what arrives at layers of a group, those before it having their new statistics."""

    def close(self) -> None:
        """Give back what is held."""


class Walk:
    """Goes through a model once: what lies behind a depth is computed from what was kept there, batch by batch.

    Between two depths at which something is kept all is computed anew from the first.

    Args:
        dissection: the model, taken apart.
        depths: of it.
        stops: depths at which to keep what lies deeper takes.
        batches: the data.
        folder: where files may be.
    """

    def __init__(
        self,
        dissection: Dissection,
        depths: Sequence[Depth],
        stops: frozenset[int],
        batches: Batches,
        folder: Path,
    ) -> None:
        self.groups: Sequence[tuple[str, ...]] = [depth.layers for depth in depths]
        self._dissection, self._depths, self._stops, self._batches = dissection, depths, stops, batches
        self._folder = folder
        self._front: Frontier | None = None
        self._ahead: Frontier | None = None

    def measure(self, number: int, layers: Sequence[BatchNorm], began: Callable[[int], None]) -> Measured:
        """Return what arrives at a depth, and go on to it."""
        depth = self._depths[number]
        if number in self._stops:
            self._ahead = Frontier(self._folder)
        standing: list[Batch] = []

        def source() -> Iterator[Batch]:
            for batch in self._fed() if self._front is None else self._front:
                standing[:] = [batch]
                yield batch

        def forward(given: deep.Values, receive: Receive, _until: frozenset[str] | None = None) -> None:
            kept = depth.kept if self._ahead is not None else ()
            values = deep.advanced(self._dissection, given, depth, receive, kept)
            if self._ahead is not None:
                self._ahead.add(values, standing[0].samples, standing[0].size)

        measured = measure(forward, source(), layers, None, began)
        if self._ahead is not None:
            if self._front is not None:
                self._front.close()
            self._front, self._ahead = self._ahead, None
        return measured

    def _fed(self) -> Iterator[Batch]:
        for batch in self._batches():
            yield Batch(self._dissection.feed(batch.arrays), batch.samples, batch.size)

    def close(self) -> None:
        """Give back what is held."""
        for frontier in (self._front, self._ahead):
            if frontier is not None:
                frontier.close()


class Passes:
    """Runs the model from its front for each group, as far as the layers of the group.

    Args:
        forward: runs a batch.
        groups: of `neighbours`.
        repeated: layers that are called more than once in a pass.
        batches: the data.
    """

    def __init__(
        self, forward: Forward, groups: Sequence[tuple[str, ...]], repeated: frozenset[str], batches: Batches
    ) -> None:
        self.groups = groups
        self._forward, self._repeated, self._batches = forward, repeated, batches

    def measure(self, _number: int, layers: Sequence[BatchNorm], began: Callable[[int], None]) -> Measured:
        """Return what arrives at layers."""
        names = frozenset(layer.name for layer in layers)
        until = None if self._repeated & names else names
        return measure(self._forward, self._batches(), layers, until, began)

    def close(self) -> None:
        """Give back nothing: nothing is held."""


def neighbours(
    stream: Stream, batch: Batch, layers: Sequence[BatchNorm], order: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    """Yield neighbours none of which is behind another, found out by changing one and looking at the others.

    Args:
        stream: the model.
        batch: a few samples.
        layers: all of them.
        order: in which they are reached.
    """
    by_name = {layer.name: layer for layer in layers}
    group: list[str] = []
    plain = _inputs(stream, batch, order)
    for name in order:
        if group and _is_behind(stream, batch, [by_name[one] for one in group], name, plain[name]):
            yield tuple(group)
            group = []
        group.append(name)
    yield tuple(group)


def _is_behind(stream: Stream, batch: Batch, group: Sequence[BatchNorm], name: str, plain: bytes) -> bool:
    assert stream.assign is not None  # noqa: S101 - the plan has made sure
    try:
        for layer in group:
            mean, variance = (np.asarray(moments) for moments in (layer.moving_mean, layer.moving_variance))
            root = np.sqrt(np.abs(variance) + (layer.epsilon or 0.0)).astype(mean.dtype)
            stream.assign(layer.name, {"moving_mean": mean + root, "moving_variance": variance * 2})
        return _inputs(stream, batch, [name])[name] != plain
    finally:
        for layer in group:
            kept = {"moving_mean": layer.moving_mean, "moving_variance": layer.moving_variance}
            stream.assign(layer.name, {name: array for name, array in kept.items() if array is not None})


def _inputs(stream: Stream, batch: Batch, names: Sequence[str]) -> dict[str, bytes]:
    """Return a digest of what arrives at each layer first."""
    found: dict[str, bytes] = {}

    def receive(arrival: Arrival) -> None:
        if arrival.layer in names and arrival.layer not in found:
            found[arrival.layer] = hashlib.sha256(np.ascontiguousarray(arrival.x).tobytes()).digest()

    stream.forward(batch.arrays, receive, frozenset(names))
    return found
