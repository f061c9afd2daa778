"""TensorFlow checkpoints: variables without a graph, by tf.train.Checkpoint, Keras or tf.train.Saver.

Which are a batch norm, objects or names tell; epsilon is not stored. Where the Saver left its graph beside them, in a
.meta file, the layers are found in that graph, epsilon included.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from bninspect.errors import UnknownFormat, UnreadableFile
from bninspect.formats.encodings import leveldb_table
from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.format import Format
from bninspect.formats.tensorflow import files, model, scopes, unused_variables
from bninspect.formats.tensorflow.checkpoint_v1 import SliceFile
from bninspect.formats.tensorflow.checkpoint_v2 import Bundle
from bninspect.formats.tensorflow.graph.graph_def import MetaGraph
from bninspect.formats.tensorflow.model import GraphModel
from bninspect.formats.tensorflow.variables import Store
from bninspect.records import BatchNorm, Checkpoint
from bninspect.safe_text import printable

NAME = "tf-checkpoint"
STATE = "checkpoint"
_STATE_LINE = re.compile(r'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})\Z")
_MOST_STATE = 1 << 20


@dataclass(frozen=True)
class CheckpointPlace:
    """Where a checkpoint is."""

    folder: Path
    name: str
    """Of its files, without their endings; empty if somebody saved to `folder/`."""
    is_table: bool
    """Whether it is of version 1: a table of its own, not an index with shards."""

    @property
    def prefix(self) -> str:
        """Where it is, as `tf.train.load_checkpoint` takes it."""
        return os.path.join(self.folder, self.name)  # noqa: PTH118 - keeps the / at the end

    @property
    def bundle(self) -> Path | str:
        """The same as a path in the folder, where that is one."""
        return self.folder / self.name if self.name else self.prefix

    @property
    def graph(self) -> Path:
        """The graph that the Saver writes beside it."""
        return self.folder / f"{self.name}.meta"


@dataclass(frozen=True, eq=False)
class Opened:
    """An open checkpoint."""

    store: Store
    meta: MetaGraph | None
    model: GraphModel | None
    """Of the graph beside it, if there is one."""


def place_of(path: Path) -> CheckpointPlace:
    """Return the checkpoint that a user means by a prefix, an .index or .meta file, a state file or a folder.

    Only files in that folder are ever meant, whatever path a state file says.

    Raises:
        UnknownFormat: there is no checkpoint, or more than one.
    """
    if path.is_dir():
        return _place_in(path)
    if path.name == STATE and path.is_file() and not _is_table(path):
        return _place_by_state(path)
    return _place(path.parent, _PART.sub("", path.name))


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Opened]:
    """Open a checkpoint, and its graph if that lies beside it.

    Raises:
        UnreadableFile: it cannot be read.
    """
    place = place_of(path)
    with SliceFile(place.folder / place.name) if place.is_table else Bundle(place.bundle) as store:
        if not place.graph.is_file():
            yield Opened(store, None, None)
            return
        meta = MetaGraph.read(Message(files.whole(place.graph)))
        yield Opened(store, meta, model.of_meta_graph(meta, store))


def parts(path: Path) -> tuple[Path, ...]:
    """Return the files that reading a checkpoint reads."""
    place = place_of(path)
    if place.is_table:
        found = [place.folder / place.name]
    else:
        name = place.name
        found = sorted(
            one
            for one in place.folder.iterdir()
            if (one.name == f"{name}.index" or one.name.startswith(f"{name}.data-")) and one.is_file()
        )
    return (*found, *([place.graph] if place.graph.is_file() else []))


def _place(folder: Path, name: str) -> CheckpointPlace:
    if (folder / f"{name}.index").is_file():
        return CheckpointPlace(folder, name, is_table=False)
    if name and _is_table(folder / name):
        return CheckpointPlace(folder, name, is_table=True)
    raise UnknownFormat(
        f"there is no checkpoint {printable(name)!r}",
        why=f"neither {printable(name)}.index nor a checkpoint of version 1 is in its folder",
        hint="name the .index file, or the path without .index",
    )


def _place_in(folder: Path) -> CheckpointPlace:
    state = folder / STATE
    if state.is_file():
        return _place_by_state(state)
    found = sorted(folder.glob("*.index"))
    if len(found) == 1:
        return _place(folder, found[0].name.removesuffix(".index"))
    raise UnknownFormat(
        f"{printable(folder.name)} holds {len(found) or 'no'} checkpoints",
        why="a folder must hold one, or a file `checkpoint` that says which",
        hint=f"name one: {printable(str(found[-1]))}" if found else "",
    )


def _place_by_state(state: Path) -> CheckpointPlace:
    with state.open("rb") as file:
        text = file.read(_MOST_STATE).decode("utf-8", "replace")
    match = _STATE_LINE.search(text)
    if match is None:
        raise UnknownFormat(
            f"{printable(state.name)} does not name a checkpoint", why="it has no model_checkpoint_path"
        )
    # Training writes the path that it had then; the files have usually been moved since.
    name = re.sub(r"\\(.)", r"\1", match[1]).replace("\\", "/").rpartition("/")[2]
    if name in ("", ".", ".."):
        raise UnknownFormat(
            f"{printable(state.name)} does not name a checkpoint", why=f"it says {printable(match[1])!r}"
        )
    return _place(state.parent, name)


def _is_table(path: Path) -> bool:
    if not path.is_file():  # Opening a pipe would wait for its other end.
        return False
    try:
        with path.open("rb") as file:
            return leveldb_table.is_table(file)
    except OSError:
        return False


def _matches(path: Path, head: bytes) -> bool:
    try:
        if path.is_dir():
            # Of several, each is a model of its own; which is meant, the user or a state file must say.
            indexes = len(list(islice(path.glob("*.index"), 2)))
            return not (path / "saved_model.pb").is_file() and ((path / STATE).is_file() or indexes == 1)
        if head.startswith(b"model_checkpoint_path:") or _is_table(path):
            return True
        # A prefix is not a file; a shard or a .meta file has no sign of its own and is known by the index beside it.
        name = _PART.sub("", path.name)
        return (name != path.name or not path.exists()) and (path.parent / f"{name}.index").is_file()
    except OSError:
        return False


def _read(path: Path) -> Checkpoint:
    try:
        with files.counted(parts(path)) as counts, open_checkpoint(path) as opened:
            size, digest = counts()
            if opened.model is None or opened.meta is None:
                found = Checkpoint(str(path), NAME, "", tuple(_layers(opened.store)), _better(path))
            else:
                found = opened.model.checkpoint(path, NAME, opened.meta.version, _source_of_epsilon(opened.model))
            return replace(found, sha256=digest, bytes=size)
    except OSError as error:
        raise UnreadableFile(f"{printable(path.name)} cannot be read", why=error.strerror or "") from error


def _source_of_epsilon(model: GraphModel) -> tuple[str, ...]:
    known = any(layer.layer.epsilon is not None for layer in model.layers)
    return ("epsilon is from the graph in the .meta file",) if known else ()


def _better(path: Path) -> tuple[str, ...]:
    """Return where the graph is that uses these variables, if they are those of a SavedModel."""
    folder = place_of(path).folder
    if folder.name != "variables" or not (folder.parent / "saved_model.pb").is_file():
        return ()
    whole = printable(str(folder.parent))
    return (f"the variables alone of a SavedModel, whose graph says what they are: name {whole}",)


def _layers(store: Store) -> Iterator[BatchNorm]:
    known = set(store.entries)
    for title, keys in unused_variables.norms(store):
        layer = unused_variables.of_keys(store, keys, BatchNorm(title))
        if scopes.averaged(keys, known):
            note = "the checkpoint also holds exponential moving averages of its parameters: these are the plain ones"
            layer = replace(layer, notes=(*layer.notes, note))
        yield layer


FORMAT = Format(
    name=NAME,
    title="TensorFlow checkpoint (.index, prefix or folder)",
    suffixes=(".index",),
    matches=_matches,
    read=_read,
)
