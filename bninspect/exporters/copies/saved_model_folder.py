"""A copy of a SavedModel in which only moving statistics are others: of its checkpoint the numbers and their checksums.

The index of the checkpoint keeps a CRC of each tensor, and one of each of its blocks; fingerprint.pb, where there is
one, a hash of the index.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.exporters.copies.hdf5_places import WANTED
from bninspect.exporters.copies.place import ArrayPlace, New, fields, refusal
from bninspect.formats.encodings import crc32c
from bninspect.formats.encodings.leveldb_table import SortedTable
from bninspect.formats.encodings.protobuf import encoded_varint
from bninspect.formats.tensorflow import saved_model
from bninspect.formats.tensorflow.checkpoint_v2 import Bundle
from bninspect.formats.tensorflow.model import chosen
from bninspect.formats.tensorflow.variables import Variables, restored_by
from bninspect.records import Array, BatchNorm

_PREFIX = "variables/variables"
_FINGERPRINT = "fingerprint.pb"
_CRC, _CHECKPOINT_HASH = 6, 5
"""Fields of BundleEntryProto and of FingerprintDef."""
_TYPES: Mapping[int, str] = {1: "<f4", 2: "<f8", 19: "<f2"}


@dataclass(frozen=True)
class _StoredArray:
    """A tensor of the checkpoint."""

    key: str
    shard: str
    """File, from the folder."""
    place: ArrayPlace


@dataclass(frozen=True, eq=False)
class OpenedFolder:
    """A SavedModel whose statistics can be replaced."""

    path: Path
    stored: Mapping[str, Mapping[str, _StoredArray]]
    """By layer and parameter."""

    def dtype(self, layer: str, parameter: str) -> np.dtype[Any]:
        """Return the type in which numbers are kept."""
        return self.stored[layer][parameter].place.dtype

    def read(self, layer: str, parameter: str) -> Array:
        """Return what is there."""
        there = self.stored[layer][parameter]
        return there.place.read((self.path / there.shard).read_bytes())

    def rewritten(self, new: New) -> Mapping[str, bytes]:
        """Return the files of the copy that are others, by their paths in the folder."""
        files: dict[str, bytearray] = {}
        sums: dict[str, int] = {}
        for layer, parameters in new.items():
            for parameter, values in parameters.items():
                there = self.stored[layer][parameter]
                content = files.setdefault(there.shard, bytearray((self.path / there.shard).read_bytes()))
                there.place.write(content, values)
                sums[there.key] = crc32c.masked(bytes(content[there.place.start : there.place.end]))
        index = f"{_PREFIX}.index"
        files[index] = _with_sums(self.path / index, sums)
        fingerprint = self.path / _FINGERPRINT
        if fingerprint.is_file():
            before = (self.path / index).read_bytes()
            files[_FINGERPRINT] = _with_hash(fingerprint.read_bytes(), before, bytes(files[index]))
        return {name: bytes(content) for name, content in files.items()}


def opened(path: Path, layers: tuple[BatchNorm, ...]) -> OpenedFolder:
    """Find the statistics of layers. Raises RuntimeFailure where one is not a tensor of the checkpoint by itself."""
    folder = saved_model.folder_of(path)
    stored: dict[str, dict[str, _StoredArray]] = {}
    with ExitStack() as stack:
        saved = stack.enter_context(saved_model.open_saved_model(folder))
        if not (folder / f"{_PREFIX}.index").is_file():
            raise RuntimeFailure("the model has no checkpoint", why=f"there is no {_PREFIX}.index in the folder")
        bundle = stack.enter_context(Bundle(folder / _PREFIX))
        variables = Variables(restored_by(saved.meta.graph, saved.meta.restore), bundle)
        searched = chosen(saved.model, None)
        located = {one.layer.name: one.sites.get(searched.signature, ()) for one in saved.model.layers}
        shards = sorted((folder / "variables").glob("variables.data-*"))
        for layer in layers:
            sites = located.get(layer.name, ())
            stored[layer.name] = {}
            for parameter in WANTED:
                leaf = sites[0].parameters.get(parameter) if sites else None
                keys = variables.keys(searched.graph, leaf) if leaf is not None else ()
                entry = bundle.entries.get(keys[0]) if len(keys) == 1 else None
                if entry is None or entry.slices or entry.dtype not in _TYPES:
                    raise refusal(layer.name, f"its {parameter} is not a tensor of the checkpoint by itself")
                dtype = np.dtype(_TYPES[entry.dtype])
                place = ArrayPlace(entry.offset, dtype, entry.size // dtype.itemsize)
                shard = str(shards[entry.shard].relative_to(folder))
                stored[layer.name][parameter] = _StoredArray(keys[0], shard, place)
    return OpenedFolder(folder, stored)


def _with_sums(path: Path, sums: Mapping[str, int]) -> bytearray:
    """Return an index with other checksums of tensors, and those of the blocks that they are in."""
    content = bytearray(path.read_bytes())
    blocks = {}
    with path.open("rb") as file:
        for key, block, start, size in SortedTable(file, path.name).places():
            if key.decode("utf-8", "surrogateescape") in sums:
                place = _place_of(content, start, size, _CRC)
                content[place : place + 4] = sums[key.decode("utf-8", "surrogateescape")].to_bytes(4, "little")
                blocks[block.offset] = block.size
    for offset, size in blocks.items():
        end = offset + size + 1  # the byte that says how it is compressed
        content[end : end + 4] = crc32c.masked(bytes(content[offset:end])).to_bytes(4, "little")
    return content


def _place_of(content: bytearray, start: int, size: int, number: int) -> int:
    found = [
        begin for field, _, begin, _ in fields(bytes(content[: start + size]), start, start + size) if field == number
    ]
    if len(found) != 1:
        raise RuntimeFailure("a tensor of the checkpoint has no checksum", why="it was written in another way")
    return found[0]


def _with_hash(fingerprint: bytes, before: bytes, after: bytes) -> bytearray:
    """Return a fingerprint with the hash of another index; as it is where it does not hold the hash of the first."""
    written = bytearray()
    position = 0
    for number, _, begin, end in fields(fingerprint):
        whole = fingerprint[position:end]
        if number == _CHECKPOINT_HASH and fingerprint[begin:end] == encoded_varint(_hash(before)):
            whole = fingerprint[position:begin] + encoded_varint(_hash(after))
        written += whole
        position = end
    return written


def _hash(content: bytes) -> int:
    """Return FarmHash's Fingerprint64, which TensorFlow alone is sure to have."""
    import tensorflow as tf

    found = tf.raw_ops.Fingerprint(data=tf.constant([content]), method="farmhash64")
    return int.from_bytes(found.numpy()[0].tobytes(), "little")
