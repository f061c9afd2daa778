"""A graph run again and again in one session, with values on the way given in the place of what was computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bninspect.formats.tensorflow import model as models
from bninspect.formats.tensorflow.graph.flatten import FlatNode, Tensor
from bninspect.records import Array, Checkpoint
from bninspect.runtimes import loading
from bninspect.runtimes.runtime import RunSettings
from bninspect.runtimes.tensorflow import inputs as graph_inputs
from bninspect.runtimes.tensorflow import source as graph_source
from bninspect.runtimes.tensorflow.copy import Copy, add
from bninspect.runtimes.tensorflow.inputs import Feed

_GIVEN = "bninspect_given"


class GraphAgain:
    """A loaded graph whose values are called `node:position`, as the flat graph calls them.

    Raises:
        UnreadableFile: the file is no longer what was read.
        RuntimeFailure: TensorFlow cannot load it.
    """

    def __init__(self, checkpoint: Checkpoint, settings: RunSettings) -> None:
        tf = loading.framework("tensorflow")
        v1 = tf.compat.v1
        self._graph = tf.Graph()
        self._scopes: dict[tuple[str, ...], tuple[str, frozenset[str], dict[str, Any]]] = {}
        with (
            graph_source.silent(),
            graph_source.opened(checkpoint, settings) as source,
            loading.quiet(),
            self._graph.as_default(),
        ):
            searched = models.chosen(source.model, settings.signature)
            self._flat = searched.graph
            self._session = v1.Session(graph=self._graph, config=graph_source.unoptimised())
            with loading.failing_as("TensorFlow cannot load the file"), self._session.as_default():
                source.load(self._session)
                every = [(name, 0) for name in self._flat.nodes]
                self._copy = Copy(self._flat, [*every, *self._flat.outputs])
            # Of a graph without signatures nobody looked at what else its nodes do.
            self._barred = frozenset[str]() if settings.trust else self._flat.impure()
            signature = source.model.signatures.get(searched.signature)
            self.taken: tuple[Feed, ...]
            self.taken, self._off = graph_inputs.feeds(
                self._flat, signature, [name for name, _ in self._flat.outputs], settings
            )

    @property
    def outputs(self) -> tuple[str, ...]:
        """The values that the graph returns."""
        return tuple(f"{name}:{place}" for name, place in self._flat.outputs)

    def values(self, data: Sequence[Array], given: Mapping[str, Array], wanted: Iterable[str]) -> Mapping[str, Array]:
        """Run it and return the wanted values, those that are given as the graph itself computed them."""
        names = list(dict.fromkeys(wanted))
        with loading.failing_as("TensorFlow cannot run the model"), self._graph.as_default():
            scope, own, fed = self._scoped(tuple(sorted(given)))
            feed = {self._fed(feed.tensor): array for feed, array in zip(self.taken, data, strict=True)}
            feed |= {fed[name]: array for name, array in given.items()}
            there = {operation.name for operation in self._graph.get_operations()}
            feed |= {f"{name}:0": np.zeros((), np.bool_) for name in self._off if name in there}
            fetched = self._fetchable(names, scope, own)
            values = self._session.run(list(fetched.values()), feed)
        return {name: np.asarray(one) for name, one in zip(fetched, values, strict=True)}

    def _fetchable(self, names: Sequence[str], scope: str, own: frozenset[str]) -> dict[str, Any]:
        found = {}
        for name in names:
            node, place = _parts(name)
            if node in self._barred:
                continue
            try:
                tensor = (
                    self._graph.get_tensor_by_name(f"{scope}/{node}:{place}")
                    if node in own
                    else self._copy.tensor((node, place))
                )
            except (KeyError, ValueError):  # a position that the node does not have
                continue
            if tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool:
                found[name] = tensor
        return found

    def _fed(self, tensor: str) -> Any:
        node, place = _parts(tensor)
        return self._copy.tensor((node, place)) if node in self._flat.nodes else tensor

    def _scoped(self, names: tuple[str, ...]) -> tuple[str, frozenset[str], dict[str, Any]]:
        """Return where the operations behind given values stand once more, which these are, and what to feed."""
        if names not in self._scopes:
            self._scopes[names] = self._added(names, f"bninspect_again_{len(self._scopes)}")
        return self._scopes[names]

    def _added(self, names: Sequence[str], scope: str) -> tuple[str, frozenset[str], dict[str, Any]]:
        import tensorflow as tf

        given = {_parts(name) for name in names}
        fed = {
            name: tf.compat.v1.placeholder(self._copy.tensor(_parts(name)).dtype, None, f"{_GIVEN}_{scope}_{place}")
            for place, name in enumerate(names)
        }
        own: list[FlatNode] = []
        behind: set[str] = set()
        for node in self._flat.nodes.values():
            if any(source in given or source[0] in behind for source in node.inputs):
                behind.add(node.name)
                own.append(node)

        def outside(one: Tensor) -> Any:
            return fed[f"{one[0]}:{one[1]}"] if one in given else self._copy.tensor(one)

        add([(node.name, node, node.inputs) for node in own], behind, scope, outside, given)
        return scope, frozenset(behind), fed


def _parts(name: str) -> Tensor:
    node, _, place = name.rpartition(":")
    return (node, int(place)) if node else (place, 0)
