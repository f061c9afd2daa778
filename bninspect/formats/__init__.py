"""File formats: each module turns one kind of file into a Checkpoint; `read` chooses among them by content.

A new format is one new module with a `FORMAT` and one line in `_HOMES`. Reading runs nothing.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bninspect.errors import DamagedFile, UnknownFormat, UnreadableFile, UnsafeFile
from bninspect.formats.format import Format
from bninspect.formats.unknown_files import HDF5_SIGNATURE, ZIP_SIGNATURE, hint, identify, is_zip_behind
from bninspect.records import Checkpoint
from bninspect.records.graph import Network

if TYPE_CHECKING:
    from bninspect.formats.named_kernels import NamedKernel

    FORMATS: tuple[Format, ...]
    """All formats, in the order of the manual."""

__all__ = ["FORMATS", "Format", "identify", "read", "read_kernels", "read_network"]

# The module of each format. Only those that a file may need are imported: all together take longer than most files.
_HOMES = (
    "keras.hdf5",
    "keras.archive",
    "keras.weights",
    "keras.tensorflowjs",
    "bninspect_npz",
    "safetensors",
    "tensorflow.saved_model",
    "tensorflow.frozen",
    "tensorflow.checkpoint",
    "tflite.format",
    "onnx.format",
    "openvino.format",
    "darknet.format",
    "gguf",
    "ncnn.format",
    "torch.format",
    "flax",
)
# Files that begin so are of no other format than these.
_FAMILIES = {
    HDF5_SIGNATURE: ("keras.hdf5", "keras.weights"),
    ZIP_SIGNATURE: ("keras.archive", "bninspect_npz", "torch.format"),
}
WEIGHTS_ALONE = ("torch-state-dict", "safetensors", "keras-weights", "bninspect-npz", "gguf")
"""What a `Checkpoint` calls the formats of files that hold weights alone."""

_FOLDERS = ("keras.archive", "tensorflow.saved_model", "tensorflow.checkpoint")


@cache
def _format(home: str) -> Format:
    found: Format = import_module(f"{__name__}.{home}").FORMAT
    return found


def __getattr__(name: str) -> Any:
    if name == "FORMATS":
        return tuple(_format(home) for home in _HOMES)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _candidates(path: Path, head: bytes) -> tuple[Format, ...]:
    """Return the formats that a folder, or a file with these first bytes, may be of."""
    found = (homes for start, homes in _FAMILIES.items() if head.startswith(start))
    homes = _FOLDERS if path.is_dir() else next(found, _HOMES)
    return tuple(_format(home) for home in homes)


def read(path: Path) -> Checkpoint:
    """Read a model file or folder, of whichever format its content is; its name decides nothing.

    Args:
        path: a file or folder, or the prefix of a TensorFlow checkpoint, which is the path of no file.

    Raises:
        UnknownFormat: it is of no kind that is read; the error says what it probably is.
        UnsafeFile: it is of several kinds at once, so that another reader might see another model.
        UnreadableFile: as the format's reader, or it cannot be opened.
    """
    checkpoint = _known(path).read(path)
    for layer in checkpoint.layers:
        for name in ("epsilon", "momentum"):
            value = getattr(layer, name)
            if value is not None and not math.isfinite(value):
                raise DamagedFile(
                    f"{path} states a setting that is not a number", why=f"{layer.name}: {name} is {value}"
                )
    return checkpoint


def read_network(path: Path) -> Network:
    """Read what a file computes, to find batch norms that a converter folded.

    Raises:
        UnreadableFile: as `read`, or its format holds no graph that is read.
    """
    known = _known(path)
    if known.network is None:
        raise UnreadableFile(f"{path} holds no graph that is read", why=f"it is {known.title}")
    return known.network(path)


def read_kernels(path: Path) -> tuple[NamedKernel, ...]:
    """Read the kernels of a file that holds weights alone; none if its format has none. Raises as `read`."""
    known = _known(path)
    return known.kernels(path) if known.kernels is not None else ()


def _known(path: Path) -> Format:
    """Return the one format that a file is of. Raises as `read`."""
    try:
        if not path.is_dir() and not path.is_file() and not _format("tensorflow.checkpoint").matches(path, b""):
            raise UnreadableFile(f"{path} cannot be read", why=f"it is {identify(path)}")
        head = _head(path) if path.is_file() else b""
        two = path.is_file() and is_zip_behind(path, head)
        claims = [known for known in _candidates(path, head) if known.matches(path, head)]
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be opened", why=error.strerror or str(error)) from error
    if not claims:
        raise UnknownFormat(
            f"{path} is not of a format that bninspect reads",
            why=f"it is {identify(path)}",
            hint=(path.is_file() and hint(head)) or "bninspect doctor lists the formats that are read",
        )
    if two or len(claims) > 1:
        kinds = [known.title for known in claims] + ["a zip archive"] * two
        raise UnsafeFile(f"{path} is of several kinds at once", why=" and ".join(kinds))
    return claims[0]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)
