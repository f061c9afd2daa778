"""Keras 3 weights without a model: `x.weights.h5`, and `x.weights.json` with its shards.

There is no configuration, so epsilon, momentum and axis are unknown, and which objects are batch norms is found out
(keras_discovery.py). From Keras 3.6 on the file holds the names of layers; before, a layer is called by its group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bninspect.errors import BninspectError, DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.containers.hdf5 import Group, open_file
from bninspect.formats.containers.hdf5_ahead import prepare
from bninspect.formats.containers.siblings import sibling
from bninspect.formats.format import Format
from bninspect.formats.keras.config import load
from bninspect.formats.keras.discovery import discover
from bninspect.formats.keras.saved_objects import FLOATS, VARS, Saved, collect, distinct, joined, named_path
from bninspect.formats.named_kernels import NamedKernel, of_keras
from bninspect.formats.unknown_files import HDF5_SIGNATURE
from bninspect.records import Checkpoint

NAME = "keras-weights"
SHARDS = 512
INDEX_BYTES = 32 << 20


def matches(path: Path, head: bytes) -> bool:
    """Return whether this is HDF5 as Keras 3 lays out weights, or an index of shards of it."""
    if head.startswith(b"{"):
        # Other libraries index their shards in the same words; what differs is the shards' names.
        return b'"weight_map"' in head and b'.weights.h5"' in head
    if not head.startswith(HDF5_SIGNATURE):
        return False
    try:
        with open_file(path, str(path)) as root:
            return not is_legacy(root) and _holds_objects(root)
    except BninspectError:
        return False


def is_legacy(root: Group) -> bool:
    """Return whether this is the older layout, whose root says which layers and perhaps which model it holds."""
    marks = ("layer_names", "model_config")
    return root.group("model_weights") is not None or any(root.texts(mark) is not None for mark in marks)


def read(path: Path) -> Checkpoint:
    """Read a `.weights.h5` or `.weights.json` file.

    Raises:
        UnreadableFile: it, or one of its shards, is missing, damaged or unsafe.
    """
    with _saved(path) as objects:
        found, notes = discover(objects.values())
        layers = distinct(replace(layer, name=named_path(where, objects) or where) for where, layer in found.items())
    missing = "weights only: the file states no epsilon, momentum and axis"
    return Checkpoint(str(path), NAME, "", layers, (missing, *notes))


def read_kernels(path: Path) -> tuple[NamedKernel, ...]:
    """Return the kernels of the file: of each saved object that is not a batch norm. Raises as `read`."""
    with _saved(path) as objects:
        norms, _ = discover(objects.values())
        found = [
            NamedKernel(named_path(where, objects) or where, readings)
            for where, saved in objects.items()
            if where not in norms and saved.count in {1, 2} and FLOATS.issuperset(saved.kinds)
            if (readings := of_keras(where.rpartition("/")[2], map(saved.array, range(saved.count or 0))))
        ]
    return tuple(found)


@contextmanager
def _saved(path: Path) -> Iterator[dict[str, Saved]]:
    """Yield the saved objects of one file, or of the shards that an index names. Raises as `read`."""
    with path.open("rb") as file:
        whole = file.read(8) == HDF5_SIGNATURE
    with ExitStack() as stack:
        root = stack.enter_context(open_file(path, str(path))) if whole else None
        objects = collect(root) if root else _read_shards(path, stack)
        yield objects


def _read_shards(index: Path, stack: ExitStack) -> dict[str, Saved]:
    """Return what the shards named by `index` hold, having checked that each holds what the index says."""
    label = str(index)
    listed, announced = _index(index)
    names = sorted(set().union(*listed.values()))
    if len(names) > SHARDS:
        raise UnsafeFile(f"{label} is too large", why=f"{len(names):,} shards, at most {SHARDS:,} are read")
    shards: dict[str, dict[str, Saved]] = {}
    for name in names:
        shard = sibling(index.parent, name, label)
        shards[name] = collect(stack.enter_context(open_file(shard, str(shard))))
    holding: dict[str, set[str]] = {}
    for name, objects in shards.items():
        for path, saved in objects.items():
            if saved.homes:
                holding.setdefault(path, set()).add(name)
    if holding != listed:
        path = min(path for path in holding | listed if holding.get(path) != listed.get(path))
        raise DamagedFile(
            f"{label} contradicts its shards",
            why=f"{path} is in {sorted(holding.get(path, ()))}, the index says {sorted(listed.get(path, ()))}",
        )
    objects = joined(shards, label)
    if isinstance(announced, int | float) and _bytes(objects.values()) not in {None, announced}:
        why = f"its shards hold {_bytes(objects.values())} bytes, the index says {announced}"
        raise DamagedFile(f"{label} is incomplete", why=why)
    return objects


def _bytes(objects: Iterable[Saved]) -> int | None:
    """Return the size of all arrays, or None if there is one that is not of numbers, for instance of booleans."""
    try:
        return sum(saved.size(number) for saved in objects for number in saved.homes)
    except UnreadableFile:
        return None


def _index(index: Path) -> tuple[dict[str, set[str]], object]:
    """Return for each object's path the names of the shards that hold its arrays, and the size of all arrays."""
    label = str(index)
    if index.stat().st_size > INDEX_BYTES:
        why = f"{index.stat().st_size:,} bytes, at most {INDEX_BYTES:,} are read"
        raise UnsafeFile(f"{label} is too large", why=why)
    content = load(index.read_bytes().decode("utf-8", "replace"), label)
    content = content if isinstance(content, dict) else {}
    listed, metadata = content.get("weight_map"), content.get("metadata")
    if not isinstance(listed, dict) or not listed:
        raise DamagedFile(f"{label} is not an index of shards", why="its weight_map is missing or empty")
    found: dict[str, set[str]] = {}
    for path, named in listed.items():
        names = named if isinstance(named, list) else [named]
        if path.rpartition("/")[2] != VARS or not names or not all(isinstance(name, str) for name in names):
            raise DamagedFile(f"{label} is not an index of shards", why=f"its entry for {path} does not list shards")
        found[path.strip("/").removesuffix(VARS).rstrip("/")] = set(names)
    return found, metadata.get("total_size") if isinstance(metadata, dict) else None


def _holds_objects(group: Group) -> bool:
    prepare([group], names=())
    children = (group.group(name) for name in group.names())
    return group.group(VARS) is not None or any(child and _holds_objects(child) for child in children)


FORMAT = Format(
    NAME,
    "Keras 3 weights (.weights.h5, .weights.json)",
    (".weights.h5", ".weights.json"),
    matches,
    read,
    kernels=read_kernels,
)
