"""Which channels of an operation do not show in what was compared behind it, whatever their numbers are.

Where the numbers of an operation are nowhere in the export, only what comes behind says that they are right in another
form. That what comes behind agrees says so of those channels alone that reach it: behind a relu that never fires, a
limit that is always met, a gate that is shut or the larger of two branches a channel may hold anything. So each channel
of its output is moved by PART of itself, and something behind has to change by more than it may be off. Of each channel
of its input something has to come in: what is zero throughout multiplies any weights to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bninspect.equivalence import tensors
from bninspect.equivalence.evidence.replay import Comparing, Given, Stretch
from bninspect.records import Array, graph
from bninspect.records.graph import Network, Node

PART = 2.0**-7
"""Of itself by which a channel is moved: a sign, which it keeps, and what is counted behind it show nothing."""
_SILENT = 2.0**-10
"""Part of the largest input below which a channel of it counts as zero."""
_ALONE = 64
"""Channels that are moved one by one, where what is behind mixes them."""


@dataclass(frozen=True)
class Hidden:
    """Channels of an operation that do not show, counted from zero."""

    outputs: frozenset[int] = frozenset()
    inputs: frozenset[int] = frozenset()
    unseen: bool = False
    """Whether nobody can say, because what it takes or returns cannot be seen, or not be given."""

    @property
    def sentence(self) -> str:
        """What does not show, in words; empty if everything does."""
        if self.unseen:
            return "it is not known what of it shows behind it"
        if self.outputs:
            return f"{_listed('channel', self.outputs)} of what it returns shows nowhere behind it, on any input"
        return f"{_listed('channel', self.inputs)} of what goes into it is zero on every input" if self.inputs else ""

    def __and__(self, other: Hidden) -> Hidden:
        """Return what shows on neither of two inputs."""
        if self.unseen or other.unseen:
            return other if self.unseen else self
        return Hidden(self.outputs & other.outputs, self.inputs & other.inputs)


def _listed(word: str, places: frozenset[int]) -> str:
    first, *rest = sorted(places)
    return f"{word} {first}" + (f" and {len(rest):,} more" if rest else "")


def nearest(operation: Node, network: Network, stretches: Iterable[Stretch]) -> list[Stretch]:
    """Return the stretches of the nearest values behind an operation that both have, else those of the outputs."""
    ends: dict[str, list[Stretch]] = {}
    for one in stretches:
        ends.setdefault(one.wire.label, []).append(one)
    met = [stretch for value in graph.first_after(operation.outputs, network, ends) for stretch in ends[value]]
    return met or [one for every in ends.values() for one in every if one.wire.end == "output"]


def hidden(
    operations: Iterable[Node], stretches: Sequence[Stretch], given: Given, how: Comparing
) -> Mapping[Node, Hidden]:
    """Return the channels that do not show, of those operations behind which everything agrees without allowance."""
    found: dict[Node, Hidden] = {}
    for operation in operations if how.source is not None else ():
        assert how.source is not None  # noqa: S101 - narrows the type
        ends = nearest(operation, how.source, stretches)
        if ends and all(one.proves for one in ends):
            found[operation] = _hidden(operation, ends, given, how)
    return found


def _hidden(operation: Node, ends: Sequence[Stretch], given: Given, how: Comparing) -> Hidden:
    label = operation.outputs[0]
    taken = operation.inputs[:1] if operation.operation != graph.BATCH_NORM else ()
    labels = [one.wire.label for one in ends]
    plain = how.replay(how.data, given.arrays, [label, *taken, *labels])
    axis = tensors.axis_of(operation)
    if not how.forces or not all(one in plain and _is_of_channels(plain[one], axis) for one in (label, *taken)):
        return Hidden(unseen=True)
    y = plain[label]
    silent = frozenset[int]()
    if taken:
        sizes = _of_channels(plain[taken[0]], axis)
        silent = frozenset(np.flatnonzero(~(sizes > _SILENT * sizes.max(initial=0.0))).tolist())
    shows = np.zeros(y.shape[axis], np.bool_)
    behind = [one for one in ends if one.wire.label != label]
    # A channel of zeros is moved by as much of the largest number.
    sizes, last = _of_channels(y, axis), np.abs(np.moveaxis(y, axis, -1)).astype(np.float64)
    step = PART * np.moveaxis(np.where(sizes > 0, last, sizes.max(initial=0.0)), -1, axis)
    for one in ends:
        if one.wire.label == label:
            shows |= _of_channels(step, axis) > 2 * one.allowed
    signs = np.random.default_rng(how.seed).choice([-1.0, 1.0], y.shape)

    def moved(channels: Array) -> list[Array]:
        along = np.moveaxis(np.broadcast_to(channels, (*np.moveaxis(y, axis, -1).shape[:-1], channels.size)), -1, axis)
        shaken = (y + signs * along * step).astype(y.dtype)
        after = how.replay(how.data, {**given.arrays, label: shaken}, [one.wire.label for one in behind])
        return [_changed(one, plain[one.wire.label], after[one.wire.label]) for one in behind]

    if behind:
        shows |= _told_apart(shows.size, moved)
        for channel in np.flatnonzero(~shows)[:_ALONE]:
            shows[channel] = any(one.any() for one in moved(np.arange(shows.size) == channel))
    return Hidden(frozenset(np.flatnonzero(~shows).tolist()), silent)


def _is_of_channels(values: Array, axis: int) -> bool:
    return values.dtype.kind == "f" and -values.ndim <= axis < values.ndim


def _of_channels(values: Array, axis: int) -> Array:
    """Return the size of the largest number of each channel."""
    last = np.moveaxis(values, axis, -1)
    with np.errstate(all="ignore"):
        sizes: Array = np.abs(last.reshape(-1, last.shape[-1]).astype(np.float64)).max(axis=0, initial=0.0)
    return sizes


def _changed(end: Stretch, before: Array, now: Array) -> Array:
    with np.errstate(all="ignore"):
        changed: Array = np.abs(now.astype(np.float64) - before) > 2 * end.allowed
    return changed.reshape(-1)


def _told_apart(count: int, moved: Callable[[Array], list[Array]]) -> Array:
    """Return which channels show in an element that no other channel reaches.

    Each channel has a number of as many ones as zeros, and in run k those are moved whose digit k is one. An element
    that changes in the very runs of one number depends on that channel alone: any two numbers have more ones together.
    """
    bits = max(1, (count - 1).bit_length())
    digits = (np.arange(count)[:, np.newaxis] >> np.arange(bits)) & 1
    codes = np.concatenate([digits, 1 - digits], axis=1).astype(np.bool_)
    weights = 1 << np.arange(2 * bits, dtype=np.int64)
    seen: list[Array] = []
    for run in range(2 * bits):
        for place, one in enumerate(moved(codes[:, run])):
            if run == 0:
                seen.append(np.zeros(one.shape, np.int64))
            seen[place] += one * weights[run]
    shows: Array = np.isin(codes @ weights, np.concatenate([np.unique(one) for one in seen]))
    return shows
