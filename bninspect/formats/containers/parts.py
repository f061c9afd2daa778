"""Files elsewhere as paths whose parts come when they are read, and are kept, as far as there is room.

The supervisor fetches them: this process has no business with any network. Everything that opens a path by its methods
reads such a file as any other, and so those beside it: which there are is asked when one is looked for by its name.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

from bninspect.formats.containers.sized_file import SizedFile

if TYPE_CHECKING:
    Parts = Callable[[Sequence[tuple[int, int]]], list[Any]]

ROOM = 256 << 20
"""Bytes of parts that are kept."""
REQUEST_SHARE = 3e-4
"""Of a file's bytes, how many a request is worth: a hundredth of three percent, so that neither grows alone."""
_LEAST, _MOST = 4 << 10, 1 << 20
_VECTOR = 1 << 20
"""Bytes of a vector that is fetched before anybody asks for it."""


class Supply(Protocol):
    """Who gets, for a process that may not, parts of the files of a model elsewhere."""

    def find(self, name: str, /) -> int | None:
        """Return the bytes of a file in the folder of the model, by its path in there; None if there is none."""
        ...

    def parts(self, name: str, spans: Sequence[tuple[int, int]], /) -> list[Any]:
        """Return parts of a file, (first byte, length), as bytes or arrays of bytes."""
        ...


