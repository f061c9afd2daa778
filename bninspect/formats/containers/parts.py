"""A file elsewhere as a path whose parts come when they are read, in blocks that are kept, as far as there is room.

The supervisor fetches them: this process has no business with any network. Everything that opens a path by its methods
reads such a file as any other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bninspect.formats.containers.sized_file import SizedFile

if TYPE_CHECKING:
    Supply = Callable[[Sequence[tuple[int, int]]], list[Any]]

BLOCK = 16 << 10
ROOM = 256 << 20
"""Bytes of blocks that are kept."""
GAP = 8
"""Blocks between two that are wanted, up to which all of them come by one request."""


def _nobody(_: Sequence[tuple[int, int]]) -> list[Any]:
    raise OSError("nobody supplies parts of this file")


class Blocks:
    """The blocks of one file of `size` bytes."""

    def __init__(self, size: int, supply: Supply) -> None:
        self.size = size
        self._supply = supply
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def need(self, spans: Sequence[tuple[int, int]]) -> None:
        """Have parts of the file ready, (first byte, length), by as few requests as that takes, all at a time."""
        wanted = sorted({block for span in spans for block in self._blocks(*span)} - self._kept.keys())
        runs: list[list[int]] = []
        for block in wanted:
            if runs and block - runs[-1][1] <= GAP:
                runs[-1][1] = block
            else:
                runs.append([block, block])
        if not runs:
            return
        places = [(first * BLOCK, min((last + 1) * BLOCK, self.size) - first * BLOCK) for first, last in runs]
        for (first, _), part in zip(runs, self._supply(places), strict=True):
            data = bytes(part)
            for place in range(0, len(data), BLOCK):
                self._kept[first + place // BLOCK] = data[place : place + BLOCK]
        while len(self._kept) * BLOCK > ROOM:
            self._kept.popitem(last=False)

    def read(self, start: int, length: int) -> bytes:
        """Return a part of the file; less where it ends."""
        length = max(0, min(length, self.size - start))
        pieces = []
        while length:
            block, offset = divmod(start, BLOCK)
            if block not in self._kept:
                self.need([(start, min(length, ROOM // 4))])
            piece = self._kept[block][offset : offset + length]
            self._kept.move_to_end(block)
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return b"".join(pieces)

    def _blocks(self, start: int, length: int) -> range:
        end = min(start + length, self.size)
        return range(start // BLOCK, -(-end // BLOCK)) if end > start else range(0)


class PartFile(SizedFile):
    """An open file elsewhere, for reading."""

    def __init__(self, blocks: Blocks) -> None:
        super().__init__(blocks.size)
        self.blocks = blocks

    def _fill(self, start: int, view: memoryview) -> int:
        view[:] = self.blocks.read(start, len(view))
        return len(view)

    def readall(self) -> bytes:
        """Return all that is left, read at once."""
        data = self.blocks.read(self._position, self.blocks.size)
        self._position += len(data)
        return data


class PartPath(type(Path())):  # type: ignore[misc]
    """The path of a file elsewhere. What stands beside it does not exist."""

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """Open the file. Raises OSError for any other way than reading bytes."""
        if mode != "rb" or str(self) not in _open:
            raise FileNotFoundError(2, "there is no such file", str(self))
        return PartFile(_open[str(self)])

    def read_bytes(self) -> bytes:
        """Return the whole file."""
        data: bytes = self.open("rb").readall()
        return data

    def is_file(self, **_: Any) -> bool:
        """Return whether it is the file."""
        return str(self) in _open

    def exists(self, **_: Any) -> bool:
        """Return whether it is the file."""
        return self.is_file()

    def is_dir(self, **_: Any) -> bool:
        """Return False: what is here is a file."""
        return False

    def stat(self, **_: Any) -> Any:
        """Return its size as `st_size`. Raises FileNotFoundError."""
        if not self.is_file():
            raise FileNotFoundError(2, "there is no such file", str(self))
        return SimpleNamespace(st_size=_open[str(self)].size)


_open: dict[str, Blocks] = {}
_supply: Supply = _nobody


def supply_by(supply: Supply) -> None:
    """Take note of who supplies parts."""
    global _supply  # noqa: PLW0603 - one supervisor for the life of this process
    _supply = supply


@contextmanager
def path(name: str, size: int) -> Iterator[Path]:
    """Yield the path of a file elsewhere."""
    found = PartPath(name)
    _open[str(found)] = Blocks(size, _supply)
    try:
        yield found
    finally:
        _open.clear()


def is_elsewhere(file: Any) -> bool:
    """Return whether an open file is elsewhere, or a stream or a window of a zip that is."""
    below = getattr(file, "raw", None) or getattr(file, "below", None)
    return isinstance(file, PartFile) or (below is not None and is_elsewhere(below))


def prepare(file: Any, spans: Sequence[tuple[int, int]]) -> None:
    """Say which parts of an open file will be read, so that they come together; of a file here nothing comes of it."""
    if isinstance(file, PartFile):
        file.blocks.need(spans)
    elif (raw := getattr(file, "raw", None)) is not None:
        prepare(raw, spans)
    elif (below := getattr(file, "below", None)) is not None:
        prepare(below, [(file.start + start, length) for start, length in spans])
