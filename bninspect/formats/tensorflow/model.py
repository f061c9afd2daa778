"""A graph with its variables: what the reader reports and the runtime runs, found once and in one way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bninspect.errors import UsageError
from bninspect.formats.tensorflow import impure_ops as code
from bninspect.formats.tensorflow.graph.flatten import flatten, flatten_all
from bninspect.formats.tensorflow.graph.functions import with_functions
from bninspect.formats.tensorflow.graph.graph_def import GraphDef, MetaGraph, Signature
from bninspect.formats.tensorflow.keras_metadata import KerasNorm
from bninspect.formats.tensorflow.norms import graph_search
from bninspect.formats.tensorflow.norms.layers import Located, Searched, located
from bninspect.formats.tensorflow.object_graph import Object, checkpoint_key, walk_together
from bninspect.formats.tensorflow.variables import Store, Variables, restored_by
from bninspect.records import Checkpoint, Unread
from bninspect.safe_text import printable

DEFAULT = "serving_default"
WHOLE = ""
"""Stands for a signature where a graph has none: all of it."""


@dataclass(frozen=True, eq=False)
class GraphModel:
    """A graph, the layers in it, and what it would do if it ran."""

    graph: GraphDef
    signatures: Mapping[str, Signature]
    searched: tuple[Searched, ...]
    """One for each signature, the default one first; `WHOLE` alone where there is none."""
    layers: tuple[Located, ...]
    code: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def unread(self) -> tuple[Unread, ...]:
        """Calls of batch norm that are none of the layers, those of several signatures once."""
        return tuple(dict.fromkeys(calls for one in self.searched for calls in one.found.unread))

    @property
    def fetched(self) -> tuple[str, ...]:
        """The nodes of the flat graphs that observing the layers takes."""
        return tuple(_fetched(self.layers))

    def checkpoint(self, path: Path, name: str, version: str, notes: Sequence[str] = ()) -> Checkpoint:
        """Return what a file says that holds this graph; `version` is that of TensorFlow, empty if it is not known."""
        return Checkpoint(
            str(path),
            name,
            f"TensorFlow {version}" if version else "",
            tuple(located.layer for located in self.layers),
            (*notes, *self.notes),
            code=self.code,
            unread=self.unread,
        )


def of_meta_graph(
    meta: MetaGraph,
    store: Store | None,
    saved: Sequence[Object] = (),
    stored: Sequence[Object] = (),
    keras: Sequence[KerasNorm] = (),
) -> GraphModel:
    """Return the model of a MetaGraph.

    Args:
        meta: the graph.
        store: the checkpoint with its variables, if there is one.
        saved: the objects of a SavedModel.
        stored: the objects of its checkpoint.
        keras: what Keras 2 says of its layers.

    Raises:
        UnreadableFile: the graph or a value is damaged.
    """
    variables = Variables(restored_by(meta.graph, meta.restore), store)
    if saved and not meta.signatures:
        handles = {one.key: node for node, one in variables.restored.items()}
        keys = {mine: checkpoint_key(stored[theirs])[0] for mine, theirs in walk_together(saved, stored).items()}
        meta = with_functions(meta, saved, {number: handles[key] for number, key in keys.items() if key in handles})
    searched = _searched(meta.graph, meta.signatures)
    layers = located(searched, variables, keras)
    if meta.signatures:
        fetched = [info.tensor for signature in meta.signatures.values() for info in signature.outputs.values()]
    else:
        fetched = _fetched(layers)
    impure = (*code.impure(meta.graph, [*fetched, *meta.initialisers]), *code.impure_restore(meta))
    return GraphModel(meta.graph, meta.signatures, searched, layers, tuple(dict.fromkeys(impure)), _notes(searched))


def of_frozen(graph: GraphDef) -> GraphModel:
    """Return the model of a graph whose parameters are constants. Raises UnreadableFile."""
    searched = _searched(graph, {})
    layers = located(searched, Variables({}, None))
    return GraphModel(graph, {}, searched, layers, code.impure(graph, _fetched(layers)), _notes(searched))


def default(signatures: Mapping[str, Signature]) -> str:
    """Return the signature that is meant when nobody says which."""
    return DEFAULT if DEFAULT in signatures else next(iter(sorted(signatures)), WHOLE)


def chosen(model: GraphModel, name: str | None) -> Searched:
    """Return the flat graph of a signature, of the default one for `None`.

    Raises:
        UsageError: there is no such signature.
    """
    for one in model.searched:
        if name is None or one.signature == name:
            return one
    known = ", ".join(printable(signature) for signature in model.signatures) or "none"
    raise UsageError(
        f"the model has no signature {printable(str(name))!r}",
        why=f"its signatures: {known}",
        hint=f"--signature {printable(default(model.signatures))}" if model.signatures else "",
    )


def _searched(graph: GraphDef, signatures: Mapping[str, Signature]) -> tuple[Searched, ...]:
    if not signatures:
        flat = flatten_all(graph)
        return (Searched(WHOLE, flat, graph_search.search(flat)),)
    first = default(signatures)
    result = []
    for name in (first, *sorted(signatures.keys() - {first})):
        flat = flatten(graph, [info.tensor for info in signatures[name].outputs.values()])
        result.append(Searched(name, flat, graph_search.search(flat)))
    return tuple(result)


def _fetched(layers: Sequence[Located]) -> list[str]:
    """Return the nodes of the graph that observing the layers takes."""
    return [
        name for layer in layers for sites in layer.sites.values() for site in sites for name in (site.x[0], site.y[0])
    ]


def _notes(searched: Sequence[Searched]) -> tuple[str, ...]:
    assumed = searched[0].graph.assumed if searched else ()
    return tuple(f"placeholder {printable(name)!r} is taken as false, as at inference" for name in assumed)
