"""Which places of an output are recomputed: all of them, or a seeded sample where that would cost too much.

A place is everything that one window makes: all channels of it. A sample is drawn without replacement, the same for
the same seed and shape, and sorted; the corners of the output always belong to it, because borders are where padding
goes wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.kernels.window import Indices, Lengths
from bninspect.errors import BninspectError
from bninspect.records import Array

BLOCK = 1 << 21
"""Numbers gathered at once: the 16 MiB, and as much again for their magnitudes, that a recomputation works in."""


@dataclass(frozen=True)
class Budget:
    """What the recomputation of one operation may cost. Memory for results: 32 bytes per element."""

    products: int = 1 << 33
    """Multiplications of one of the two sums."""
    elements: int = 1 << 24
    """Output elements that are kept in float64."""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Places:
    """The places of an output with the shape (batch, *spatial), as flat indices in ascending order."""

    shape: Lengths
    rows: Indices
    channel_axis: int = -1
    """Where the channels stand in the tensor itself."""

    @property
    def total(self) -> int:
        """Number of places there are."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def share(self) -> float:
        """How many of the places are looked at: 1.0 if all are."""
        return self.rows.size / self.total if self.total else 1.0

    def pick(self, y: Array) -> Array:
        """Return the rows of a tensor in the layout of the operation at these places, shape (places, channels).

        Raises:
            BninspectError: the tensor has another shape than the operation makes.
        """
        if y.ndim != len(self.shape) + 1:
            raise BninspectError(f"an output of rank {y.ndim} was expected to have {len(self.shape) + 1} axes")
        last = np.moveaxis(y, self.channel_axis, -1)
        if last.shape[:-1] != self.shape or not last.shape[-1]:
            raise BninspectError(f"an output has the places {last.shape[:-1]}, the operation makes {self.shape}")
        if self.rows.size == self.total:
            return last.reshape(-1, last.shape[-1])
        return np.asarray(last[np.unravel_index(self.rows, self.shape)])


def choose(shape: Lengths, *, terms: int, channels: int, budget: Budget, channel_axis: int = -1) -> Places:
    """Return the places that a budget allows for.

    Args:
        shape: (batch, *spatial) of the output.
        terms: products summed per element.
        channels: of the output.
        budget: at least the corners are looked at, whatever it says.
        channel_axis: of the tensors.
    """
    total = int(np.prod(shape, dtype=object))
    most = min(budget.products // max(1, terms * channels), budget.elements // max(1, channels))
    if total <= most:
        return Places(shape, np.arange(total, dtype=np.int64), channel_axis)
    corners = _corners(shape)
    drawn = _draw(total, max(0, most - corners.size), budget.seed)
    return Places(shape, np.unique(np.concatenate([corners, drawn])), channel_axis)


def _corners(shape: Lengths) -> Indices:
    ends = np.meshgrid(*(np.unique([0, n - 1]) for n in shape), indexing="ij")
    return np.asarray(np.ravel_multi_index([each.ravel() for each in ends], shape), np.int64)


def _draw(total: int, count: int, seed: int) -> Indices:
    """Draw `count` of the numbers below `total`, one from each of `count` equal strips: no memory for the others."""
    edges = np.linspace(0, total, count + 1).astype(np.int64)
    return np.random.default_rng(seed).integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1))
