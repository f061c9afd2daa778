"""NumPy's .npz, as `bninspect export` writes it."""

from __future__ import annotations

import struct
from pathlib import Path

from bninspect.errors import UnreadableFile
from bninspect.formats.encodings import npy
from bninspect.formats.export_metadata import from_text
from bninspect.formats.format import Format
from bninspect.formats.unknown_files import ZIP_SIGNATURE
from bninspect.records import Checkpoint
from bninspect.safe_text import printable

NAME = "bninspect-npz"
DESCRIPTION = "__bninspect__"
"""Name of the text array with the description; no array of a layer is called so, theirs have a slash."""


def _matches(_path: Path, head: bytes) -> bool:
    """Claim every zip that begins with an array, so that a foreign or a cut-off one is called what it is."""
    if not head.startswith(ZIP_SIGNATURE) or len(head) < 30:
        return False
    (length,) = struct.unpack_from("<H", head, 26)
    return head[30 : 30 + length].endswith(b".npy")


def _read(path: Path) -> Checkpoint:
    arrays = npy.read(path)
    description = arrays.pop(DESCRIPTION, None)
    if description is None or description.dtype.kind != "U" or description.shape:
        found = ", ".join(f"'{printable(name)}'" for name in list(arrays)[:3])
        raise UnreadableFile(
            f"{path} is not an export of bninspect",
            why=f"a .npz without the text '{DESCRIPTION}', which would hold epsilon; it begins with {found}",
            hint="write it again from the model: bninspect export MODEL --format npz",
        )
    return from_text(str(description), arrays, path, NAME)


FORMAT = Format(NAME, "NumPy .npz, exported by bninspect", (".npz",), _matches, _read)
