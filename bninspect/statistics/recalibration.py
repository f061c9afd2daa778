"""Exact statistics of data, layer after layer: what arrives at a layer depends on the statistics of those before it.

Layers none of which is behind another are measured in one pass; of each pass no more is run than is needed. Forward
passes are in batches of one size of ours, in which a sample's activations must depend on the sample alone: that is
tried on this model, in this runtime, and where it does not hold each sample goes through by itself. So neither the
order of the data nor how it is cut into files can change a bit of the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.records import Array, Arrival, BatchNorm
from bninspect.runtimes.runtime import Stream
from bninspect.safe_text import printable
from bninspect.statistics import sample_moments
from bninspect.statistics.data import samples as sampling
from bninspect.statistics.data.samples import Batch, Samples
from bninspect.statistics.measure import measure
from bninspect.statistics.population import Population

BATCH = 32
"""Samples in a forward pass."""
CONSISTENT = 1e-6
"""Deviations, and of the logarithm of a variance, by which a last pass may differ from what was written."""

_FEW = 2
"""Samples by which is tried what is behind what."""

Moments = Mapping[str, Mapping[str, Array]]
"""By layer and parameter, numbers of the type that the file keeps them in."""
Kept = Callable[[BatchNorm, Population], Mapping[str, Array]]
"""Returns moments as the target keeps them: in its type, and by its convention."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How a model is gone through."""

    groups: tuple[tuple[str, ...], ...]
    """Layers that are measured in one pass, in the order of the passes."""
    batch: int
    """Samples in a forward pass."""
    seconds: float
    """About how long it takes."""
    notes: tuple[str, ...] = ()
    repeated: frozenset[str] = field(default_factory=frozenset)
    """Layers that are called more than once in a pass."""


def plan(stream: Stream, data: Samples, chosen: Sequence[int], layers: Sequence[BatchNorm]) -> Plan:
    """Return how to go through a model.

    Raises:
        RuntimeFailure: the data does not reach a layer, or its statistics cannot be changed in the runtime.
    """
    size = sampling.batch_size(stream, data, BATCH, BATCH)
    head = (list(chosen[:size]) * size)[:size]
    batch = Batch(data.read(head), size)
    start = time.monotonic()
    order, repeated, totals = _calls(stream, batch, layers)
    whole = time.monotonic() - start
    missing = [layer.name for layer in layers if layer.name not in order]
    if missing or stream.assign is None:
        why = stream.unobserved.get(missing[0], "the data does not reach it") if missing else "its runtime cannot"
        raise RuntimeFailure(
            f"the statistics of {printable(missing[0]) if missing else 'this model'} cannot be computed",
            why=why,
            hint="leave a layer as it is with --exclude-layer",
        )
    notes: tuple[str, ...] = ()
    fixed = any(one.shape and one.shape[0] is not None for one in stream.inputs)
    if size > 1 and not fixed and not _alone(stream, data, batch, head, totals):
        size = 1
        notes = ("activations depend on the other samples of a batch in this runtime: each sample runs by itself",)
    few = batch if fixed else Batch(data.read(head[:_FEW]), len(head[:_FEW]))
    groups = tuple(_groups(stream, few, layers, order))
    # Of each pass about as much is run as lies before its layers.
    share = sum((order.index(group[-1]) + 1) / len(order) for group in groups) + 1
    seconds = whole * share * len(chosen) / max(1, len(head)) * (len(head) if size == 1 else 1)
    return Plan(groups, size, seconds, notes, repeated)


