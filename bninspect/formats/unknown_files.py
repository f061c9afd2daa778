"""What a file probably is that no reader claims, said in words."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from pathlib import Path

from bninspect.errors import UnknownFormat

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURE = b"PK\x03\x04"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"

BINARY = "binary data of an unknown kind"
PICKLE = "a Python pickle that torch.save did not write"
OLD_TORCH = "a checkpoint of PyTorch 0.1 (a tar archive)"
_OF_OLD_TORCH = (b"sys_info", b"pickle", b"tensors", b"storages")
"""Members of the tar archives that torch.save wrote up to 0.1.10 (torch/serialization.py: legacy_load)."""
_CHECKPOINT = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})\Z")

CORE_ML = re.compile(
    rb"\x08[\x01-\x20]\x12[\x80-\xff]{0,4}[\x00-\x7f]\x0a[\x80-\xff]{0,4}[\x00-\x7f]\x0a[\x01-\x7f][ -~]", re.DOTALL
)
"""Version, then a message that begins with the description of an input by its name (Model.proto of coremltools). ONNX
has a text in that place, the name of its producer, and a SavedModel a message whose first field is a message too."""

_ZIP_END = struct.Struct("<4s4H2LH")
"""End record of a zip: ... size of the directory, its place, length of the comment (APPNOTE.TXT 4.3.16)."""

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (HDF5_SIGNATURE, "an HDF5 file"),
    (b"PK\x05\x06", "an empty zip archive"),
    (LFS_POINTER, "a Git LFS pointer, not the file itself"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"MATLAB 5.0", "a MATLAB file"),
    (b"\x12\x01\x00\x00\x00\x00\x00\x00", "parameters of MXNet (.params)"),
    (b"RKNN", "a model of Rockchip's RKNN"),
    (b"ftrt", "an engine of TensorRT, of one GPU and version"),
    (b"%PDF-", "a PDF document"),
    (b"\x7fELF", "a program"),
)

_PATTERNS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"PK\x03\x04.{26}[^/]{1,200}/(data\.pkl|\.format_version)", re.DOTALL), "a PyTorch checkpoint"),
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb".{4}TFL3", re.DOTALL), "a TFLite model"),
    (re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE), "a web page, such as a login or error page"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<net\s[^>]*\bversion=", re.DOTALL), "an OpenVINO model"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?<Error"), "XML text, such as a storage server's error"),
    (re.compile(rb"\s*<\?xml"), "XML text"),
    (re.compile(rb".{8}\{\s*\"", re.DOTALL), "a safetensors file"),
    (re.compile(rb"\x80[\x02-\x05]"), PICKLE),
    # Protocol buffers have no signature; these are the first fields that writers of the four kinds put out.
    (CORE_ML, "a Core ML model"),
    (
        re.compile(rb"\x08\x01\x12[\x80-\xff]*.\x0a", re.DOTALL),
        "a TensorFlow SavedModel graph (saved_model.pb)",
    ),
    (re.compile(rb"\x08[\x03-\x20](\x12.[ -~]{2}|\x3a)", re.DOTALL), "an ONNX model"),
    (re.compile(rb"\x0a[\x02-\xff]\x01?\x0a.[ -~]+\x12", re.DOTALL), "a TensorFlow graph (GraphDef)"),
    # The first block is number 0 and has the parent -1 (framework.proto of Paddle); from 3.0 on it is JSON.
    (re.compile(rb"\x0a[\x80-\xff]{0,4}[\x00-\x7f]\x08\x00\x10\xff{9}\x01", re.DOTALL), "a program of Paddle"),
    (re.compile(rb"\s*\{\s*\"base_code\"\s*:\s*\{[^}]*\"magic\"\s*:\s*\"pir\""), "a program of Paddle"),
    (re.compile(rb"\x00{16}.\x00{3}\x08[\x00-\x20]\x10", re.DOTALL), "parameters of Paddle (.pdiparams)"),
    # A name, then a layer, of the old kind or the new, or an input (caffe.proto: NetParameter).
    (re.compile(rb"\x0a[\x01-\x7f][ -~]+(\x12|\xa2\x06|\x1a)", re.DOTALL), "weights of Caffe (.caffemodel)"),
    (re.compile(rb"\s*\{\s*\"nodes\"\s*:\s*\[\s*\{\s*\"op\"\s*:"), "a network of MXNet (-symbol.json)"),
    (re.compile(rb"\s*[\[{]\s*[\"\]}{\[0-9]"), "JSON text"),
    (
        re.compile(rb"\s*(?:#[^\n]*\n\s*)*name\s*:\s*[\"'][^\n]*\s+(?:input|layers?)\s*[:{]"),
        "a network of Caffe (.prototxt)",
    ),
    (re.compile(rb"\x00+\Z"), "nothing but zero bytes, as an interrupted download leaves"),
)


def identify(path: Path) -> str:
    """Return in words what is at `path`, for instance `a zip archive`. Never raises."""
    try:
        if path.is_dir():
            return _folder({member.name for member in path.iterdir()})
        if not path.exists():
            return "nothing: there is no such file"
        if not path.is_file():
            return "neither a file nor a folder"
        with path.open("rb") as stream:
            words = describe(stream.read(4096))
    except OSError as error:
        return f"something that cannot be opened ({error.strerror})"
    part = words == BINARY and _CHECKPOINT.search(path.name)
    return "a part of a TensorFlow checkpoint, by its name" if part else words


def describe(head: bytes) -> str:
    """Return in words what a file that begins with `head` (its first 4 KB) probably is."""
    if not head:
        return "an empty file"
    for beginning, words in _BEGINNINGS:
        if head.startswith(beginning):
            return words
    for pattern, words in _PATTERNS:
        if pattern.match(head):
            return words
    if head[257:262] == b"ustar":
        first = head[:100].partition(b"\0")[0]
        return OLD_TORCH if first in _OF_OLD_TORCH else "a tar archive"
    return "text" if _is_text(head) else BINARY


def refusal(label: str, head: bytes, wanted: str) -> UnknownFormat:
    """Return the error for a file that should be `wanted` and begins with `head`."""
    return UnknownFormat(f"{label} is not {wanted}", why=f"it is {describe(head)}", hint=hint(head))


def hint(head: bytes) -> str:
    """Return what to do about a file that begins with `head`; empty where nothing better is known."""
    if head.startswith(LFS_POINTER):
        return "git lfs pull"
    if describe(head) == PICKLE:
        return "load it, if you trust it, and save its state_dict with torch.save"
    kind = describe(head)
    if kind == OLD_TORCH:
        return "torch.load still reads it: save its state_dict again, with torch.save"
    if kind == "a Core ML model":
        return "check the model that it was made from: this format is not read"
    if not head.strip(b"\0") or kind.startswith(("a web page", "XML text,")):
        return "download the file again"
    return ""


def is_zip_behind(path: Path, head: bytes) -> bool:
    """Return whether a file that begins with `head`, which is not a zip's, can be opened as a zip all the same.

    A zip is read from its end, so that it may follow anything: there is its end record, and before that the directory.
    Raises OSError.
    """
    if head.startswith(b"PK"):
        return False
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 0xFFFF - _ZIP_END.size))
        tail = file.read()
        place = tail.rfind(b"PK\x05\x06")
        if place < 0 or place + _ZIP_END.size > len(tail):
            return False
        *_, length, _, _ = _ZIP_END.unpack_from(tail, place)
        start = size - len(tail) + place - length
        if length == 0xFFFFFFFF:
            return True  # ZIP64 keeps the length elsewhere
        file.seek(max(start, 0))
        return start >= 0 and file.read(4) in {b"PK\x01\x02", b"PK\x05\x06"}


def _folder(members: set[str]) -> str:
    if {"saved_model.pb", "saved_model.pbtxt"} & members:
        return "a TensorFlow SavedModel folder"
    if (foreign := foreign_folder(members)) is not None:
        return foreign
    if any(name.endswith(".index") for name in members):
        return "a folder with TensorFlow checkpoints"
    return "a folder" if members else "an empty folder"


def foreign_folder(members: Collection[str]) -> str | None:
    """Return what a folder with these members is as a whole, if it is a model that is not read; None if it is none."""
    if {"Manifest.json", "Data"} <= set(members):
        return "a Core ML package (.mlpackage)"
    if {"_CHECKPOINT_METADATA", "manifest.ocdbt"} & set(members) or {"_METADATA", "_sharding"} <= set(members):
        return "an Orbax checkpoint (JAX)"
    return None


def _is_text(head: bytes) -> bool:
    try:
        head[: 4096 - 4].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in head
