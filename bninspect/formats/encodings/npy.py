"""NumPy's .npy and .npz read without trust: nothing is unpickled, and no size is believed without its bytes.

`np.load(allow_pickle=False)` runs no code either, but it allocates whatever shape a header declares, and
raises errors outside its documented set.
Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import ast
import math
import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.errors import DamagedFile, LimitExceeded, UnreadableFile, UnsafeFile
from bninspect.formats import whole_file
from bninspect.formats.stored_numbers import read_only
from bninspect.records import Array
from bninspect.safe_text import printable

_OF_TEXT = "save numbers of text as an array: numpy.save('x.npy', numpy.loadtxt('x.csv', delimiter=',', ndmin=2))"
SIGNATURE = b"\x93NUMPY"
LARGEST = whole_file.LARGEST
"""Most bytes that a file of arrays may unpack to: as much as a batch of 3500 colour images of 224 x 224."""

_HEADER_BYTES = 10_000  # as in NumPy itself
_RANK = 32
# Nothing else reaches np.dtype, which takes whole little programs: "(2,3)f4, O".
_TYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,7})")


def read(path: Path) -> dict[str, Array]:
    """Return the arrays of a .npz file by name, or the one of a .npy file as "". The content decides which.

    Arrays are read-only, in native byte order, of any of NumPy's boolean, integer, float (up to 64 bits) and
    text types.

    Raises:
        UnreadableFile: the file is missing, neither .npy nor .npz, or holds something other than such arrays;
            among them DamagedFile where it is cut off and UnsafeFile where it is a decompression bomb.
        LimitExceeded: it is larger than `LARGEST`.
    """
    from bninspect.formats.unknown_files import ZIP_SIGNATURE, refusal

    label = printable(str(path))
    try:
        if not path.is_file():
            raise UnreadableFile(f"{label} cannot be read", why="there is no such file")
        with path.open("rb") as stream:
            head = stream.read(4096)
            if head.startswith(ZIP_SIGNATURE):
                return _members(path, label)
            if not head.startswith(SIGNATURE):
                error = refusal(label, head, "a NumPy file (.npy or .npz)")
                error.hint = error.hint or (_OF_TEXT if error.why == "it is text" else "")
                raise error
        return {"": parse(whole_file.read(path, LARGEST), label)}
    except OSError as error:
        raise UnreadableFile(f"{label} cannot be read", why=error.strerror or str(error)) from error
    except MemoryError as error:
        raise LimitExceeded(f"{label} needs more memory than there is") from error


def _members(path: Path, label: str) -> dict[str, Array]:
    from bninspect.formats.containers.zip_archive import open_archive

    arrays: dict[str, Array] = {}
    left = LARGEST
    with open_archive(path) as archive:
        for name in archive.names():
            if not name.endswith(".npy"):
                raise UnreadableFile(
                    f"{label} is not an .npz file", why=f"member '{printable(name)}' is not an array (.npy)"
                )
            data = archive.read(name, left)
            left -= len(data)
            arrays[name.removesuffix(".npy")] = parse(data, f"{printable(name)} in {label}")
    return arrays


@dataclass(frozen=True)
class NpyLayout:
    """What the header of a .npy file says, held against the length of the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool
    start: int
    """Where the array begins."""


def layout(head: bytes, size: int, label: str = "the array") -> NpyLayout:
    """Return the layout of a .npy file of `size` bytes that begins with `head`: 10 KB are enough. Raises as `parse`."""
    descr, fortran_order, shape, start = _header(head, label)
    dtype = _dtype(descr, label)
    expected = math.prod(shape) * dtype.itemsize
    if expected != size - start:
        raise DamagedFile(
            f"{label} is damaged",
            why=f"{size - start} bytes follow the header, shape {shape} of {dtype} takes {expected}",
        )
    return NpyLayout(dtype, shape, fortran_order, start)


def parse(data: bytes, label: str = "the array") -> Array:
    """Return the array that `data`, the content of a .npy file, holds: read-only, in native byte order.

    Raises:
        DamagedFile: `data` is cut off, goes on after the array or does not follow the format.
        UnsafeFile: it needs pickle.
        UnreadableFile: its type is none of those that `read` names.
    """
    found = layout(data, len(data), label)
    dtype, shape = found.dtype, found.shape
    try:
        array = np.frombuffer(data, dtype, math.prod(shape), found.start)
        array = array.reshape(shape, order="F" if found.fortran_order else "C")
    except ValueError as error:  # a length of 0 beside one that is larger than an array can be
        raise DamagedFile(f"{label} is damaged", why=f"shape {shape}: {error}") from error
    require_valid(array, label)
    if not (dtype.isnative and array.flags.aligned):
        array = array.astype(dtype.newbyteorder("="))
    return read_only(array)


def _header(data: bytes, label: str) -> tuple[object, bool, tuple[int, ...], int]:
    """Return descr, fortran_order, shape and where the array begins."""
    if not data.startswith(SIGNATURE):
        raise DamagedFile(f"{label} is not a NumPy array (.npy)", why="its signature is missing")
    # Version 1 has 2 bytes for the length of the header, 2 and 3 have 4.
    start = 10 if data[6:7] == b"\x01" else 12
    if data[6:8] not in {b"\x01\0", b"\x02\0", b"\x03\0"} or len(data) < start:
        raise DamagedFile(f"{label} is damaged", why="it is cut off, or of an unknown version of .npy")
    length = int(struct.unpack_from("<H" if start == 10 else "<I", data, 8)[0])
    if length > min(_HEADER_BYTES, len(data) - start):
        raise DamagedFile(f"{label} is damaged", why=f"a header of {length} bytes in {len(data)} bytes")
    text = data[start : start + length].decode("latin-1")
    match _literal(text):
        case {"descr": descr, "fortran_order": bool(fortran), "shape": tuple(shape), **rest} if not rest:
            if len(shape) <= _RANK and all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
                return descr, fortran, shape, start + length
    raise DamagedFile(f"{label} is damaged", why=f"no header of .npy: {printable(text.strip())}")


def _literal(text: str) -> Any:
    """Return the Python literal `text`, `None` if it is none."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about odd escapes and numbers: the file is not our source
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _dtype(descr: object, label: str) -> np.dtype[Any]:
    if isinstance(descr, str) and _TYPE.fullmatch(descr):
        return np.dtype(descr)
    hint = "save it as numbers: numpy.save(file, array.astype('float32'))"
    if "|O" in str(descr):
        why = "reading them would run code from the file (pickle)"
        raise UnsafeFile(f"{label} holds Python objects", why=why, hint=hint)
    raise UnreadableFile(
        f"{label} is of a type that is not read",
        why=f"{printable(str(descr))}, not boolean, integer, float16, float32, float64 or text",
        hint=hint,
    )


def require_valid(array: Array, label: str) -> None:
    """Refuse bytes that no value of the type has: NumPy takes them in and goes wrong later."""
    if array.dtype.kind == "b" and np.any(array.view(np.uint8) > 1):
        raise DamagedFile(f"{label} is damaged", why="a boolean that is neither 0 nor 1")
    if array.dtype.kind == "U":
        points = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if np.any(points > 0x10FFFF):
            raise DamagedFile(f"{label} is damaged", why="a character that Unicode does not have")
