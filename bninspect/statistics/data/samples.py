"""Data as the rest of the program sees it: so many samples, any of which can be had as arrays by the model's inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.records import Array
from bninspect.runtimes.runtime import Stream

_HELD = 256_000_000
"""Bytes of what arrives at batch norms that a forward pass may hold."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Data that is read when it is asked for."""

    title: str
    """What it is called in reports."""
    count: int
    read: Callable[[Sequence[int]], Mapping[str, Array]]
    """Return samples by their places, stacked, by the name of the model's input."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples for a forward pass."""

    arrays: Mapping[str, Array]
    """By the name of the input, or of a value on the way."""
    samples: int
    """How many of them count: the last batch is filled up, so that all are of one size."""
    size: int
    """How many there are."""


def places(count: int, limit: int | None, seed: int | None) -> Sequence[int]:
    """Return which samples to use, in which order: the first ones or, with a seed, random ones."""
    used = count if limit is None else min(count, limit)
    if seed is None:
        return range(used)
    return [int(place) for place in np.random.default_rng(seed).permutation(count)[:used]]


def batches(samples: Samples, chosen: Sequence[int], size: int) -> Iterator[Batch]:
    """Yield the chosen samples in batches of one size.

    Raises:
        RuntimeFailure: a value is NaN or infinite.
    """
    for start in range(0, len(chosen), size):
        part = list(chosen[start : start + size])
        arrays = samples.read(part + part[-1:] * (size - len(part)))
        for name, values in arrays.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                where = next(i for i, one in zip(part, values, strict=False) if not np.isfinite(one).all())
                raise RuntimeFailure(
                    "the data holds NaN or infinity", why=f"sample {where}" + (f" of input {name!r}" if name else "")
                )
        yield Batch(arrays, len(part), size)


def batch_size(stream: Stream, data: Samples, wanted: int, samples: int) -> int:
    """Return the samples in a forward pass.

    As many as the model insists on, else as wanted: no more than there are, and than memory takes where all that
    arrives at batch norms is there at a time.
    """
    fixed = next((source.shape[0] for source in stream.inputs if source.shape and source.shape[0] is not None), None)
    if fixed is not None:
        return fixed
    if stream.held is not None:
        wanted = min(wanted, _HELD // max(1, stream.held(data.read([0]))))
    return max(1, min(wanted, samples))
