"""Over which axes a moment is taken tells a batch norm from what normalises each sample by itself."""

from __future__ import annotations

from collections.abc import Sequence

_MAPS = 4
"""Rank of maps, for axes that are counted from the end of a value whose rank nobody knows."""


def over_batch(axes: Sequence[int], rank: int | None) -> bool:
    """Return whether a moment is taken over the batch, and leaves channels: as a batch norm takes it.

    One over everything is a standardised input; one that leaves the batch is of LayerNorm, GroupNorm or InstanceNorm.

    Args:
        axes: of the reduction, negative or not.
        rank: of the value, None if it is not known.
    """
    if rank is None:
        rank = max(_MAPS, 1 + max(axes, default=0), -min(axes, default=0))
    over = {axis % rank for axis in axes} if rank else set()
    return 0 in over and (len(over) < rank or rank == 1)
