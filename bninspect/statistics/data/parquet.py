"""Samples in Parquet files, read by pyarrow, a group of rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.errors import MissingPackage, UnreadableFile, UsageError
from bninspect.records import Array
from bninspect.safe_text import printable
from bninspect.statistics.data.table import Table

SUFFIXES = (".parquet", ".pq")
SIGNATURE = b"PAR1"
_SHOWN = 4
_GROUPS = 4
"""Groups of rows that are kept in memory, of one column each."""


def tables(path: Path) -> dict[str, Table]:
    """Return the columns that hold numbers, or lists of equally many, by name.

    Raises:
        MissingPackage: pyarrow is not installed.
        UnreadableFile: pyarrow cannot read it, or no column holds numbers.
        UsageError: it holds no rows.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        hint = "pip install pyarrow"
        raise MissingPackage("Parquet is read by pyarrow, which is not installed", hint=hint) from error
    label = printable(str(path))
    try:
        meta = pq.read_metadata(path)
        columns = list(pq.read_schema(path))
    except Exception as error:
        raise UnreadableFile(f"{label} cannot be read", why=str(error).splitlines()[0]) from error
    if not meta.num_rows:
        raise UsageError("no data", why=f"{label} holds no rows")
    ends = np.cumsum([meta.row_group(group).num_rows for group in range(meta.num_row_groups)])
    changed = path.stat().st_mtime_ns
    found = {}
    for name in (column.name for column in columns):
        first = _group(path, changed, 0, name)
        if first is not None:
            shape = (meta.num_rows, *first.shape[1:])
            read = _reader(path, changed, ends, name)
            found[name] = Table(f"{printable(name)} in {label}", shape, first.dtype, read, of_record=True)
    if not found:
        held = ", ".join(f"{printable(column.name)} ({column.type})" for column in columns[:_SHOWN])
        why = f"no column is of numbers, or of lists of equally many; the first are {held}"
        raise UnreadableFile(f"{label} holds no numbers", why=why)
    return found


def _reader(path: Path, changed: int, ends: Array, name: str) -> Any:
    def read(rows: Sequence[int]) -> Array:
        groups = np.searchsorted(ends, rows, side="right")
        parts: list[Array] = []
        for row, group in zip(rows, groups, strict=True):
            values = _group(path, changed, int(group), name)
            if values is None or (parts and values.shape[1:] != parts[0].shape):
                why = f"a later group of rows of {printable(name)} holds something else than the first"
                raise UnreadableFile(f"the rows of {printable(str(path))} differ", why=why)
            parts.append(values[row - (int(ends[group - 1]) if group else 0)])
        return np.stack(parts)

    return read


@lru_cache(maxsize=_GROUPS)
def _group(path: Path, _changed: int, group: int, name: str) -> Array | None:
    """Return a column of a group of rows, shape (rows,) or (rows, numbers); None where it does not hold numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pq.ParquetFile(path).read_row_group(group, columns=[name]).column(0).combine_chunks()
    shape: tuple[int, ...] = (len(column),)
    while (
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)
    ):
        if column.null_count:
            return None
        flat = column.flatten()
        shape = (*shape, len(flat) // max(1, len(column)))
        lengths = {len(part) for part in column.to_pylist()} if not pa.types.is_fixed_size_list(column.type) else set()
        if len(lengths) > 1:
            return None
        column = flat
    kind = column.type
    truth = pa.types.is_boolean(kind) and not column.null_count
    if not (truth or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    # A number that is missing becomes NaN, which is said with the place of its sample.
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)
