"""A graph of TensorFlow as an export: a signature of a SavedModel, or a frozen graph, whose values have names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bninspect.arithmetic.norm_kernel import with_norms
from bninspect.formats.tensorflow import kernels
from bninspect.records import Array, Checkpoint, Form
from bninspect.records.graph import Value
from bninspect.runtimes import loading
from bninspect.runtimes.keras.run import surroundings
from bninspect.runtimes.runtime import RunSettings, Session
from bninspect.runtimes.tensorflow.again import GraphAgain


def opened(checkpoint: Checkpoint, settings: RunSettings) -> Session:
    """Load a graph, ready to be run again and again.

    Raises:
        UnreadableFile: the file is no longer what was read.
        UsageError: there is no such signature or tag.
        RuntimeFailure: TensorFlow cannot load it, or nobody says what it takes.
    """
    graph = GraphAgain(checkpoint, settings)
    inputs = tuple(feed.taken for feed in graph.taken)

    def replay(data: Mapping[str, Array], given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        return graph.values([data[source.name] for source in inputs], given, names)

    read = kernels.read_network(Path(checkpoint.path), settings.signature, settings.tag)
    fed = tuple(Value(feed.tensor, feed.taken.shape, feed.taken.dtype) for feed in graph.taken)
    return Session(
        title=f"TensorFlow {loading.framework('tensorflow').__version__}",
        inputs=inputs,
        outputs=graph.outputs,
        compute=lambda data, names: replay(data, {}, names),
        optimised=lambda data: replay(data, {}, graph.outputs),
        form=Form.UNKNOWN,
        environment=surroundings(),
        replay=replay,
        network=replace(with_norms(read, checkpoint.layers), inputs=fed),
    )
