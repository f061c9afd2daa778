"""The files of one model elsewhere: the one that its URL names, and those in its folder that this one needs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bninspect.errors import LimitExceeded
from bninspect.stores import cache, names
from bninspect.stores.names import Remote
from bninspect.stores.remote_file import Found, RemoteStore, Span, changed
from bninspect.stores.store import open_store

MOST_FILES = 1000
"""Of one model, those that are looked for in vain included."""


@dataclass(frozen=True)
class _File:
    target: Remote
    store: RemoteStore
    found: Found


class ModelFiles:
    """What a process that reads a model may have of its files, and what was taken of them.

    Args:
        target: the model.
        seconds: that each call of its store may take.

    Raises:
        Whatever the store raises, as do all methods.
    """

    def __init__(self, target: Remote, seconds: float) -> None:
        self._target = target
        self._seconds = seconds
        self.name = names.file_name(target)
        """Of the file that the URL names."""
        store = open_store(target, seconds)
        self.first = store.find()
        """What the server says of that file."""
        self._files: dict[str, _File | None] = {self.name: _File(target, store, self.first)}
        self.received = 0
        """Bytes of parts."""

    def find(self, name: str) -> int | None:
        """Return the bytes of a file in the folder of the model, by its path in there; None if there is none.

        Raises:
            UnsafeFile: it would be elsewhere.
            LimitExceeded: too many were asked for.
        """
        if name not in self._files:
            if len(self._files) >= MOST_FILES:
                raise LimitExceeded(
                    f"{self._target.name} has too many files",
                    why=f"at most {MOST_FILES:,} are fetched of one model",
                    hint="download its folder, and name the model there",
                )
            target = names.beside(self._target, name)
            store = open_store(target, self._seconds)
            found = store.look()
            self._files[name] = None if found is None else _File(target, store, found)
        file = self._files[name]
        return None if file is None else file.found.size

    def parts(self, name: str, spans: Sequence[Span]) -> list[bytes]:
        """Return parts of a file that was found. Raises KeyError if it was not."""
        file = self._present()[name]
        self.received += sum(length for _, length in spans)
        return file.store.parts(file.found, spans)

    def require_same(self) -> None:
        """Raise DamagedFile if one of several files is no longer what it was: they are of one model at one time."""
        if len(files := self._present()) > 1:
            for file in files.values():
                if (now := file.store.find()) != file.found:
                    raise changed(file.target, file.found, now)

    @property
    def size(self) -> int:
        """The bytes of all files that were found."""
        return sum(file.found.size for file in self._present().values())

    @property
    def version(self) -> str | None:
        """The version of the file, or of several a digest of their names and versions; None if a server says none."""
        files = self._present()
        if len(files) == 1 or None in {file.found.version for file in files.values()}:
            return self.first.version if len(files) == 1 else None
        listing = "".join(f"{file.found.version}  {name}\n" for name, file in sorted(files.items()))
        return hashlib.sha256(listing.encode()).hexdigest()

    def complete(self, copy: Path, seconds: float, folder: str | None, limit: int | None) -> None:
        """Put the other files beside the copy of the first one. `folder`, `limit`, Raises: as `cache.held`."""
        most = cache.require_room(self._target, self.size, limit)
        if folder is not None:
            cache.make_room(Path(folder), most - self.size, but=copy.parent)
        for name, file in self._present().items():
            if name != self.name:
                cache.put_beside(copy, name, open_store(file.target, seconds), file.found)

    def _present(self) -> dict[str, _File]:
        return {name: file for name, file in self._files.items() if file is not None}
