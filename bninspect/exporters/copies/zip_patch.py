"""Members of a zip that are stored as they are: where they begin, and their checksums made right after a change."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from bninspect.errors import RuntimeFailure

_LOCAL, _CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
_DESCRIBED = 0x0008
"""Flag of a member whose checksum follows its data."""


def members(path: Path) -> dict[str, tuple[int, int]]:
    """Return where the data of each stored member begins and how long it is."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        found = {}
        for info in archive.infolist():
            if info.compress_type == zipfile.ZIP_STORED:
                file.seek(info.header_offset + 26)
                name, extra = struct.unpack("<HH", file.read(4))
                found[info.filename] = info.header_offset + 30 + name + extra, info.file_size
        return found


def correct_checksums(content: bytearray, path: Path, changed: Iterable[str]) -> None:
    """Write the checksums of changed members, of unchanged length, wherever the zip keeps them.

    Args:
        content: of the file, in which the data of the members has changed already.
        path: of the file as it was.
        changed: names of the members.
    """
    with zipfile.ZipFile(path) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        directory = archive.start_dir
    starts = members(path)
    entries = _entries(content, directory)
    for name in changed:
        info, (start, size) = infos[name], starts[name]
        checksum = struct.pack("<I", zlib.crc32(content[start : start + size]))
        old = struct.pack("<I", info.CRC)
        places = [entries[info.header_offset] + 16]
        if info.flag_bits & _DESCRIBED:
            after = start + size
            places.append(after + 4 if content[after : after + 4] == b"PK\x07\x08" else after)
        if content[info.header_offset + 14 : info.header_offset + 18] == old:
            places.append(info.header_offset + 14)
        for place in places:
            if content[place : place + 4] != old:
                raise RuntimeFailure("the checksum of a member of the zip is not where it should be", why=name)
            content[place : place + 4] = checksum


def _entries(content: bytearray, position: int) -> dict[int, int]:
    """Return the place of the entry of each member in the directory, by the place of its data."""
    found = {}
    while content[position : position + 4] == _CENTRAL:
        name, extra, comment = struct.unpack_from("<HHH", content, position + 28)
        (offset,) = struct.unpack_from("<I", content, position + 42)
        found[offset] = position
        position += 46 + name + extra + comment
    return found
