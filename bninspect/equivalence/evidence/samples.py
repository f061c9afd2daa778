"""Further input for both, where the first left something open: other scales, and what the first layer is used to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bninspect.equivalence import tensors
from bninspect.equivalence.evidence.rounds import Subject
from bninspect.records import Array
from bninspect.records.graph import Quantisation

SCALES = (8.0, -0.125, 64.0)
"""How much louder and softer than the first the further samples are; one of the other sign."""
SOFTER = (0.25, -0.25, 0.05, 8.0)
"""The same for an export that quantises: what is loud is cut off in it."""


def further(
    given: Mapping[str, Array], data: Sequence[Array], subject: Subject
) -> Iterator[tuple[Mapping[str, Array], Sequence[Array]]]:
    """Yield the input of the export and the same for the source: louder, softer, then around the first statistics."""
    quantised = {name: subject.export.quantised[name] for name in given if name in subject.export.quantised}
    if quantised:
        yield from _softer(given, data, quantised)
        return
    if not any(values.dtype.kind == "f" for values in given.values()):
        return
    for scale in SOFTER if subject.export.quantised else SCALES:
        yield {name: _scaled(one, scale) for name, one in given.items()}, [_scaled(one, scale) for one in data]
    first = next((place for place in subject.places if place.norms), None)
    if first is None:
        return
    mean, spread = _statistics(first.norms[0].affine.mean, first.norms[0].layer.moving_variance)
    yield (
        {name: _moved(one, mean, spread) for name, one in given.items()},
        [_moved(one, mean, spread) for one in data],
    )


def _softer(
    given: Mapping[str, Array], data: Sequence[Array], quantised: Mapping[str, Quantisation]
) -> Iterator[tuple[Mapping[str, Array], Sequence[Array]]]:
    """Yield integers nearer to their zero: the first ones use the whole range of their type."""
    for scale in (0.25, 0.05):
        taken: dict[str, Array] = {}
        for name, values in given.items():
            zero = quantised[name].zero.reshape(-1)[:1] if name in quantised else np.zeros(1)
            near = np.rint(zero + (values.astype(np.float64) - zero) * scale).astype(values.dtype)
            taken[name] = near if name in quantised else values
        reals = [tensors.real(one, quantised.get(name)) for name, one in taken.items()]
        # The layout and the order of the source's are those of the first input.
        if all(one.shape == other.shape for one, other in zip(reals, data, strict=False)):
            yield taken, [one.astype(other.dtype) for one, other in zip(reals, data, strict=True)]


def _statistics(mean: Array, variance: Array | None) -> tuple[float, float]:
    middle = float(np.mean(mean)) if np.isfinite(mean).all() else 0.0
    spread = float(np.sqrt(np.mean(np.abs(variance)))) if variance is not None and variance.size else 1.0
    return middle, spread if np.isfinite(spread) and spread > 0 else 1.0


def _scaled(values: Array, scale: float) -> Array:
    if values.dtype.kind != "f":
        return values
    scaled: Array = (values * scale).astype(values.dtype)
    return scaled


def _moved(values: Array, mean: float, spread: float) -> Array:
    if values.dtype.kind != "f":
        return values
    moved: Array = (values * spread + mean).astype(values.dtype)
    return moved
