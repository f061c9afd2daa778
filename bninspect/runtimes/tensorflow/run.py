"""TensorFlow itself as a runtime: SavedModels, frozen graphs, and checkpoints with their graph beside them.

TensorFlow's own loader loads the file into a session. Its batch norms are where our reader found them in the flat graph
(formats/tensorflow), so what is compared is what `inspect` lists. One run fetches x, y and the parameters, as the
kernel gets them, of as many batch norms as memory allows. Grappler is off: it would merge batch norms into their
neighbours or compute them in another order than the file says.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.formats.tensorflow import model as models
from bninspect.formats.tensorflow.graph.flatten import Tensor
from bninspect.formats.tensorflow.norms.layers import Located, Searched
from bninspect.formats.tensorflow.op_lists import DRAWING
from bninspect.records import Array, BatchNorm, Checkpoint, Evidence, Run, Statistics
from bninspect.runtimes import inputs, loading, probe
from bninspect.runtimes.keras import keras3
from bninspect.runtimes.keras.run import surroundings
from bninspect.runtimes.runtime import Begin, RunSettings, Sink
from bninspect.runtimes.tensorflow import inputs as graph_inputs
from bninspect.runtimes.tensorflow import source as graph_source
from bninspect.runtimes.tensorflow.calls import GraphCall
from bninspect.runtimes.tensorflow.copy import Copy
from bninspect.runtimes.tensorflow.inputs import Feed
from bninspect.safe_text import printable

GROUP_BYTES = 256_000_000
"""Of the arrays that one run fetches; a batch norm that is larger is fetched alone."""
_SHARE = 1 / 16
"""Of a limit on memory, the part that they may take: the graph, its variables and TensorFlow need the rest."""
_SAME = {"float16": 1e-2, "bfloat16": 1e-1}
"""How much of the largest output the model and its copy may differ by, 1e-3 for wider types: rounding, nothing else."""

_Item = TypeVar("_Item", bound=Hashable)


def observe(checkpoint: Checkpoint, settings: RunSettings, begin: Begin) -> Run:
    """Have TensorFlow load the file itself and run it; observe every batch norm in the model and alone.

    Raises:
        UnreadableFile: the file is no longer what was read.
        UsageError: the settings do not fit the model: no such signature or tag, or an input of another kind.
        RuntimeFailure: TensorFlow cannot load or run the model.
    """
    tf = loading.framework("tensorflow")
    with graph_source.opened(checkpoint, settings) as source:
        searched = models.chosen(source.model, settings.signature)
        calls, unobserved = calls_of(source.model.layers, checkpoint.layers, searched)
        title = f"TensorFlow {tf.__version__}"
        if not calls:
            return Run(title, Evidence.MODEL, unobserved=unobserved, environment=surroundings())
        with opened_session() as session:
            with loading.failing_as(f"{title} cannot load the file"):
                source.load(session)
            run = Running(session, source.model, searched, calls)
            notes = run.observe(settings, begin)
            differs = run.difference()
        evidence = Evidence.LAYER if differs else Evidence.MODEL
        return Run(title, evidence, differs, unobserved=unobserved, notes=notes, environment=surroundings())


def calls_of(
    located: Iterable[Located], asked: Sequence[BatchNorm], searched: Searched
) -> tuple[tuple[GraphCall, ...], Mapping[str, str]]:
    """Return the calls to observe of the layers that are asked for, and why some layers have none."""
    names = {layer.name for layer in asked}
    calls: list[GraphCall] = []
    unobserved: dict[str, str] = {}
    for one in located:
        if one.layer.name not in names:
            continue
        sites = one.sites.get(searched.signature, ())
        trains = any(site.statistics is not Statistics.MOVING for site in sites)
        hidden = next((site.hidden for site in sites if site.hidden), "")
        if not sites:
            unobserved[one.layer.name] = _unreached(searched.signature)
        elif trains:
            unobserved[one.layer.name] = "it is called in training mode: it normalises by the statistics of the batch"
        elif hidden:
            unobserved[one.layer.name] = f"it is {hidden}"
        else:
            calls += [GraphCall(one.layer, site) for site in sites]
    return tuple(calls), unobserved


def _unreached(signature: str) -> str:
    return f"signature {printable(signature)!r} does not use it" if signature else "no batch norm of the graph uses it"


@contextmanager
def opened_session() -> Iterator[Any]:
    """Open a session in a graph of its own, without optimisation."""
    import tensorflow as tf

    options = graph_source.unoptimised()
    with (
        graph_source.silent(),
        loading.quiet(),
        tf.Graph().as_default(),
        tf.compat.v1.Session(config=options) as session,
    ):
        yield session


class Running:
    """A loaded graph, ready to be fetched from."""

    def __init__(
        self, session: Any, model: models.GraphModel, searched: Searched, calls: tuple[GraphCall, ...]
    ) -> None:
        self._session = session
        self._calls = calls
        self._signature = model.signatures.get(searched.signature)
        self._flat = searched.graph
        self._added = model.graph.added
        self._outputs = searched.graph.outputs if self._signature is not None else ()
        wanted = [tensor for call in calls for tensor in (call.site.x, call.site.y, *call.parameters.values())]
        with loading.failing_as("TensorFlow cannot take the model's graph apart"):
            self._copy = Copy(searched.graph, [*wanted, *self._outputs])
        self._feed: dict[Any, Array] = {}

    def observe(self, settings: RunSettings, begin: Begin) -> tuple[str, ...]:
        """Run the model on the first size of input that it accepts, then every layer alone; return notes."""
        taken, off = self.feeds(settings)
        sizes, notes = self._sized(taken, off, settings)
        sink = begin()
        ranks: dict[str, int] = {}
        for numbers in _together(range(len(self._calls)), sizes, settings.memory):
            group = [self._calls[number] for number in numbers]
            with loading.failing_as("TensorFlow cannot run the model"):
                fetched = self._session.run([self._fetches(call) for call in group], self._feed)
            for call, values in zip(group, fetched, strict=True):
                seen = call.observation("in-model", values)
                ranks.setdefault(call.layer.name, seen.x.ndim)
                sink(seen)
            del fetched, values
        return (*notes, *self._probe(ranks, settings.memory, sink))

    def feeds(self, settings: RunSettings) -> tuple[tuple[Feed, ...], tuple[str, ...]]:
        """Return the inputs to feed, and the placeholders that are to be false. Raises RuntimeFailure."""
        wanted = [tensor for call in self._calls for tensor, _ in (call.site.x, call.site.y, *call.parameters.values())]
        return graph_inputs.feeds(self._flat, self._signature, wanted, settings)

    def fed(self, taken: Sequence[Feed], data: Mapping[str, Array]) -> dict[str, Array]:
        """Return data by the names of the tensors that it is fed to."""
        names = {feed: self._fed(feed) for feed in taken}
        return {getattr(names[feed], "name", names[feed]): data[feed.taken.name].astype(_numpy(feed)) for feed in taken}

    def fetch(self, fed: Mapping[str, Array], off: Iterable[str], names: Sequence[str]) -> list[Any]:
        """Run the model, or a part of it, and return tensors of the loaded graph by name. Raises RuntimeFailure.

        Args:
            fed: by the name of a tensor, what is fed to it.
            off: placeholders that are to be false.
            names: of the tensors.
        """
        fixed = {f"{name}:0": np.zeros((), np.bool_) for name in off if _is_in(self._session.graph, name)}
        with loading.failing_as("TensorFlow cannot run the model"):
            found: list[Any] = self._session.run(list(names), {**fed, **fixed})
        return found

    def tensor(self, one: Tensor) -> Any:
        """Return the tensor of the loaded graph that computes one of the flat graph."""
        return self._copy.tensor(one)

    def difference(self) -> str:
        """Return how the outputs of the model differ from those of its copy; empty if they are the same."""
        draws = any(node.op in DRAWING for node in self._flat.nodes.values())
        if self._copy.is_empty or self._signature is None or self._added or draws:
            # There is nothing to compare: no copy, no model that could be run as a whole, or no two runs are alike.
            return ""
        graph = self._session.graph
        with loading.failing_as("TensorFlow cannot run the model"):
            own = [graph.get_tensor_by_name(info.tensor) for info in self._signature.outputs.values()]
            ours, theirs = self._session.run([[self._copy.tensor(output) for output in self._outputs], own], self._feed)
        for name, mine, other in zip(self._signature.outputs, ours, theirs, strict=True):
            if not _agree(np.asarray(mine), np.asarray(other)):
                return f"its output {printable(name)!r} is not what its graph, taken apart, computes"
        return ""

    def _sized(
        self, taken: Sequence[Feed], off: Iterable[str], settings: RunSettings
    ) -> tuple[Mapping[int, int], tuple[str, ...]]:
        """Run the model on the first size of input that it accepts; return the bytes of x for each call, and notes."""
        import tensorflow as tf

        described = [feed.taken for feed in taken]
        sizes = [tf.size(self._copy.tensor(call.site.x), tf.int64) for call in self._calls]
        fixed = {f"{name}:0": np.zeros((), np.bool_) for name in off if _is_in(self._session.graph, name)}
        ours = settings.input is None and any(source.is_open for source in described)
        failures = []
        for attempt in range(inputs.ATTEMPTS if ours else 1):
            data, notes = inputs.prepared(described, settings, attempt)
            values = {self._fed(feed): data[feed.taken.name].astype(_numpy(feed)) for feed in taken}
            self._feed = {**values, **fixed}
            try:
                counts = self._session.run(sizes, self._feed)
            except Exception as error:  # noqa: BLE001 - whatever a kernel raises: another size may fit
                failures.append(error)
                continue
            widths = [self._copy.tensor(call.site.x).dtype.size for call in self._calls]
            return {i: int(n) * width for i, (n, width) in enumerate(zip(counts, widths, strict=True))}, notes
        why = loading.reason(failures[0]) + inputs.other_shape(described, settings)
        raise RuntimeFailure("TensorFlow cannot run the model", why=why) from failures[0]

    def _fed(self, feed: Feed) -> Any:
        name, _, position = feed.tensor.partition(":")
        return self._copy.tensor((name, int(position or 0))) if name in self._flat.nodes else feed.tensor

    def _fetches(self, call: GraphCall) -> dict[str, Any]:
        tensors = {"x": call.site.x, "y": call.site.y, **call.parameters}
        return {name: self._copy.tensor(one) for name, one in tensors.items()}

    def _probe(self, ranks: Mapping[str, int], memory: int | None, sink: Sink) -> tuple[str, ...]:
        """Run every layer's own operations on the input that tries each of its channels; return notes."""
        first = {call.layer.name: call for call in reversed(self._calls)}
        pairs = self._copy.alone({name: call.site for name, call in first.items()})
        sizes = {name: probe.most_values(first[name].layer.channels) * x.dtype.size for name, (x, _) in pairs.items()}
        fetches = {
            name: {"y": y, **{key: self._copy.tensor(tensor) for key, tensor in first[name].parameters.items()}}
            for name, (_, y) in pairs.items()
        }
        notes = []
        for names in _together(list(pairs), sizes, memory):
            pieces = {name: first[name].points(ranks[name], pairs[name][0].dtype.as_numpy_dtype) for name in names}
            while points := {name: piece for name in pieces if (piece := next(pieces[name], None)) is not None}:
                try:
                    feed = {pairs[name][0]: piece for name, piece in points.items()}
                    fetched = self._session.run({name: fetches[name] for name in points}, feed)
                except Exception as error:  # noqa: BLE001 - whatever a kernel raises: the model itself did run
                    notes.append(f"{len(names)} layers do not run alone: {loading.reason(error)}")
                    break
                for name, values in fetched.items():
                    sink(first[name].observation("probed", {"x": points[name], **values}))
        return tuple(notes)


