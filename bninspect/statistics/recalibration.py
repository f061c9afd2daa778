"""Exact statistics of data, layer after layer: what arrives at a layer depends on the statistics of those before it.

The model is taken apart, and gone through once, depth by depth; where it cannot be taken apart, or computes other bits
then, it is run from its front for each depth (`ways`). Forward passes are in batches of one size of ours, in which a
sample's activations must depend on the sample alone: that is tried on this model, in this runtime, and where it does
not hold each sample goes through by itself. So neither the order of the data nor how it is cut into files can change a
bit of the result.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.records import Array, BatchNorm
from bninspect.runtimes.dissection import Dissection
from bninspect.runtimes.runtime import Forward, Stream
from bninspect.safe_text import printable
from bninspect.statistics import depths as deep
from bninspect.statistics import frontier, independence, stops
from bninspect.statistics.data import samples as sampling
from bninspect.statistics.data.samples import Batch, Samples
from bninspect.statistics.depths import Depth
from bninspect.statistics.independence import ModelCalls
from bninspect.statistics.measure import measure
from bninspect.statistics.population import Population
from bninspect.statistics.traversals import Passes, Walk, Way, neighbours

BATCH = 32
"""Samples in a forward pass, at most."""
CONSISTENT = 1e-6
"""Deviations, and of the logarithm of a variance, by which a last pass may differ from what was written."""

_FEW = 2
"""Samples by which is tried what is behind what."""
_HELD = 1 << 29
"""Bytes of what arrives at batch norms that a forward pass may make: a large model runs in smaller batches."""
_OF_DISK = 0.8
"""Part of what is free on the disk that may be used."""

Moments = Mapping[str, Mapping[str, Array]]
"""By layer and parameter, numbers of the type that the file keeps them in."""
Kept = Callable[[BatchNorm, Population], Mapping[str, Array]]
"""Returns moments as the target keeps them: in its type, and by its convention."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How a model is gone through."""

    way: Way
    forward: Forward
    """Runs a batch through the whole model."""
    batch: int
    """Samples in a forward pass."""
    passes: int
    """Over the data: one or, where the model cannot be taken apart, one for each group; and one at the end."""
    seconds: float
    """About how long it takes."""
    disk: int
    """Bytes of it that are needed meanwhile."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Apart:
    """A model that has been taken apart, and computes the same so."""

    dissection: Dissection
    depths: tuple[Depth, ...]


def plan(stream: Stream, data: Samples, chosen: Sequence[int], layers: Sequence[BatchNorm], folder: Path) -> Plan:
    """Return how to go through a model.

    Args:
        stream: the model.
        data: what to run it on.
        chosen: which samples.
        layers: whose statistics are wanted.
        folder: where files may be.

    Raises:
        RuntimeFailure: the data does not reach a layer, its statistics cannot be changed in the runtime, or what
            arrives at a layer depends on its own statistics.
    """
    names = frozenset(layer.name for layer in layers)
    size, reached = _first(stream, data, chosen, layers)
    batch, head = _head(data, chosen, size)
    apart, notes = _taken_apart(stream, batch, names)
    forward = deep.forward(apart.dissection, apart.depths) if apart else stream.forward
    fixed = any(source.shape and source.shape[0] is not None for source in stream.inputs)
    plain = independence.calls(forward, batch, names)
    if size > 1 and not fixed and not independence.holds(forward, data, batch, head, plain):
        batch, head = _head(data, chosen, 1)
        apart, notes = _taken_apart(stream, batch, names)
        forward = deep.forward(apart.dissection, apart.depths) if apart else stream.forward
        alone = "activations depend on the other samples of a batch in this runtime: each sample runs by itself"
        notes = (*notes, alone)
    count = -(-len(chosen) // batch.size)
    batches = partial(sampling.batches, data, chosen, batch.size)
    start = time.monotonic()
    if apart is None:
        independence.calls(forward, batch, names)
        once = time.monotonic() - start
        order = list(reached.bits)
        few = batch if fixed else _head(data, chosen, _FEW)[0]
        groups = tuple(neighbours(stream, few, layers, order))
        # Of each pass about as much is run as lies before its layers.
        share = sum((order.index(group[-1]) + 1) / len(order) for group in groups) + 1
        way: Way = Passes(forward, groups, reached.repeated, batches)
        return Plan(way, forward, batch.size, len(groups) + 1, once * share * count, 0, notes)
    seconds, sizes = _costs(apart, batch)
    room = max(frontier.IN_MEMORY, _OF_DISK * shutil.disk_usage(folder).free)
    kept = stops.chosen([second * count for second in seconds], [one * count for one in sizes], room)
    walk = Walk(apart.dissection, apart.depths, kept.depths, batches, folder)
    disk = 0 if kept.most <= frontier.IN_MEMORY else kept.most
    return Plan(walk, forward, batch.size, 2, kept.seconds + sum(seconds) * count, disk, notes)


def _first(stream: Stream, data: Samples, chosen: Sequence[int], layers: Sequence[BatchNorm]) -> tuple[int, ModelCalls]:
    """Run a few samples, and return the size of batches, with what was reached. Raises as `plan`."""
    insisted = sampling.batch_size(stream, data, _FEW, _FEW)
    batch, _ = _head(data, chosen, insisted)
    reached = independence.calls(stream.forward, batch, {layer.name for layer in layers})
    missing = [layer.name for layer in layers if layer.name not in reached.bits]
    if missing or stream.assign is None:
        why = stream.unobserved.get(missing[0], "the data does not reach it") if missing else "its runtime cannot"
        raise RuntimeFailure(
            f"the statistics of {printable(missing[0]) if missing else 'this model'} cannot be computed",
            why=why,
            hint="leave a layer as it is with --exclude-layer",
        )
    if any(source.shape and source.shape[0] is not None for source in stream.inputs):
        return insisted, reached
    size = BATCH
    while size > 1 and size * reached.size > _HELD * insisted:
        size //= 2
    return size, reached


def _head(data: Samples, chosen: Sequence[int], size: int) -> tuple[Batch, Sequence[int]]:
    """Return the first samples as a batch, repeated if they are too few, and their places."""
    head = (list(chosen[:size]) * size)[:size]
    return Batch(data.read(head), size, size), head


def _taken_apart(stream: Stream, batch: Batch, names: frozenset[str]) -> tuple[_Apart | None, tuple[str, ...]]:
    """Take a model apart and make sure that it computes the same bits so; else return a note that says why not."""
    if stream.dissect is None:
        return None, ("the model runs from its front for each depth: its runtime cannot take it apart",)
    try:
        dissection = stream.dissect(batch.arrays)
        whole = independence.calls(stream.forward, batch, names)
        depths = deep.of_dissection(dissection, names)
        same = independence.calls(deep.forward(dissection, depths), batch, names).bits == whole.bits
    except deep.Circle:
        raise
    except RuntimeFailure as failure:
        return None, (f"the model runs from its front for each depth: {failure.what}: {failure.why}",)
    if not same:
        return None, ("the model runs from its front for each depth: taken apart it computes other bits",)
    return _Apart(dissection, depths), ()


def _costs(apart: _Apart, batch: Batch) -> tuple[list[float], list[int]]:
    """Run a batch from depth to depth, and return the seconds that each takes, and the bytes that are kept at each."""
    given = apart.dissection.feed(batch.arrays)
    seconds, sizes = [], []
    for depth in apart.depths:
        start = time.monotonic()
        given = deep.advanced(apart.dissection, given, depth, lambda _: None, depth.kept)
        seconds.append(time.monotonic() - start)
        sizes.append(sum(array.nbytes for array in given.values()))
    return seconds, sizes


def recalibrate(
    stream: Stream,
    layers: Sequence[BatchNorm],
    plan: Plan,
    kept: Kept,
    began: Callable[[int, int], None],
    known: Moments,
) -> Iterator[Moments]:
    """Measure group after group, give each its statistics in the loaded model, and yield them.

    Args:
        stream: the model.
        layers: whose statistics are wanted.
        plan: of `plan`.
        kept: how the target keeps moments.
        began: is told the number of the group, from 0, and how many samples have gone through.
        known: of an earlier run that was interrupted.

    Raises:
        RuntimeFailure: a statistic would not be finite.
    """
    by_name = {layer.name: layer for layer in layers}
    for number, group in enumerate(plan.way.groups):
        found = {name: known[name] for name in group if name in known}
        left = [name for name in group if name not in found]
        if left:
            measured = plan.way.measure(number, [by_name[name] for name in left], partial(began, number))
            for name in left:
                found[name] = _finite(name, kept(by_name[name], _population(name, measured.populations)))
        for name, values in found.items():
            assert stream.assign is not None  # noqa: S101 - the plan has made sure
            stream.assign(name, values)
        yield found


def inconsistency(
    data: Samples,
    chosen: Sequence[int],
    layers: Sequence[BatchNorm],
    plan: Plan,
    written: Moments,
    kept: Kept,
    began: Callable[[int, int], None],
) -> dict[str, tuple[float, float]]:
    """Run the data once more, and return by how much each layer is off: in deviations, and in logarithm of variance.

    Half a unit in the last place of the type that the file keeps is taken off: no file can hold more.
    """
    batches = sampling.batches(data, chosen, plan.batch)
    last = len(plan.way.groups)
    measured = measure(plan.forward, batches, layers, None, lambda done: began(last, done))
    off = {}
    for layer in layers:
        found = measured.populations[layer.name]
        wanted, there = kept(layer, found), written[layer.name]
        root = np.sqrt(there["moving_variance"].astype(np.float64) + (layer.epsilon or 0.0))
        with np.errstate(all="ignore"):
            mean = _apart(wanted["moving_mean"], there["moving_mean"]) / root
            variance = _apart(wanted["moving_variance"], there["moving_variance"]) / np.square(root)
        off[layer.name] = (float(np.nanmax(mean)), float(np.nanmax(variance)))
    return off


def _apart(one: Array, other: Array) -> Array:
    wide = one.astype(np.float64) - other.astype(np.float64)
    unit = np.spacing(np.abs(other)).astype(np.float64)
    return np.asarray(np.maximum(np.abs(wide) - unit, 0.0))


def _population(name: str, populations: Mapping[str, Population]) -> Population:
    if name not in populations or not populations[name].finite:
        raise RuntimeFailure(
            f"the statistics of {printable(name)} would not be finite",
            why="what arrives at it is NaN or infinite, or has no channels",
            hint="look at the data, and at the layers before it; or leave it as it is with --exclude-layer",
        )
    return populations[name]


def _finite(name: str, values: Mapping[str, Array]) -> Mapping[str, Array]:
    if not all(np.isfinite(value).all() for value in values.values()):
        raise RuntimeFailure(
            f"the statistics of {printable(name)} would not be finite", why="the type of the file cannot hold them"
        )
    return values
