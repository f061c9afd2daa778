"""Attributes in HDF5, of which Keras makes its lists of names and its configuration; and what may be read of a file.

Part of the choke point h5.py, which is the only caller. Handles are those of h5py's low-level interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bninspect.errors import DamagedFile, UnsafeFile

TEXT_BYTES = 64 << 20


@dataclass
class AttributeBudget:
    """What may still be read from one open file; several names of one thing count several times."""

    label: str
    array_bytes: int = 1 << 30
    members: int = 100_000
    attribute_elements: int = 200_000
    file: Any = None
    """The open file, if it is not libhdf5 that opens it."""

    def spend(self, kind: str, amount: int, where: str) -> None:
        """Take `amount` from what is left of `kind`; raise UnsafeFile if there is not as much."""
        left = getattr(self, kind) - amount
        if left < 0:
            why = (
                f"{where} has {amount:,} {kind.replace('_', ' ')}, {left + amount:,} are left of what is read of a file"
            )
            raise UnsafeFile(f"{self.label} is too large", why=why)
        setattr(self, kind, left)


def texts(handle: Any, name: str, budget: AttributeBudget, where: str) -> list[str] | None:
    """Return the texts of an attribute, none if it is empty; None where there is no such attribute.

    Raises:
        DamagedFile: it is not of text.
        UnsafeFile: it is beyond the budget.
    """
    import h5py

    if not h5py.h5a.exists(handle, name.encode()):
        return None
    attribute = h5py.h5a.open(handle, name.encode())
    elements = attribute.get_space().get_simple_extent_npoints()
    # Keras stores an empty list as an array of float64 without elements.
    if not elements:
        return []
    where = f"attribute {name} of {where}"
    kind = attribute.get_type()
    if kind.get_class() != h5py.h5t.STRING:
        raise DamagedFile(f"{budget.label} is damaged", why=f"{where} is not text")
    budget.spend("attribute_elements", elements, where)
    if not kind.is_variable_str() and elements * kind.get_size() > TEXT_BYTES:
        raise UnsafeFile(
            f"{budget.label} is too large",
            why=f"{where} has {elements * kind.get_size():,} bytes, at most {TEXT_BYTES:,} are read",
        )
    values = np.empty(attribute.shape, attribute.dtype)
    attribute.read(values)
    return [decoded(value) for value in values.reshape(-1).tolist()]


def decoded(text: object) -> str:
    """Return a name or text as str: UTF-8, and bytes that are not as lone surrogates, by which it is found again."""
    if isinstance(text, bytes):
        return text.decode("utf-8", "surrogateescape")
    if isinstance(text, str):
        return text
    raise DamagedFile("a name or text in the file is not text", why=repr(text)[:80])