def _together(items: Sequence[_Item], sizes: Mapping[_Item, int], memory: int | None) -> Iterator[list[_Item]]:
    """Yield items in groups that are fetched together, by the bytes of x; y is as large."""
    most = GROUP_BYTES if memory is None else min(GROUP_BYTES, memory * _SHARE)
    group: list[_Item] = []
    held = 0
    for item in items:
        if group and held + 2 * sizes[item] > most:
            yield group
            group, held = [], 0
        group.append(item)
        held += 2 * sizes[item]
    if group:
        yield group


def _agree(mine: Array, other: Array) -> bool:
    if mine.dtype != other.dtype or mine.shape != other.shape:
        return False
    name = mine.dtype.name
    if mine.dtype.kind not in "fc" and name != "bfloat16":
        return True  # Classes and texts follow from numbers that may be tied.
    wide = np.complex128 if mine.dtype.kind == "c" else np.float64
    one, two = mine.astype(wide), other.astype(wide)
    finite = np.isfinite(two)
    allowed = _SAME.get(name, 1e-3) * np.abs(two[finite]).max(initial=0.0)
    return bool((np.isfinite(one) == finite).all() and (np.abs(one[finite] - two[finite]) <= allowed).all())


def _numpy(feed: Feed) -> Any:
    import tensorflow as tf

    return object if feed.taken.dtype == "string" else tf.as_dtype(feed.taken.dtype).as_numpy_dtype


def _is_in(graph: Any, name: str) -> bool:
    try:
        graph.get_operation_by_name(name)
    except KeyError:
        return False
    return True


observe_layers = keras3.observe_layers
"""TensorFlow has no layers of its own."""
