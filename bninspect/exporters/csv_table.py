"""CSV, for spreadsheets and data frames: one row per layer and channel."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import fields
from itertools import zip_longest
from typing import Any

from bninspect.exporters.entries import entries
from bninspect.exporters.json_text import numbers
from bninspect.formats.export_metadata import ARRAYS, ExportEntry, number
from bninspect.records import BatchNorm, Checkpoint
from bninspect.safe_text import printable

_LEFT_OUT = {"name", "outside_root", *ARRAYS}
"""Not columns: names and numbers have columns of their own, and that epsilon is outside the root is in the notes."""
SETTINGS = tuple(item.name for item in fields(BatchNorm) if item.name not in _LEFT_OUT)

# What a spreadsheet takes for a formula (OWASP, "CSV Injection"), full-width forms included; and the mark itself.
_ACTIVE = tuple("=+-@\t\r\n＝＋－＠'")


def encode(checkpoint: Checkpoint, *, folded: bool) -> bytes:
    """Return a table (RFC 4180, UTF-8, with a header) with one row per layer and channel.

    A layer without arrays has one row without a channel, so none is lost. Numbers are as in JSON, what is unknown
    is empty, and the channels of a layer over several axes are counted in C order. Texts are shown with escapes for
    what is not printable, and with a `'` before them where a spreadsheet would take them for a formula.
    Raises as `entries.fold`.
    """
    arrays = ("scale", "shift") if folded else ARRAYS
    # `scale` and `center` say whether there are a gamma and a beta: of no use, and ambiguous, beside a folded scale.
    settings = [name for name in SETTINGS if not (folded and name in {"scale", "center"})]
    table = io.StringIO(newline="")
    # All texts are quoted: a cell then stays one cell in a spreadsheet that splits at semicolons, too.
    writer = csv.writer(table, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["layer", "channel", *arrays, *settings, "shape", "writer"])
    for entry in entries(checkpoint, folded=folded):
        shapes = {array.shape for array in entry.arrays.values()}
        cells = [_cell(entry.dtype if name == "dtype" else getattr(entry.layer, name)) for name in settings]
        cells += [_cell(shapes.pop() if len(shapes) == 1 else None), _cell(checkpoint.writer)]
        for channel, values in _channels(entry, arrays):
            writer.writerow([_cell(entry.layer.name), channel, *values, *cells])
    return table.getvalue().encode()


def _channels(entry: ExportEntry, names: tuple[str, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield each channel's number and its value of each array, empty where the layer lacks the array."""
    columns = [numbers(entry.arrays[name].ravel()) if name in entry.arrays else [] for name in names]
    rows = list(zip_longest(*columns, fillvalue=""))
    return iter(enumerate(rows) if rows else [("", ("",) * len(names))])


def _cell(value: Any) -> Any:
    """Return a setting as `csv` writes it: a number, or a text, which it quotes."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return number(value)
    if isinstance(value, tuple):
        separator = "; " if any(isinstance(part, str) for part in value) else " "
        return value[0] if len(value) == 1 and isinstance(value[0], int) else _cell(separator.join(map(str, value)))
    if isinstance(value, int):
        return value
    text = printable(value, 10 * len(value) + 1)  # without shortening it
    return f"'{text}" if text.startswith(_ACTIVE) else text
