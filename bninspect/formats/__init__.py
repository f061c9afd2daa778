"""File formats: each module turns one kind of file into a Checkpoint; `read` chooses among them by content.

A new format is one new module with a `FORMAT` and one line in `FORMATS`. Reading runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bninspect.errors import UnknownFormat, UnreadableFile, UnsafeFile
from bninspect.formats import bninspect_npz, flax, keras_h5, keras_weights, keras_zip, safetensors
from bninspect.formats.format import Format
from bninspect.formats.identify import hint, identify, is_zip_behind
from bninspect.formats.onnx import container as onnx
from bninspect.formats.tensorflow import checkpoint, frozen, saved_model
from bninspect.formats.tflite import container as tflite
from bninspect.formats.torch import container as torch

if TYPE_CHECKING:
    from pathlib import Path

    from bninspect.records import Checkpoint

__all__ = ["FORMATS", "Format", "identify", "read"]

FORMATS: tuple[Format, ...] = (
    keras_h5.FORMAT,
    keras_zip.FORMAT,
    keras_weights.FORMAT,
    bninspect_npz.FORMAT,
    safetensors.FORMAT,
    saved_model.FORMAT,
    frozen.FORMAT,
    checkpoint.FORMAT,
    tflite.FORMAT,
    onnx.FORMAT,
    torch.FORMAT,
    flax.FORMAT,
)


def read(path: Path) -> Checkpoint:
    """Read a model file or folder, of whichever format its content is; its name decides nothing.

    Args:
        path: a file or folder, or the prefix of a TensorFlow checkpoint, which is the path of no file.

    Raises:
        UnknownFormat: it is of no kind that is read; the error says what it probably is.
        UnsafeFile: it is of several kinds at once, so that another reader might see another model.
        UnreadableFile: as the format's reader, or it cannot be opened.
    """
    if not path.is_dir() and not path.is_file() and not checkpoint.FORMAT.matches(path, b""):
        raise UnreadableFile(f"{path} cannot be read", why=f"it is {identify(path)}")
    try:
        head = _head(path) if path.is_file() else b""
        two = path.is_file() and is_zip_behind(path, head)
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be opened", why=error.strerror or str(error)) from error
    claims = [known for known in FORMATS if known.matches(path, head)]
    if not claims:
        raise UnknownFormat(
            f"{path} is of no format that bninspect reads",
            why=f"it is {identify(path)}",
            hint=(path.is_file() and hint(head)) or f"it reads {', '.join(known.title for known in FORMATS)}",
        )
    if two or len(claims) > 1:
        kinds = [known.title for known in claims] + ["a zip archive"] * two
        raise UnsafeFile(f"{path} is of several kinds at once", why=" and ".join(kinds))
    return claims[0].read(path)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)
