"""Numbers as they lie in files, as arrays that NumPy computes with and nobody writes to."""

from __future__ import annotations

from bninspect.arithmetic.rounding import from_bfloat16
from bninspect.records import Array


def native(stored: Array, *, bfloat16: bool = False) -> Array:
    """Return a copy of stored numbers in this machine's byte order, read-only; patterns of bfloat16 as float32."""
    values = from_bfloat16(stored) if bfloat16 else stored
    return read_only(values.astype(values.dtype.newbyteorder("="), copy=not bfloat16))


def read_only(values: Array) -> Array:
    """Return an array that nobody can write to any more: a record that holds it stays what it is."""
    values.flags.writeable = False
    return values
