"""Checkpoints of version 1, which TensorFlow wrote until 2017 and still reads: one table that holds everything.

tensorflow/core/util/saved_tensor_slice.proto and tensor_slice_writer.cc. The empty key lists all tensors and their
slices; under the key of a slice are its values, as a TensorProto without type and shape. Many published weights, such
as those of TF-Slim of 2016, are of this kind.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

from bninspect.errors import DamagedFile, UnreadableFile
from bninspect.formats.encodings.leveldb_table import SortedTable
from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.checkpoint_v2 import BundleEntry, Slice, assembled, slice_of
from bninspect.formats.tensorflow.ordered_code import slice_key
from bninspect.records import Array
from bninspect.safe_text import printable

_SHARD = re.compile(r"-\d{5}-of-(\d{5})\Z")
_MOST_SHARDS = 4096


class SliceFile(ExitStack[None]):
    """An open checkpoint of version 1, with the interface of `Bundle`.

    Args:
        path: the file, or one of the shards `NAME-0000N-of-0000M`, of which all must be there.

    Raises:
        UnreadableFile: a file is missing or cannot be opened.
        DamagedFile, UnsafeFile: a file contradicts itself.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._label = printable(path.name)
        self._tables: dict[tuple[str, Slice], SortedTable] = {}
        self.entries: dict[str, BundleEntry] = {}
        """Every tensor by its name."""
        try:
            for shard in _shards(path):
                self._read_list(shard)
        except BaseException:
            self.close()
            raise

    def read(self, name: str) -> Array:
        """Return a tensor of numbers, as `Bundle.read` does."""
        entry, label = self.entries.get(name), printable(name)
        if entry is None:
            raise DamagedFile(f"{self._label} has no tensor {label!r}", why="the graph restores it")
        tensor.bytes_of(entry.dtype, entry.shape, label)
        return assembled(entry.shape, [(part, self._part(name, part)) for part in entry.slices], label)

    def strings(self, name: str) -> list[bytes]:
        """Return a tensor of strings: there are none that anybody needs."""
        raise DamagedFile(f"{printable(name)} holds no strings")

    def _read_list(self, path: Path) -> None:
        try:
            file = self.enter_context(path.open("rb"))
        except OSError as error:
            raise UnreadableFile(
                f"{printable(path.name)} cannot be opened",
                why=f"{error.strerror}; all shards of the checkpoint must be in one folder",
                hint="copy the missing file there",
            ) from error
        table = SortedTable(file, printable(path.name))
        listed = table.get(b"")
        if listed is None:
            raise DamagedFile(f"{self._label} is damaged", why="it has no list of its tensors")
        for proto in Message(listed).message(1).messages(1):
            name = proto.text(1)
            shape = tensor.known_shape(proto.message(2), printable(name))
            whole: Slice = ((0, -1),) * len(shape)
            slices = tuple(slice_of(part, len(shape)) for part in proto.messages(4)) or (whole,)
            before = self.entries.get(name)
            if before is not None:
                if (before.dtype, before.shape) != (proto.integer(3), shape):
                    raise DamagedFile(f"{self._label} is damaged", why=f"two shards differ on {printable(name)!r}")
                slices = before.slices + slices
            self.entries[name] = BundleEntry(proto.integer(3), shape, slices=slices)
            for part in slices:
                self._tables.setdefault((name, part), table)

    def _part(self, name: str, part: Slice) -> Array:
        entry = self.entries[name]
        data = self._tables[name, part].get(slice_key(name, part))
        if data is None:
            raise DamagedFile(f"{self._label} is damaged", why=f"a slice of {printable(name)!r} is missing")
        shape = tuple(full if n < 0 else n for (_, n), full in zip(part, entry.shape, strict=True))
        return tensor.listed(Message(data).message(2).message(3), entry.dtype, shape, printable(name))


def _shards(path: Path) -> list[Path]:
    match = _SHARD.search(path.name)
    if match is None:
        return [path]
    count, stem = min(int(match[1]), _MOST_SHARDS), path.name[: match.start()]
    return [path.with_name(f"{stem}-{number:05d}-of-{count:05d}") for number in range(count)]
