"""NumPy's .npz: `numpy.load("bn.npz")["block1/bn/gamma"]`."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import numpy as np

from bninspect.exporters.entries import entries
from bninspect.formats.bninspect_npz import DESCRIPTION
from bninspect.formats.export_metadata import SETTINGS, ExportEntry, to_text
from bninspect.records import Array, Checkpoint


def encode(checkpoint: Checkpoint, *, folded: bool) -> bytes:
    """Return a .npz with an array `<layer>/gamma` and so on for each parameter, in the stored dtype.

    `<layer>/epsilon` and `<layer>/momentum` (float64, no dimension) and `<layer>/axis` (int64, one) stand beside them
    where they are known, for those who do not want to parse JSON; beside scale and shift there is the axis alone.
    bfloat16, which NumPy lacks, becomes float32 without loss. `__bninspect__` is a text array without dimensions: JSON
    with everything else that is known of the layers. The same checkpoint gives the same bytes.
    Raises as `entries.fold`.
    """
    layers = [_with_settings(entry, folded=folded) for entry in entries(checkpoint, folded=folded)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        add(archive, DESCRIPTION, np.array(to_text(checkpoint, layers, folded=folded)))
        for entry in layers:
            for name, array in entry.named().items():
                add(archive, name, array)
    return buffer.getvalue()


def _with_settings(entry: ExportEntry, *, folded: bool) -> ExportEntry:
    # Scale and shift hold epsilon already: beside them it could only be used twice.
    values = {name: getattr(entry.layer, name) for name in SETTINGS if name == "axis" or not folded}
    known = {name: np.array(value) for name, value in values.items() if value is not None}
    return replace(entry, arrays={**entry.arrays, **known})


def add(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    """Add an array to a .npz file, compressed as the file is."""
    data = io.BytesIO()
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    np.lib.format.write_array(data, np.asarray(little, order="C"), allow_pickle=False)
    # ZipInfo stamps everything with 1980, the beginning of time in a zip, so that the bytes do not depend on it.
    archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue(), archive.compression)
