"""Memory that is used again and again: a fresh page costs more than the sums of the numbers that are put there."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bninspect.arithmetic.formula import Float64

_OF_THREAD = threading.local()


def scratch(name: str, shape: tuple[int, ...]) -> Float64:
    """Return an array of float64 with anything in it. It is the caller's until this thread asks for its name again."""
    held: dict[str, Float64] = _OF_THREAD.__dict__
    size = math.prod(shape)
    if name not in held or held[name].size < size:
        held[name] = np.empty(size)
    return held[name][:size].reshape(shape)
