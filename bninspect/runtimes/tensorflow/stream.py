"""A TensorFlow graph through which data streams, as a whole or in parts; other statistics are fed in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.formats.tensorflow import model as models
from bninspect.records import Array, Arrival, Checkpoint, Estimator
from bninspect.runtimes import graph_steps, loading
from bninspect.runtimes.dissection import Arriving, Dissection
from bninspect.runtimes.keras import hook
from bninspect.runtimes.keras.run import surroundings
from bninspect.runtimes.runtime import Receive, RunSettings, Stream
from bninspect.runtimes.tensorflow import run
from bninspect.runtimes.tensorflow import source as graph_source
from bninspect.runtimes.tensorflow.calls import GraphCall
from bninspect.safe_text import printable

_STATISTICS = ("moving_mean", "moving_variance")


@contextmanager
def stream(checkpoint: Checkpoint, settings: RunSettings) -> Iterator[Stream]:
    """Have TensorFlow load the file itself. Raises as `run.observe`."""
    tf = loading.framework("tensorflow")
    with graph_source.opened(checkpoint, settings) as source:
        searched = models.chosen(source.model, settings.signature)
        calls, unobserved = run.calls_of(source.model.layers, checkpoint.layers, searched)
        fused = {name for name, node in searched.graph.nodes.items() if node.op.startswith("FusedBatchNorm")}
        with run.opened_session() as session:
            with loading.failing_as(f"TensorFlow {tf.__version__} cannot load the file"):
                source.load(session)
            running = _Running(run.Running(session, source.model, searched, calls), settings, calls)
            yield Stream(
                f"TensorFlow {tf.__version__}",
                tuple(feed.taken for feed in running.taken),
                running.forward,
                dict(unobserved),
                (),
                surroundings(),
                assign=running.assign,
                # What a fused kernel stores in training is n/(n - 1) of the variance of the batch.
                estimators={
                    call.layer.name: Estimator.UNBIASED for call in calls if fused.intersection(call.site.nodes)
                },
                dissect=running.dissect,
                held=running.held,
            )


class _Running:
    """A loaded graph, its calls, and the statistics that are fed in the place of its own."""

    def __init__(self, graph: run.Running, settings: RunSettings, calls: Sequence[GraphCall]) -> None:
        self._graph, self._calls = graph, calls
        self.taken, self._off = graph.feeds(settings)
        self._given: dict[str, Array] = {}

    def _fetch(self, fed: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
        return [np.asarray(x) for x in self._graph.fetch({**fed, **self._given}, self._off, names)]

    def _arriving(self, data: Mapping[str, Array], calls: Sequence[GraphCall]) -> list[Array]:
        names = [self._graph.tensor(call.site.x).name for call in calls]
        return [hook.array(x) for x in self._fetch(self._graph.fed(self.taken, data), names)]

    def forward(self, data: Mapping[str, Array], receive: Receive, until: frozenset[str] | None = None) -> None:
        """Run a batch. Raises RuntimeFailure."""
        asked = [call for call in self._calls if until is None or call.layer.name in until]
        for call, x in zip(asked, self._arriving(data, asked), strict=True):
            receive(Arrival(call.layer.name, x, call.axes(x.ndim)))

    def held(self, data: Mapping[str, Array]) -> int:
        """Return the bytes of all that arrives at batch norms."""
        return sum(x.nbytes for x in self._arriving(data, self._calls))

    def assign(self, layer: str, values: Mapping[str, Array]) -> None:
        """Feed other statistics. Raises RuntimeFailure if what the graph takes is not what the file holds."""
        for call in self._calls:
            if call.layer.name != layer:
                continue
            for parameter, numbers in values.items():
                tensor = self._graph.tensor(call.parameters[parameter])
                own = self._graph.fetch({}, self._off, [tensor.name])[0]
                if not np.array_equal(np.ravel(own), np.ravel(getattr(call.layer, parameter))):
                    raise RuntimeFailure(f"{parameter} of {printable(layer)} is computed on its way into the graph")
                self._given[tensor.name] = np.reshape(numbers, np.shape(own)).astype(own.dtype)

    def dissect(self, data: Mapping[str, Array]) -> Dissection:
        """Take the graph apart. Raises RuntimeFailure if it holds a loop."""
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
        statistics = {
            self._graph.tensor(tensor).name: call.layer.name
            for call in self._calls
            for name, tensor in call.parameters.items()
            if name in _STATISTICS
        }
        wanted: list[Any] = [self._graph.tensor(call.site.x) for call in self._calls]
        inputs = [graph.get_tensor_by_name(name) for name in self._graph.fed(self.taken, data)]
        steps = tuple(graph_steps.steps(inputs, statistics, wanted))
        arriving = tuple(
            Arriving(call.layer.name, x.name, call.axes) for call, x in zip(self._calls, wanted, strict=True)
        )
        return Dissection(steps, arriving, lambda values: self._graph.fed(self.taken, values), self._part)

    def _part(self, given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        return dict(zip(names, self._fetch(given, names), strict=True))
