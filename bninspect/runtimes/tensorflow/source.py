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
        yield GraphFile(frozen.open_frozen(path), lambda _: _load_frozen(path))
    else:
        loading.require_digest(checkpoint, files.digest(checkpoints.parts(path)))
        with checkpoints.open_checkpoint(path) as opened:
            place = checkpoints.place_of(path)
            if opened.model is None:
                raise RuntimeFailure(
                    "the file holds only variables", why=f"there is no {printable(place.graph.name)} beside it"
                )
            yield GraphFile(opened.model, lambda session: _load_meta(session, place))


def _load_saved(session: Any, path: Path, tags: frozenset[str]) -> None:
    import tensorflow as tf

    tf.compat.v1.saved_model.load(session, sorted(tags), str(saved_model.folder_of(path)))


def _load_frozen(path: Path) -> None:
    import tensorflow as tf

    tf.import_graph_def(tf.compat.v1.GraphDef.FromString(files.whole(path)), name="")


def _load_meta(session: Any, place: checkpoints.CheckpointPlace) -> None:
    import tensorflow as tf

    meta = tf.compat.v1.MetaGraphDef.FromString(files.whole(place.graph))
    for node in (*meta.graph_def.node, *(node for one in meta.graph_def.library.function for node in one.node_def)):
        # Older versions inferred shapes, those of gradients above all, that newer ones call impossible.
        node.attr.pop("_output_shapes", None)
    saver = tf.compat.v1.train.import_meta_graph(meta, clear_devices=True)
    if saver is not None:
        saver.restore(session, place.prefix)
