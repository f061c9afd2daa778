"""File formats: each module turns one kind of file into a Checkpoint; `read` chooses among them by content.

A new format is one new module with a `FORMAT` and one line in `FORMATS`. Reading runs nothing.
"""

from __future__ import annotations

from bninspect.formats import bninspect_npz, keras_weights, keras_zip, safetensors
from bninspect.formats.format import Format
from bninspect.formats.identify import identify

__all__ = ["FORMATS", "Format", "identify"]

FORMATS: tuple[Format, ...] = (
    keras_zip.FORMAT,
    keras_weights.FORMAT,
    bninspect_npz.FORMAT,
    safetensors.FORMAT,
)
