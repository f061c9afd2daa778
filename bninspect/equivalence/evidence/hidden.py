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
_RUNS = 64
"""Runs in which channels are looked for that what is behind mixes with others."""


@dataclass(frozen=True, eq=False)
class Lost:
    """An operation of the source whose numbers the export does not hold as they are."""

    operation: Node
    alike: bool = False
    """Whether the export has all its numbers off by the same one: what channels have in common one of them shows."""


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
    lost: Iterable[Lost], stretches: Sequence[Stretch], given: Given, how: Comparing, known: Mapping[Node, Hidden]
) -> Mapping[Node, Hidden]:
    """Return the channels that do not show, of those operations behind which everything agrees without allowance.

    Args:
        lost: the operations.
        stretches: what was compared.
        given: the export's values that the source starts from.
        how: what everything was compared with.
        known: what other input hides: only that is looked for.
    """
    found: dict[Node, Hidden] = {}
    for one in lost if how.source is not None else ():
        assert how.source is not None  # noqa: S101 - narrows the type
        before = known.get(one.operation)
        ends = nearest(one.operation, how.source, stretches)
        if (before is None or before.sentence) and ends and all(end.proves for end in ends):
            found[one.operation] = _hidden(
                one, ends, given, how, None if before is None or before.unseen else before.outputs
            )
    return found


def _hidden(lost: Lost, ends: Sequence[Stretch], given: Given, how: Comparing, only: frozenset[int] | None) -> Hidden:
    operation = lost.operation
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
        silent = _places(~(sizes > _SILENT * sizes.max(initial=0.0)))
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

    if lost.alike:
        return Hidden() if shows.any() or any(one.any() for one in moved(~shows)) else Hidden(_places(~shows))
    if only is not None:
        shows |= ~np.isin(np.arange(shows.size), list(only))
    elif behind:
        shows |= _told_apart(shows.size, moved)
    if behind:
        shows |= _searched(~shows, moved)
    return Hidden(_places(~shows), silent)


def _places(chosen: Array) -> frozenset[int]:
    return frozenset(np.flatnonzero(chosen).tolist())


def _searched(channels: Array, moved: Callable[[Array], list[Array]]) -> Array:
    """Return which of some channels show: of those that do not show together none does, of others halves are tried."""
    shows = np.zeros(channels.size, np.bool_)
    waiting = [np.flatnonzero(channels)]
    for _ in range(_RUNS):
        group = waiting.pop() if waiting else np.zeros(0, np.int64)
        if group.size and any(one.any() for one in moved(np.isin(np.arange(channels.size), group))):
            shows[group] = group.size == 1
            waiting += np.array_split(group, 2) if group.size > 1 else []
    return shows


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
