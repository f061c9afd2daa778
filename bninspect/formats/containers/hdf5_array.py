"""What an array in HDF5 may be before it is read: stored in this file, of numbers, in proportion to the file.

Part of the choke point h5.py, which is the only caller. A dataset is h5py's DatasetID, its `kind` the TypeID.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from bninspect.arithmetic.rounding import from_bfloat16
from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats.stored_numbers import read_only
from bninspect.records import Array

ARRAY_BYTES = 512 << 20
"""Most that one array, or one chunk of it, may declare."""
SMALL = 1 << 20
EXPANSION = 200
"""Declared bytes per stored byte above SMALL: parameters hardly compress, so more than this is a bomb."""

# deflate, shuffle, fletcher32, lzf. For any other filter libhdf5 looks for a plug-in library and runs it.
FILTERS = frozenset({1, 2, 3, 32000})


def declared(dataset: Any, kind: Any, label: str, where: str) -> tuple[tuple[int, ...], int]:
    """Return the shape of `dataset` and how many bytes reading it takes, having looked at where they are stored.

    Raises:
        UnsafeFile: it is kept in another file, needs a plug-in, or declares far more than is stored.
        DamagedFile: it has no data.
    """
    import h5py

    space = dataset.get_space()
    if space.get_simple_extent_type() == h5py.h5s.NULL:
        raise DamagedFile(f"{label} is damaged", why=f"{where} has no data (null dataspace)")
    plan = dataset.get_create_plist()
    if plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
        raise UnsafeFile(
            f"{label} keeps an array in another file", why=f"{where} is external storage or a virtual dataset"
        )
    foreign = {plan.get_filter(index)[0] for index in range(plan.get_nfilters())} - FILTERS
    if foreign:
        raise UnsafeFile(f"{label} needs a filter plug-in", why=f"{where} uses HDF5 filters {sorted(foreign)}")
    shape = space.get_simple_extent_dims()
    lengths = shape
    if plan.get_layout() == h5py.h5d.CHUNKED and prod(shape):
        # Whole chunks are unpacked, however little of them the array uses.
        lengths = [-(-n // part) * part for n, part in zip(shape, plan.get_chunk(), strict=True)]
    size = int(prod(lengths) * kind.get_size())
    stored = dataset.get_storage_size()
    if size > ARRAY_BYTES or size > max(SMALL, EXPANSION * stored):
        raise UnsafeFile(
            f"{label} declares an array out of proportion",
            why=f"{where} unpacks to {size} bytes of which the file stores {stored}",
        )
    if size and not stored:
        raise DamagedFile(f"{label} is half-written", why=f"{where} was declared but never written")
    return shape, size


def is_opaque(kind: Any) -> bool:
    """Return whether a type is bytes without a meaning, as Keras stores bfloat16, which HDF5 lacks."""
    import h5py

    return bool(kind.get_class() == h5py.h5t.OPAQUE)


def stored_type(kind: Any, opaque: str, label: str, where: str) -> str:
    """Return the name of the stored type, for instance `float32`.

    Args:
        kind: the array's type.
        opaque: what opaque bytes are, as Keras tells of bfloat16 in the attribute `dtype`.
        label: what error messages call the file.
        where: what they call the array.

    Raises:
        UnsafeFile: texts, references, compounds or anything else that is not numbers.
        DamagedFile: a number type that NumPy lacks, so that its values cannot be taken as they are.
    """
    import h5py

    if kind.get_class() not in {h5py.h5t.FLOAT, h5py.h5t.INTEGER, h5py.h5t.OPAQUE}:
        raise UnsafeFile(f"{label} holds something other than numbers where an array should be", why=where)
    found = kind.dtype
    if found.kind == "V" and found.itemsize == 2 and opaque == "bfloat16":
        return "bfloat16"
    # h5py widens a float layout that NumPy lacks; only then do the sizes differ.
    if found.kind not in "fiu" or found.itemsize != kind.get_size() or found.itemsize > 8:
        raise DamagedFile(f"{label} holds an array of an unknown number type", why=f"{where} is {found}")
    return str(found.name)


def read(dataset: Any, kind: Any, shape: tuple[int, ...], stored: str) -> Array:
    """Return `dataset` of that shape, read-only, in native byte order; bfloat16, which NumPy lacks, becomes float32."""
    import h5py

    array = np.empty(shape, kind.dtype.newbyteorder("="))
    if array.size:
        dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    if stored == "bfloat16":
        array = from_bfloat16(array.view(np.uint16))
    return read_only(array)
