"""State_dicts as torch.save writes them, put together opcode by opcode, so that no test of reading needs torch."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

_STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage"}


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def tensor(key: str, array: np.ndarray[Any, Any]) -> bytes:
    """Return the opcodes of `_rebuild_tensor_v2((storage), offset, shape, strides, False, OrderedDict())`."""
    storage = b"ctorch\n" + _STORAGES[array.dtype.name].encode() + b"\n"
    reference = (
        b"(" + text("storage") + storage + text(key) + text("cpu") + b"J" + struct.pack("<i", array.size) + b"tQ"
    )
    strides = tuple(stride // array.itemsize for stride in np.asarray(array, order="C").strides)
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + reference + b"K\x00" + integers(array.shape) + integers(strides) + b"\x89" + hooks + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def mapping(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in items.items()) + b"u"


def pickle_of(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    return mapping({name: tensor(str(place), array) for place, (name, array) in enumerate(arrays.items())})


def zipped(
    program: bytes,
    arrays: Mapping[str, np.ndarray[Any, Any]],
    folder: str = "archive",
    byteorder: bytes = b"little",
) -> bytes:
    """Return the zip with the opcodes `program` as its pickle and the numbers of the arrays as its storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", b"\x80\x02" + program + b".")
        archive.writestr(f"{folder}/byteorder", byteorder)
        for place, array in enumerate(arrays.values()):
            archive.writestr(f"{folder}/data/{place}", np.ascontiguousarray(array).tobytes())
        archive.writestr(f"{folder}/version", "3\n")
    return buffer.getvalue()


def state_dict(arrays: Mapping[str, np.ndarray[Any, Any]], *path: str) -> bytes:
    """Return a state_dict file; `path` are the keys of mappings around it."""
    program = pickle_of(arrays)
    for key in reversed(path):
        program = mapping({"epoch": b"K\x07", key: program})
    return zipped(program, arrays)


MAGIC = 0x1950A86A20F9469CFC6C


def legacy(program: bytes, arrays: Mapping[str, np.ndarray[Any, Any]], keys: list[str] | None = None) -> bytes:
    """Return the file that torch wrote before 1.6 with the opcodes `program` as the pickle of its content.

    Args:
        program: as in `zipped`.
        arrays: the numbers of the storages.
        keys: of the storages, as the file lists them; those of the arrays without it.
    """
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    storages = [np.ascontiguousarray(array) for array in arrays.values()]
    listed = [str(place) for place in range(len(storages))] if keys is None else keys
    parts = [pickle.dumps(value, 2) for value in (MAGIC, 1001, machine)]
    parts += [b"\x80\x02" + program + b".", pickle.dumps(listed, 2)]
    parts += [
        struct.pack("<q", array.size) + array.astype(array.dtype.newbyteorder("<")).tobytes() for array in storages
    ]
    return b"".join(parts)
