"""What a zip must look like before any of its members is read: one file, whose every byte has one meaning.

The central directory is parsed by Python's zipfile, as Keras and NumPy do, so that we see the members that
they see. What zipfile takes on trust is checked here.

Records: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.3.14 to 4.3.16.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from typing import BinaryIO

from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.containers import parts
from bninspect.formats.unknown_files import HDF5_SIGNATURE, ZIP_SIGNATURE, refusal

MEMBERS = 100_000
DIRECTORY_BYTES = 16 << 20
"""Most that the central directory may take: zipfile turns every 46 bytes of it into an object."""
EXTRA = 64
"""Bytes that a member's own header may have besides its name: torch aligns the data to as many."""

_LOCAL = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64_SIZE = 20
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_DESCRIPTOR = 0x8
"""Flag: sizes and CRC follow the data, and the local header may leave them zero."""
_UTF8 = 0x800


def check_ends(file: BinaryIO, size: int, label: str) -> int:
    """Check the two ends of a zip of `size` bytes, and return how many members it announces.

    Comes before zipfile, which allocates whatever the end record says.
    """
    head = read_at(file, 0, 4096)
    if not head.startswith(ZIP_SIGNATURE):
        raise refusal(label, head, "a zip archive")
    start = max(0, size - _END.size - 0xFFFF)
    tail = read_at(file, start, size - start)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + _END.size > len(tail):
        raise DamagedFile(
            f"{label} is cut off",
            why=f"it has {size} bytes, and the directory at the end of a zip is missing",
            hint="copy or download the file again",
        )
    record = _END.unpack_from(tail, found)
    count, directory, comment = record[4], record[5], record[7]
    if found + _END.size + comment != len(tail):
        raise UnsafeFile(f"{label} is not a plain zip", why="bytes follow its end")
    before = found - _LOCATOR64_SIZE - _END64.size
    if before >= 0 and tail.startswith(b"PK\x06\x07", found - _LOCATOR64_SIZE):
        count, directory = _END64.unpack_from(tail, before)[7:9]
    if directory > DIRECTORY_BYTES or count > MEMBERS:
        raise UnsafeFile(
            f"{label} is too large",
            why=f"{count:,} of at most {MEMBERS:,} members, "
            f"{directory:,} of at most {DIRECTORY_BYTES:,} bytes in its directory",
        )
    return int(count)


def check_members(file: BinaryIO, directory: zipfile.ZipFile, count: int, label: str) -> dict[str, int]:
    """Return where the data of each of the `count` members starts, by name.

    No two members may share a name or a byte (zipfile before 3.11.8 reads quoted overlaps, CVE-2024-0450), be
    encrypted or a link, or be said something else of by the directory than by their own header.
    """
    members = directory.infolist()
    if len(members) != count:
        raise DamagedFile(f"{label} is a damaged zip", why=f"{len(members)} of its {count} members are listed")
    parts.prepare(file, [(info.header_offset, _LOCAL.size + len(info.orig_filename) + EXTRA) for info in members])
    starts: dict[str, int] = {}
    end = 0
    for info in sorted(members, key=lambda member: member.header_offset):
        if info.header_offset < end or (not starts and info.header_offset):
            raise UnsafeFile(f"{label} is not a plain zip", why=f"{info.filename} overlaps or follows other data")
        if info.filename in starts or "\0" in info.orig_filename:
            raise UnsafeFile(f"{label} has two members of one name", why=info.filename)
        _check_kind(info, label)
        starts[info.filename] = _data_start(file, info, label)
        end = starts[info.filename] + info.compress_size
    if end > directory.start_dir:
        raise UnsafeFile(f"{label} is not a plain zip", why="a member runs into the directory")
    return starts


def check_single(file: BinaryIO, size: int, starts: set[int], label: str) -> None:
    """Refuse a zip that is HDF5 too, which may begin at 512, 1024, 2048 ...: a framework goes by the suffix.

    A stored HDF5 member may begin there by chance; its reader makes sure that it holds weights only.
    """
    places = [512 << power for power in range(40) if 512 << power < size]
    parts.prepare(file, [(place, 8) for place in places])
    offset = 512
    while offset < size:
        if offset not in starts and read_at(file, offset, 8) == HDF5_SIGNATURE:
            raise UnsafeFile(f"{label} is two files in one", why=f"a zip, and HDF5 from byte {offset} on")
        offset *= 2


def read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Return `size` bytes from `offset` on; fewer where the file ends."""
    file.seek(offset)
    return file.read(size)


def _check_kind(info: zipfile.ZipInfo, label: str) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise UnsafeFile(f"{label} is encrypted", why=f"member {info.filename}", hint="unpack and zip it again")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise UnsafeFile(f"{label} holds a symbolic link", why=f"member {info.filename}")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise UnreadableFile(
            f"{label} uses a compression that is not read",
            why=f"method {info.compress_type} at member {info.filename}; stored and deflate are read",
            hint="zip it again with deflate",
        )


def _data_start(file: BinaryIO, info: zipfile.ZipInfo, label: str) -> int:
    """Return where the data of a member starts, once its own header has said what the directory says."""
    header = read_at(file, info.header_offset, _LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(ZIP_SIGNATURE):
        raise DamagedFile(f"{label} is a damaged zip", why=f"no member begins where {info.filename} should")
    fields: tuple[int, ...] = _LOCAL.unpack(header)[2:]
    flags, method, _, _, crc, packed, size, length, extra = fields
    rest = read_at(file, info.header_offset + _LOCAL.size, length + extra)
    if packed == size == 0xFFFFFFFF:
        size, packed = _zip64_sizes(rest[length:])
    name = rest[:length].decode("utf-8" if flags & _UTF8 else "cp437")
    same = (name, flags & _ENCRYPTED, method) == (info.orig_filename, 0, info.compress_type)
    if not flags & _DESCRIPTOR:
        same = same and (crc, packed, size) == (info.CRC, info.compress_size, info.file_size)
    if not same:
        raise UnsafeFile(
            f"{label} contradicts itself",
            why=f"the directory and the member itself differ about {info.filename}",
        )
    return info.header_offset + _LOCAL.size + length + extra


def _zip64_sizes(extra: bytes) -> tuple[int, int]:
    """Return the real (size, packed size) of a local header whose own fields have only 32 bits."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1 and length >= 16:
            size, packed = struct.unpack_from("<2Q", extra, position + 4)
            return size, packed
        position += 4 + length
    return -1, -1
