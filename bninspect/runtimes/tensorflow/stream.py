"""A TensorFlow graph through which data streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from bninspect.formats.tensorflow import model as models
from bninspect.records import Array, Arrival, Checkpoint
from bninspect.runtimes import loading
from bninspect.runtimes.keras import hook
from bninspect.runtimes.keras.run import surroundings
from bninspect.runtimes.runtime import Receive, RunSettings, Stream
from bninspect.runtimes.tensorflow import run
from bninspect.runtimes.tensorflow import source as graph_source
from bninspect.runtimes.tensorflow.calls import GraphCall


@contextmanager
def stream(checkpoint: Checkpoint, settings: RunSettings) -> Iterator[Stream]:
    """Have TensorFlow load the file itself. Raises as `run.observe`."""
    tf = loading.framework("tensorflow")
    with graph_source.opened(checkpoint, settings) as source:
        searched = models.chosen(source.model, settings.signature)
        calls, unobserved = run.calls_of(source.model.layers, checkpoint.layers, searched)
        with run.opened_session() as session:
            with loading.failing_as(f"TensorFlow {tf.__version__} cannot load the file"):
                source.load(session)
            running = run.Running(session, source.model, searched, calls)
            yield _stream(f"TensorFlow {tf.__version__}", running, settings, calls, unobserved)


def _stream(
    title: str, running: run.Running, settings: RunSettings, calls: Sequence[GraphCall], unobserved: Mapping[str, str]
) -> Stream:
    fed = running.feeds(settings)

    def fetch(data: Mapping[str, Array], asked: Sequence[GraphCall]) -> list[Array]:
        return [hook.array(x) for x in running.fetch(fed, data, [call.site.x for call in asked])]

    def forward(data: Mapping[str, Array], receive: Receive, until: frozenset[str] | None = None) -> None:
        asked = [call for call in calls if until is None or call.layer.name in until]
        for call, x in zip(asked, fetch(data, asked), strict=True):
            receive(Arrival(call.layer.name, x, call.axes(x.ndim)))

    def held(data: Mapping[str, Array]) -> int:
        return sum(x.nbytes for x in fetch(data, calls))

    taken = tuple(feed.taken for feed in fed[0])
    return Stream(title, taken, forward, dict(unobserved), (), surroundings(), held=held)
