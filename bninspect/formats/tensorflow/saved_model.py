"""SavedModels: a folder with saved_model.pb and variables/, by Keras 2, Keras 3, tf.Module or TF1."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bninspect.errors import DamagedFile, UnknownFormat, UnreadableFile, UsageError
from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.format import Format
from bninspect.formats.tensorflow import files, keras_metadata, model, object_graph
from bninspect.formats.tensorflow.checkpoint_v2 import Bundle
from bninspect.formats.tensorflow.graph.graph_def import MetaGraph
from bninspect.formats.tensorflow.model import GraphModel
from bninspect.records import Checkpoint
from bninspect.safe_text import printable

NAME = "saved-model"
GRAPH = "saved_model.pb"
TEXT_GRAPH = "saved_model.pbtxt"
_TAG = "serve"


@dataclass(frozen=True, eq=False)
class SavedModel:
    """An open SavedModel."""

    meta: MetaGraph
    model: GraphModel
    notes: tuple[str, ...]


def folder_of(path: Path) -> Path:
    """Return the folder of a SavedModel that the user named by its folder or by its saved_model.pb."""
    return path if path.is_dir() else path.parent


@contextmanager
def open_saved_model(path: Path, tag: str | None = None) -> Iterator[SavedModel]:
    """Open a SavedModel and find its layers.

    Args:
        path: the folder, or saved_model.pb in it.
        tag: of the graph to take, where there are several.

    Raises:
        UnreadableFile: it cannot be read.
        UsageError: it has no graph with this tag.
    """
    folder = folder_of(path)
    graphs = _graphs(folder)
    meta, notes = _tagged(graphs, tag)
    prefix = folder / "variables" / "variables"
    if not prefix.with_name("variables.index").is_file():
        yield SavedModel(meta, model.of_meta_graph(meta, None), notes)
        return
    with Bundle(prefix) as bundle:
        metadata = folder / "keras_metadata.pb"
        described = Message(files.whole(metadata)) if metadata.is_file() else Message()

        @functools.cache
        def stored() -> list[object_graph.Object]:
            if object_graph.KEY not in bundle.entries:
                return []
            return list(object_graph.objects(Message(bundle.strings(object_graph.KEY)[0])))

        saved = object_graph.objects(meta.objects)
        norms = keras_metadata.norms(saved, stored, described)
        found = model.of_meta_graph(meta, bundle, saved, () if meta.signatures else stored(), norms)
        yield SavedModel(meta, found, notes)


def parts(path: Path) -> tuple[Path, ...]:
    """Return the files of a SavedModel that reading it reads."""
    folder = folder_of(path)
    variables = folder / "variables"
    names = [folder / GRAPH, folder / "keras_metadata.pb"]
    names += sorted(variables.glob("variables.*")) if variables.is_dir() else []
    return tuple(name for name in names if name.is_file())


def _graphs(folder: Path) -> list[MetaGraph]:
    message = Message(files.whole(folder / GRAPH))
    graphs = message.chunks(2)
    if message.integer(1) != 1 or not graphs:
        raise DamagedFile(
            f"{printable(folder.name)}/{GRAPH} is damaged", why="it holds no graph", hint="copy or download it again"
        )
    return [MetaGraph.read(Message(graph)) for graph in graphs]


def _tagged(graphs: list[MetaGraph], tag: str | None) -> tuple[MetaGraph, tuple[str, ...]]:
    """Return the graph to take: the one with the tag, else the one to serve, else the first."""
    tagged = [graph for graph in graphs if (tag or _TAG) in graph.tags]
    tags = ", ".join("+".join(sorted(graph.tags)) or "none" for graph in graphs)
    if tag is not None and not tagged:
        raise UsageError(f"the model has no graph tagged {printable(tag)!r}", why=f"its tags: {printable(tags)}")
    # The fewest tags: `serve` alone comes before `serve` on a TPU.
    taken = min(tagged or graphs[:1], key=lambda graph: len(graph.tags))
    if len(graphs) == 1:
        return taken, ()
    return taken, (f"of {len(graphs)} graphs the one tagged {'+'.join(sorted(taken.tags)) or 'none'} is read",)


def _matches(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return (path / GRAPH).is_file() or (path / TEXT_GRAPH).is_file()
    # A SavedModel begins with its version, 1, then comes a graph.
    return head.startswith(b"\x08\x01\x12") and path.name == GRAPH


def _read(path: Path) -> Checkpoint:
    if path.is_dir() and not (path / GRAPH).is_file():
        raise UnknownFormat(
            f"{printable(path.name)} is a SavedModel in text form",
            why=f"it has a {TEXT_GRAPH}, which is not read",
            hint=f"load and save it with TensorFlow, which writes {GRAPH}",
        )
    try:
        with files.counted(parts(path)) as counts, open_saved_model(path) as opened:
            size, digest = counts()
            found = opened.model.checkpoint(path, NAME, opened.meta.version, opened.notes)
            return replace(found, sha256=digest, bytes=size)
    except OSError as error:
        raise UnreadableFile(f"{printable(path.name)} cannot be read", why=error.strerror or "") from error


FORMAT = Format(
    name=NAME,
    title="TensorFlow SavedModel (folder)",
    suffixes=(".pb",),
    matches=_matches,
    read=_read,
)
