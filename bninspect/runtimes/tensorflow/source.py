"""The three kinds of file that hold a TensorFlow graph: what our reader finds in each, and TensorFlow's own loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bninspect.errors import RuntimeFailure
from bninspect.formats import whole_file
from bninspect.formats.tensorflow import checkpoint as checkpoints
from bninspect.formats.tensorflow import files, frozen, saved_model
from bninspect.formats.tensorflow.graph.flatten import reached
from bninspect.formats.tensorflow.model import GraphModel
from bninspect.records import Checkpoint
from bninspect.runtimes import loading
from bninspect.runtimes.runtime import RunSettings
from bninspect.safe_text import printable


@dataclass(frozen=True, eq=False)
class GraphFile:
    """A file with a graph."""

    model: GraphModel
    load: Callable[[Any], None]
    """Has TensorFlow load the file into the graph of a session, variables included."""


@contextmanager
def silent() -> Iterator[None]:
    """Have TensorFlow not say that the interface of sessions is an old one."""
    import tensorflow as tf

    logging = tf.compat.v1.logging
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(level)


def unoptimised() -> Any:
    """Return the configuration of a session that computes the graph as it is."""
    import tensorflow as tf

    options = tf.compat.v1.ConfigProto()
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    options.graph_options.optimizer_options.opt_level = tf.compat.v1.OptimizerOptions.L0
    return options


@contextmanager
def opened(checkpoint: Checkpoint, settings: RunSettings) -> Iterator[GraphFile]:
    """Read the file once more, in this process, as the same bytes.

    Raises:
        UnreadableFile: it is no longer what was read.
        UsageError: there is no graph with the tag that `settings` names.
        RuntimeFailure: a checkpoint without a graph.
    """
    path = Path(checkpoint.path)
    if checkpoint.format == saved_model.NAME:
        loading.require_digest(checkpoint, files.digest(saved_model.parts(path)))
        with saved_model.open_saved_model(path, settings.tag) as saved:
            yield GraphFile(saved.model, lambda session: _load_saved(session, path, saved.meta.tags))
    elif checkpoint.format == frozen.NAME:
        loading.require_digest(checkpoint, whole_file.digest(path))
        frozen_model = frozen.open_frozen(path)
        yield GraphFile(frozen_model, lambda _: _load_frozen(path, frozen_model))
    else:
        loading.require_digest(checkpoint, files.digest(checkpoints.parts(path)))
        with checkpoints.open_checkpoint(path) as opened:
            place = checkpoints.place_of(path)
            model = opened.model
            if model is None:
                raise RuntimeFailure(
                    "the file holds only variables", why=f"there is no {printable(place.graph.name)} beside it"
                )
            yield GraphFile(model, lambda session: _load_meta(session, place, model))


def _load_saved(session: Any, path: Path, tags: frozenset[str]) -> None:
    import tensorflow as tf

    tf.compat.v1.saved_model.load(session, sorted(tags), str(saved_model.folder_of(path)))


def _load_frozen(path: Path, model: GraphModel) -> None:
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef.FromString(files.whole(path))
    _prune(graph, model)
    tf.import_graph_def(graph, name="")


def _load_meta(session: Any, place: checkpoints.CheckpointPlace, model: GraphModel) -> None:
    import tensorflow as tf

    meta = tf.compat.v1.MetaGraphDef.FromString(files.whole(place.graph))
    for node in (*meta.graph_def.node, *(node for one in meta.graph_def.library.function for node in one.node_def)):
        # Older versions inferred shapes, those of gradients above all, that newer ones call impossible.
        node.attr.pop("_output_shapes", None)
    if _prune(meta.graph_def, model):
        meta.collection_def.clear()  # lists of variables and the like, which may name what is no longer there
    saver = tf.compat.v1.train.import_meta_graph(meta, clear_devices=True)
    if saver is not None:
        saver.restore(session, place.prefix)


def _prune(graph: Any, model: GraphModel) -> bool:
    """Take operations that this TensorFlow lacks out of a graph, with all behind them, if no batch norm needs one."""
    from tensorflow.python.framework import op_def_registry

    own = {function.signature.name for function in graph.library.function}
    gone = {node.name for node in graph.node if node.op not in own and op_def_registry.get(node.op) is None}
    if not gone or not gone.isdisjoint(node.name for node in reached(model.searched[0].graph, model.fetched)):
        return False
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for source in node.input:
            users.setdefault(source.lstrip("^").partition(":")[0], []).append(node.name)
    waiting = [*gone]
    while waiting:
        fresh = [user for user in users.get(waiting.pop(), ()) if user not in gone]
        gone.update(fresh)
        waiting.extend(fresh)
    kept = [node for node in graph.node if node.name not in gone]
    del graph.node[:]
    graph.node.extend(kept)
    return True