def recalibrate(
    stream: Stream,
    data: Samples,
    chosen: Sequence[int],
    layers: Sequence[BatchNorm],
    plan: Plan,
    kept: Kept,
    began: Callable[[int, int], None],
    known: Moments,
) -> Iterator[Moments]:
    """Measure group after group, give each its statistics in the loaded model, and yield them.

    Args:
        stream: the model.
        data: what to run it on.
        chosen: which samples.
        layers: whose statistics are wanted.
        plan: of `plan`.
        kept: how the target keeps moments.
        began: is told the number of the group, from 0, and how many samples have gone through.
        known: of an earlier run that was interrupted.

    Raises:
        RuntimeFailure: a statistic would not be finite.
    """
    by_name = {layer.name: layer for layer in layers}
    for number, group in enumerate(plan.groups):
        found = {name: known[name] for name in group if name in known}
        left = [name for name in group if name not in found]
        if left:
            until = None if plan.repeated.intersection(left) else frozenset(left)
            batches = sampling.batches(data, chosen, plan.batch)
            wanted = [by_name[name] for name in left]
            measured = measure(stream.forward, batches, wanted, until, partial(began, number))
            for name in left:
                found[name] = _finite(name, kept(by_name[name], _population(name, measured.populations)))
        for name, values in found.items():
            assert stream.assign is not None  # noqa: S101 - the plan has made sure
            stream.assign(name, values)
        yield found


def inconsistency(
    stream: Stream,
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
    last = len(plan.groups)
    measured = measure(stream.forward, batches, layers, None, lambda done: began(last, done))
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
    if not all(np.isfinite(one).all() for one in values.values()):
        raise RuntimeFailure(
            f"the statistics of {printable(name)} would not be finite", why="the type of the file cannot hold them"
        )
    return values


def _calls(
    stream: Stream, batch: Batch, layers: Sequence[BatchNorm]
) -> tuple[list[str], frozenset[str], Mapping[str, list[bytes]]]:
    """Return the layers in the order in which they are reached, those that are called again, and each sample's bits."""
    wanted = {layer.name for layer in layers}
    bits: dict[str, list[bytes]] = {}
    repeated = set()

    def receive(arrival: Arrival) -> None:
        if arrival.layer not in wanted:
            return
        if arrival.layer in bits:
            repeated.add(arrival.layer)
        moments = sample_moments.of_batch(arrival.x, arrival.axis, batch.samples, arrival.mask)
        bits.setdefault(arrival.layer, [])
        bits[arrival.layer] += [
            mean.tobytes() + spread.tobytes() for mean, spread in zip(moments.means, moments.spreads, strict=True)
        ]

    stream.forward(batch.arrays, receive, None)
    return list(bits), frozenset(repeated), bits


def _alone(stream: Stream, data: Samples, batch: Batch, head: Sequence[int], totals: Mapping[str, list[bytes]]) -> bool:
    """Return whether a sample's activations are the same bits at another place in the batch, beside other samples."""
    size = batch.samples
    turned = [*head[size // 2 :], *head[: size // 2]][::-1]
    order = [*range(size // 2, size), *range(size // 2)][::-1]
    wanted = [BatchNorm(name, None, None, None, None) for name in totals]
    _, _, others = _calls(stream, Batch(data.read(turned), size), wanted)
    beside = [*head[:1]] * size
    _, _, same = _calls(stream, Batch(data.read(beside), size), wanted)
    for name, bits in totals.items():
        for call in range(0, len(bits), size):
            if [bits[call + place] for place in order] != others[name][call : call + size]:
                return False
            if same[name][call] != bits[call]:
                return False
    return True


def _groups(
    stream: Stream, batch: Batch, layers: Sequence[BatchNorm], order: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    """Yield neighbours none of which is behind another, found out by changing one and looking at the others."""
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
            mean, variance = (np.asarray(one) for one in (layer.moving_mean, layer.moving_variance))
            root = np.sqrt(np.abs(variance) + (layer.epsilon or 0.0)).astype(mean.dtype)
            stream.assign(layer.name, {"moving_mean": mean + root, "moving_variance": variance * 2})
        return _inputs(stream, batch, [name])[name] != plain
    finally:
        for layer in group:
            kept = {"moving_mean": layer.moving_mean, "moving_variance": layer.moving_variance}
            stream.assign(layer.name, {name: array for name, array in kept.items() if array is not None})


def _inputs(stream: Stream, batch: Batch, names: Sequence[str]) -> dict[str, bytes]:
    """Return a digest of what arrives at each layer first."""
    import hashlib

    found: dict[str, bytes] = {}

    def receive(arrival: Arrival) -> None:
        if arrival.layer in names and arrival.layer not in found:
            found[arrival.layer] = hashlib.sha256(np.ascontiguousarray(arrival.x).tobytes()).digest()

    stream.forward(batch.arrays, receive, frozenset(names))
    return found
