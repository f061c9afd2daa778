"""An array in a file, whose rows are samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bninspect.records import Array


@dataclass(frozen=True, eq=False)
class Table:
    """An array in a file, whose rows are samples."""

    label: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    read: Callable[[Sequence[int]], Array]
    """Return rows by their places, stacked."""
    of_record: bool = False
    """Whether it is one field of records, beside labels and others, and without the shape that its numbers have."""
