"""The one place that opens zip. Members are read, never extracted: a name is a label and becomes no path.

The structure is checked first (zip_structure.py). Then every byte that is handed out has been counted and
belongs to a member whose CRC was right; zipfile looks at the CRC only for those who read to the end.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from bninspect.errors import DamagedFile, LimitExceeded, UnreadableFile, UnsafeFile
from bninspect.formats.containers.parts import PartFile
from bninspect.formats.containers.sized_file import SizedFile
from bninspect.formats.containers.zip_structure import check_ends, check_members, check_single, read_at

INFLATED_BYTES = 4 << 30
"""Most that one compressed member may inflate to."""
EXPANSION = 200
"""Above 1 MB, inflated bytes per stored byte: parameters hardly compress, so more than this is a bomb."""
CHUNK = 1 << 20
SPOOL = 32 << 20
"""What is larger than this once inflated goes to an unnamed temporary file."""


@dataclass(frozen=True)
class Archive:
    """An open zip whose structure has been checked. Of no use once its context has ended.

    All methods raise DamagedFile for a member that is missing, cut off or fails its CRC, and UnsafeFile for
    one that is larger than it may be.
    """

    label: str
    _file: BinaryIO
    _members: dict[str, zipfile.ZipInfo]
    _starts: dict[str, int]
    _streams: ExitStack

    def names(self) -> tuple[str, ...]:
        """Return the names of all members in the order of the directory."""
        return tuple(self._members)

    def read(self, name: str, limit: int) -> bytes:
        """Return the data of a member, which may have at most `limit` bytes."""
        return b"".join(self._chunks(name, limit))

    def stream(self, name: str) -> BinaryIO:
        """Return a member as a seekable stream, its CRC already checked.

        Memory stays small whatever the size: a stored member is a window on the file itself, a compressed one
        is inflated into a temporary file.
        """
        info = self._info(name)
        if info.compress_type == zipfile.ZIP_STORED:
            # Of a file elsewhere only parts are read: its CRC would need all of it.
            for _ in () if isinstance(self._file, PartFile) else self._chunks(name, info.file_size):
                pass
            window = _Window(self._file, self._starts[name], info.file_size)
            # A buffer would fetch what is behind each part that is read.
            return cast(BinaryIO, window if isinstance(self._file, PartFile) else io.BufferedReader(window))
        spool = SpooledTemporaryFile(SPOOL)  # noqa: SIM115 - closed with the archive
        self._streams.callback(spool.close)
        for chunk in self._chunks(name, INFLATED_BYTES):
            spool.write(chunk)
        spool.seek(0)
        return cast(BinaryIO, spool)

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise DamagedFile(f"{self.label} is incomplete", why=f"it has no member {name}")
        return self._members[name]

    def _chunks(self, name: str, limit: int) -> Iterator[bytes]:
        """Yield the data of a member; whoever takes all of it knows that its length and CRC are right."""
        info = self._info(name)
        if info.file_size > limit:
            raise UnsafeFile(
                f"{self.label} is too large",
                why=f"member {name} has {info.file_size:,} bytes, at most {limit:,} are read",
            )
        if info.file_size > max(CHUNK, EXPANSION * info.compress_size):
            raise UnsafeFile(
                f"{self.label} holds a decompression bomb",
                why=f"member {name} has {info.file_size} bytes in {info.compress_size} stored ones",
            )
        chunks = self._stored(name)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            chunks = self._inflated(name, chunks)
        size, crc = 0, 0
        for chunk in chunks:
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
            if size > info.file_size:
                break
            yield chunk
        if size != info.file_size:
            raise self._damaged(name, f"is not of the {info.file_size} bytes that the directory says")
        if crc != info.CRC:
            raise self._damaged(name, f"has CRC {crc:08x}, the directory says {info.CRC:08x}")

    def _stored(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a member as they are in the file; fewer than announced where the file ends."""
        position, left = self._starts[name], self._members[name].compress_size
        while left and (piece := read_at(self._file, position, min(left, CHUNK))):
            yield piece
            position, left = position + len(piece), left - len(piece)

    def _inflated(self, name: str, stored: Iterator[bytes]) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for piece in stored:
                rest = piece
                while rest and not inflater.eof:
                    yield inflater.decompress(rest, CHUNK)
                    rest = inflater.unconsumed_tail
                if inflater.eof and rest:
                    raise self._damaged(name, "goes on after its compressed data has ended")
            # The limit on the output may have held back the last of it.
            while chunk := inflater.decompress(b"", CHUNK):
                yield chunk
        except zlib.error as error:
            raise self._damaged(name, f"cannot be inflated: {error}") from error
        if not inflater.eof or inflater.unused_data:
            raise self._damaged(name, "ends before or after its compressed data does")

    def _damaged(self, name: str, problem: str) -> DamagedFile:
        return DamagedFile(
            f"{self.label} is damaged",
            why=f"member {name} {problem}",
            hint="copy or download the file again",
        )


class _Window(SizedFile):
    """A read-only, seekable part of a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__(size)
        self.below = file
        self.start = start

    def _fill(self, start: int, view: memoryview) -> int:
        self.below.seek(self.start + start)
        return cast(io.RawIOBase, self.below).readinto(view) or 0


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the zip at `path`, having checked all of its structure; its data is checked as it is read.

    Raises:
        UnreadableFile: the file is not a zip, cannot be opened, or uses a compression other than deflate.
        DamagedFile: it is cut off or not well-formed.
        UnsafeFile: members that share a name or bytes, are encrypted or links; headers that contradict each
            other; something before or after the zip; a second file within it.
    """
    label = str(path)
    with ExitStack() as stack:
        try:
            file = cast(BinaryIO, stack.enter_context(path.open("rb", buffering=0)))
            size = file.seek(0, io.SEEK_END)
            count = check_ends(file, size, label)
            directory = stack.enter_context(zipfile.ZipFile(file))
            starts = check_members(file, directory, count, label)
            check_single(file, size, set(starts.values()), label)
        except OSError as error:
            raise UnreadableFile(f"{label} cannot be read", why=error.strerror or str(error)) from error
        except MemoryError as error:
            raise LimitExceeded(f"{label} needs more memory than there is") from error
        # What zipfile, and the modules under it, raise where a directory is not well-formed.
        except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OverflowError) as error:
            raise DamagedFile(f"{label} is a damaged zip", why=str(error)) from error
        members = {info.filename: info for info in directory.infolist()}
        yield Archive(label, file, members, starts, stack.enter_context(ExitStack()))
