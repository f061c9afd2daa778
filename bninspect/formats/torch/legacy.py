"""What torch.save wrote before 1.6, and writes without its zip: five pickles, and the storages one after another.

They are a magic number, the version of the layout, what the machine was like, the content and the keys of the
storages (torch/serialization.py: _legacy_save). Each storage is the number of its numbers, in 8 bytes, and the numbers
themselves, always little-endian, whatever the machine was like.
"""

from __future__ import annotations

import re
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.encodings.npy import LARGEST
from bninspect.formats.encodings.pickle_opcodes import interpret_next
from bninspect.formats.torch import objects, state_dict
from bninspect.formats.torch.objects import Storage
from bninspect.formats.torch.storage import Storages
from bninspect.records import Checkpoint
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.named_kernels import NamedKernel

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
BEGINNING = re.compile(
    rb"(?:\x80[\x02-\x05](?:\x95.{8})?\x8a\x0a" + re.escape(MAGIC.to_bytes(10, "little")) + rb"|L%dL\n)\." % MAGIC,
    re.DOTALL,
)
"""How such a file begins, in each protocol of pickles."""


def read(path: Path) -> Checkpoint:
    """Return the batch norms of the file. Raises as `state_dict.read`."""
    label = str(path)
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return _LegacyFile(data, label).checkpoint()
    except OSError as error:
        raise UnreadableFile(f"{label} cannot be opened", why=error.strerror or str(error)) from error


def read_kernels(path: Path) -> tuple[NamedKernel, ...]:
    """Return the kernels of the file. Raises as `read`."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        return _LegacyFile(data, str(path)).kernels()


class _LegacyFile:
    """An open file: pickles are read from where the one before ended."""

    def __init__(self, data: mmap, label: str) -> None:
        self._data = data
        self._label = label
        self._storages: dict[str, Storage] = {}
        self._starts: dict[str, int] = {}

    def read(self, size: int, /) -> bytes:
        """Return the next bytes of a pickle."""
        if self._data.tell() + min(size, len(self._data)) > state_dict.PICKLE_BYTES:
            raise UnsafeFile(
                f"{self._label} is too large",
                why=f"its pickles have over {state_dict.PICKLE_BYTES:,} bytes",
            )
        return self._data.read(size)

    def readline(self) -> bytes:
        """Return the next line of a pickle."""
        end = self._data.find(b"\n", self._data.tell())
        return self.read((end + 1 if end >= 0 else len(self._data)) - self._data.tell())

    def checkpoint(self) -> Checkpoint:
        return state_dict.checkpoint(self._label, self._content(), Storages(self._label, self._fetch))

    def kernels(self) -> tuple[NamedKernel, ...]:
        return state_dict.kernels(self._label, self._content(), Storages(self._label, self._fetch))

    def _content(self) -> Any:
        magic, version, _machine, content = (self._pickle() for _ in range(4))
        if (magic, version) != (MAGIC, VERSION):
            raise UnreadableFile(
                f"{self._label} is a PyTorch file of another version",
                why=f"it does not say that its layout is {VERSION}",
            )
        self._find(self._pickle())
        return content

    def _pickle(self) -> Any:
        return interpret_next(self, self._label, objects.lookup, self._persistent)

    def _persistent(self, reference: Any) -> Any:
        found = objects.persistent(reference)
        if isinstance(found, Storage):
            known = self._storages.setdefault(found.key, found)
            if known.dtype != found.dtype:
                raise ValueError(f"storage {found.key} of two types")
        return found

    def _find(self, keys: Any) -> None:
        """Take down where each storage begins."""
        place = self._data.tell()
        for key in keys if isinstance(keys, list) else ():
            storage = self._storages.get(key) if isinstance(key, str) else None
            if storage is None or not storage.width:
                raise UnreadableFile(
                    f"{self._label} holds numbers of a type that is not read",
                    why=f"storage {printable(str(key)[:80])} is of {printable(storage.dtype if storage else 'none')}",
                )
            count = int.from_bytes(self._data[place : place + 8], "little", signed=True)
            size = count * storage.width
            if key in self._starts or count < 0 or place + 8 + size > len(self._data):
                raise DamagedFile(f"{self._label} is damaged", why=f"storage {printable(key)} has {count} numbers")
            self._starts[key] = place
            place += 8 + size

    def _fetch(self, key: str) -> bytes:
        if key not in self._starts:
            raise DamagedFile(f"{self._label} is incomplete", why=f"it has no storage {printable(key)}")
        place = self._starts[key]
        size = int.from_bytes(self._data[place : place + 8], "little") * self._storages[key].width
        if size > LARGEST:
            raise UnsafeFile(
                f"{self._label} is too large",
                why=f"storage {printable(key)} has {size:,} bytes, at most {LARGEST:,} are read",
            )
        return self._data[place + 8 : place + 8 + size]