class FetchedParts:
    """The parts of one file of `size` bytes that have come so far."""

    def __init__(self, size: int, supply: Parts) -> None:
        self.size = size
        self.worth = max(_LEAST, min(int(REQUEST_SHARE * size), _MOST))
        """Bytes between two parts that are wanted, up to which one request for all of it is better than two."""
        self._before, self._after = max(_LEAST // 2, self.worth // 4), max(_LEAST, self.worth // 2)
        """Bytes of what is around a part: more behind it, as files are written forwards."""
        self._supply = supply
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        """By their first byte; no two share a byte."""
        self._starts: list[int] = []
        self._held = 0

    def need(self, spans: Iterable[tuple[int, int]], *, wide: bool = False) -> None:
        """Have parts of the file ready, (first byte, length), by as few requests as that is worth, all at a time.

        `wide`: with what is around each of them, of which some will be needed next.
        """
        if wide:
            spans = [self._around(*span) for span in spans if any(self._missing(*span))]
        runs: list[list[int]] = []
        for start, end in sorted(missing for span in spans for missing in self._missing(*span)):
            if runs and start - runs[-1][1] <= self.worth:
                runs[-1][1] = max(end, runs[-1][1])
            else:
                runs.append([start, end])
        if not runs:
            return
        for (start, end), part in zip(runs, self._supply([(start, end - start) for start, end in runs]), strict=True):
            self._keep(start, end, bytes(part))
        while self._held > ROOM and len(self._kept) > 1:
            start, data = self._kept.popitem(last=False)
            self._forget(start, data)

    def read(self, start: int, length: int) -> bytes:
        """Return a part of the file; less where it ends."""
        length = max(0, min(length, self.size - start))
        pieces = []
        while length:
            found = self._at(start)
            if found is None:
                self.need([(start, min(length, ROOM // 4))], wide=True)
                found = self._at(start)
                assert found is not None  # noqa: S101 - it has just come
            self._kept.move_to_end(found)
            piece = self._kept[found][start - found : start - found + length]
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return b"".join(pieces)

    def _around(self, start: int, length: int) -> tuple[int, int]:
        """Return a part with what is around it."""
        before = min(start, self._before)
        return start - before, before + length + self._after

    def _at(self, place: int) -> int | None:
        """Return the first byte of the part that holds a byte; None if it has not come."""
        number = bisect_right(self._starts, place) - 1
        start = self._starts[number] if number >= 0 else -1
        return start if number >= 0 and place < start + len(self._kept[start]) else None

    def _missing(self, start: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield what of a part has not come: (first byte, byte after the last)."""
        start, end = max(0, start), min(start + length, self.size)
        while start < end:
            found = self._at(start)
            if found is not None:
                start = found + len(self._kept[found])
                continue
            number = bisect_right(self._starts, start)
            following = self._starts[number] if number < len(self._starts) else end
            yield start, min(end, following)
            start = following

    def _keep(self, start: int, end: int, data: bytes) -> None:
        """Keep what has come, instead of the parts between its ends that had come before."""
        first, last = bisect_left(self._starts, start), bisect_left(self._starts, end)
        for inside in self._starts[first:last]:
            self._held -= len(self._kept.pop(inside))
        self._starts[first:last] = [start]
        self._kept[start] = data
        self._held += len(data)

    def _forget(self, start: int, data: bytes) -> None:
        del self._starts[bisect_left(self._starts, start)]
        self._held -= len(data)


class PartFile(SizedFile):
    """An open file elsewhere, for reading."""

    def __init__(self, pieces: FetchedParts) -> None:
        super().__init__(pieces.size)
        self.pieces = pieces

    def _fill(self, start: int, view: memoryview) -> int:
        view[:] = self.pieces.read(start, len(view))
        return len(view)

    def readall(self) -> bytes:
        """Return all that is left, read at once."""
        data = self.pieces.read(self._position, self.pieces.size)
        self._position += len(data)
        return data


class FetchedFolder:
    """The files in the folder of a model elsewhere, as far as somebody has looked for them."""

    def __init__(self, path: Path, size: int, supply: Supply) -> None:
        self._supply = supply
        self._folder = path.parent
        self._files = {path.name: self._file(path.name, size)}

    def at(self, path: Path) -> FetchedParts | None:
        """Return the file at a path; None if there is none, or if it would be outside of the folder."""
        if self._folder not in path.parents:
            return None
        name = path.relative_to(self._folder).as_posix()
        if name not in self._files:
            self._files[name] = self._file(name, self._supply.find(name))
        return self._files[name]

    def _file(self, name: str, size: int | None) -> FetchedParts | None:
        return None if size is None else FetchedParts(size, partial(self._supply.parts, name))


class PartPath(type(Path())):  # type: ignore[misc]
    """The path of a file elsewhere. Folders cannot be listed there, so there are none."""

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """Open the file. Raises OSError for any other way than reading bytes."""
        if mode != "rb":
            raise PermissionError(13, "only the bytes of a file elsewhere can be read", str(self))
        return PartFile(self._found())

    def read_bytes(self) -> bytes:
        """Return the whole file."""
        data: bytes = self.open("rb").readall()
        return data

    def is_file(self, **_: Any) -> bool:
        """Return whether there is such a file."""
        return _folder is not None and _folder.at(self) is not None

    def exists(self, **_: Any) -> bool:
        """Return whether there is such a file."""
        return self.is_file()

    def is_dir(self, **_: Any) -> bool:
        """Return False: what is here is a file."""
        return False

    def iterdir(self) -> Iterator[Path]:
        """Yield nothing."""
        yield from ()

    def resolve(self, **_: Any) -> Path:
        """Return the path: nothing elsewhere is a link."""
        return self

    def stat(self, **_: Any) -> Any:
        """Return its size as `st_size`. Raises FileNotFoundError."""
        return SimpleNamespace(st_size=self._found().size, st_nlink=1)

    def _found(self) -> FetchedParts:
        found = _folder.at(self) if _folder is not None else None
        if found is None:
            raise FileNotFoundError(2, "there is no such file", str(self))
        return found


_folder: FetchedFolder | None = None
_supply: Supply | None = None


def supply_by(supply: Supply) -> None:
    """Take note of who supplies parts."""
    global _supply  # noqa: PLW0603 - one supervisor for the life of this process
    _supply = supply


@contextmanager
def path(name: str, size: int) -> Iterator[Path]:
    """Yield the path of a file elsewhere. Raises OSError if nobody supplies its parts."""
    global _folder  # noqa: PLW0603 - one model at a time
    if _supply is None:
        raise OSError("nobody supplies parts of this file")
    found = PartPath(name)
    _folder = FetchedFolder(found, size, _supply)
    try:
        yield found
    finally:
        _folder = None


def is_elsewhere(file: Any) -> bool:
    """Return whether a path or an open file is elsewhere, or a stream or a window of a zip that is."""
    below = getattr(file, "raw", None) or getattr(file, "below", None)
    return isinstance(file, PartFile | PartPath) or (below is not None and is_elsewhere(below))


def prepare(file: Any, spans: Sequence[tuple[int, int]], *, wide: bool = False) -> None:
    """Say which parts of an open file will be read, so that they come together; of a file here nothing comes of it.

    `wide`: and what is around each of them.
    """
    if isinstance(file, PartFile):
        file.pieces.need(spans, wide=wide)
    elif (raw := getattr(file, "raw", None)) is not None:
        prepare(raw, spans, wide=wide)
    elif (below := getattr(file, "below", None)) is not None:
        prepare(below, [(file.start + start, length) for start, length in spans], wide=wide)


def prepare_vectors(place: Any, spans: Sequence[tuple[int, int]]) -> None:
    """Have the vectors of a file or path elsewhere ready: batch norms consist of vectors, and nothing large does."""
    if is_elsewhere(place):
        file = place.open("rb") if isinstance(place, PartPath) else place
        prepare(file, [(start, length) for start, length in spans if length <= _VECTOR])
