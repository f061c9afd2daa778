"""An export in its own runtime, and the input that both it and the model get."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bninspect import formats, runtimes
from bninspect.equivalence import tensors
from bninspect.equivalence.source import SourceRun, layouts
from bninspect.errors import BninspectError, MissingPackage, RuntimeFailure, UnreadableFile, UsageError
from bninspect.records import Array, Checkpoint
from bninspect.records.graph import Network, Quantisation
from bninspect.runtimes import inputs
from bninspect.runtimes import session as graph_run
from bninspect.runtimes.runtime import Session
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.verdicts import verify_task

_LARGE = 1 << 17
"""Elements of a sample from which on one is enough: of a large image every operation has thousands of places."""


@dataclass(frozen=True, eq=False)
class Ran:
    """An export that is ready to be run, on input that it accepts."""

    session: Session | None
    network: Network
    data: Mapping[str, Array]
    """By the names of its inputs; empty where it does not say what it takes, so that the model has to."""
    notes: tuple[str, ...] = ()
    reason: str = ""
    """Why it cannot be run."""
    given: bool = False
    """Whether the input is the user's own."""


def require_graph(export: Checkpoint) -> None:
    """Raise UsageError if a file holds no operations that a runtime could show the results of, or we know none."""
    known = any(runtime.open and export.format in runtime.formats for runtime in runtimes.fitting(export))
    if not known and export.format not in formats.WEIGHTS_ALONE:
        raise UsageError(
            f"{printable(export.path)} cannot be held against a model",
            why=f"a file of the format {export.format} holds parameters, and no operations that could be run",
            hint="compare its parameters: bninspect diff MODEL FILE; or export the network as ONNX or torch.export",
        )


@contextlib.contextmanager
def said_of(path: str) -> Iterator[None]:
    """Say of an error which of the two files it is about."""
    try:
        yield
    except (UsageError, RuntimeFailure, MissingPackage) as error:
        name = printable(path)
        what = error.what if error.what.startswith(name) else f"{name}: {error.what}"
        raise type(error)(what, why=error.why, hint=error.hint) from error


def unrun(export: Checkpoint, settings: Settings) -> Ran:
    """Return an export whose numbers alone are asked for: what it computes is read without running it, if that can be.

    Raises:
        UsageError, MissingPackage, RuntimeFailure, UnreadableFile: as `exported`.
    """
    if export.format in formats.WEIGHTS_ALONE:
        return Ran(None, Network((), (), ()), {}, reason="it holds weights alone")
    with contextlib.suppress(UnreadableFile):
        return Ran(None, formats.read_network(Path(export.path)), {}, reason="only numbers were compared")
    return exported(export, settings)


def exported(export: Checkpoint, settings: Settings) -> Ran:
    """Open the export in its runtime, if there is one, and choose the input for both."""
    require_graph(export)
    with said_of(export.path):
        return _exported(export, settings)


def _exported(export: Checkpoint, settings: Settings) -> Ran:
    mine = replace(verify_task.run_settings(settings), runtime=None)
    try:
        if export.code and not settings.trust:
            raise RuntimeFailure(
                "it is not run",
                why=f"{printable(export.code[0])} is code",
                hint="add --trust if you trust this file: its code will be run",
            )
        session = _opened(export, mine)
        network = session.network or formats.read_network(Path(export.path))
        ours = mine.input is None and not mine.input_shapes
        if not session.inputs and ours:
            return Ran(session, network, {})
        try:
            data, notes = _fed(session, network, mine)
        except RuntimeFailure:
            if not (ours and _takes_any_size(session)):
                raise
            return Ran(session, network, {})
    except (MissingPackage, RuntimeFailure) as error:
        # Its numbers can be held against the model all the same, if they can be read without it.
        with contextlib.suppress(UnreadableFile):
            return _unrun(export, mine, error)
        raise
    return Ran(session, network, data, notes, given=mine.input is not None)


def _opened(export: Checkpoint, settings: runtimes.RunSettings) -> Session:
    """Return the export, loaded by the first runtime that can."""
    failed: list[RuntimeFailure] = []
    for runtime in runtimes.choose(export):
        if runtime.open is None or export.format not in runtime.formats:
            continue
        try:
            return runtime.open(export, settings)
        except RuntimeFailure as failure:
            failed.append(failure)
    if not failed:
        first = runtimes.fitting(export)[0]
        raise MissingPackage(f"{first.title} is not installed", hint=first.install)
    raise failed[0]


def together(ran: Ran, observe: Callable[[Mapping[str, Array] | None], SourceRun]) -> tuple[Ran, SourceRun]:
    """Run the source on the input of the export, and return both.

    On one sample of it if the source takes no more; on what the source takes if the export leaves that open.

    Raises:
        UsageError: the source takes no such input.
        RuntimeFailure: the export takes nothing that the source takes.
    """
    if not ran.data:
        found = observe(None)
        return _taking(ran, found) if ran.session is not None else ran, found
    try:
        return ran, observe(stood_for(ran))
    except UsageError as error:
        if ran.session is not None and not ran.given and _takes_any_size(ran.session):
            found = observe(None)
            return _taking(ran, found), found
        single = {name: values[:1] for name, values in ran.data.items()}
        if ran.given or all(values.shape[:1] in {(), (1,)} for values in ran.data.values()):
            raise UsageError(error.what, why=error.why or _ONE_INPUT, hint=error.hint) from error
        ran = replace(ran, data=single)
        return ran, observe(stood_for(ran))


def _takes_any_size(session: Session) -> bool:
    """Return whether an export has one input, of which it does not say how long all axes are."""
    return [one.is_open for one in session.inputs] == [True]


_ONE_INPUT = "model and export get the same input, in the layout that the export takes"


def again(ran: Ran, found: SourceRun) -> tuple[Ran, SourceRun] | None:
    """Return an export and a source that has been run, on the input of the export; None if that needs another run."""
    if found.replay is None or found.network is None:
        return None
    if not ran.data:
        return _taking(ran, found) if ran.session is not None else ran, found
    for arrays in layouts(tuple(stood_for(ran).values())):
        if [one.shape[1:] for one in arrays] != [one.shape[1:] for one in found.data]:
            continue
        data = tuple(one.astype(own.dtype) for one, own in zip(arrays, found.data, strict=True))
        try:
            returned = found.replay(data, {}, [one.name for one in found.network.outputs])
        except BninspectError:
            return None  # it takes another number of samples, for instance
        same = all(one.shape == own.shape for one, own in zip(data, found.data, strict=True))
        outputs = tuple(returned[one.name] for one in found.network.outputs if one.name in returned)
        return ran, replace(found, data=data, outputs=outputs, outlines=found.outlines if same else {})
    return None


def _taking(ran: Ran, found: SourceRun) -> Ran:
    """Return an export that takes input of any size with what the model took, in the layout that it accepts.

    Of several that it accepts, as convolutions of any size do, the one whose outputs are the nearest to the model's.

    Raises:
        RuntimeFailure: it accepts none.
    """
    assert ran.session is not None  # noqa: S101 - one that was not loaded says what it takes
    failed: list[RuntimeFailure] = []
    accepted: list[tuple[float, Mapping[str, Array]]] = []
    for first, *_ in layouts(found.data):
        data = {one.name: graph_run.as_taken(first, one) for one in ran.session.inputs} or {"": first}
        try:
            returned = ran.session.compute(data, ran.session.outputs)
        except RuntimeFailure as failure:
            failed.append(failure)
            continue
        accepted.append((_apart(list(returned.values()), found.outputs), data))
    if not accepted:
        raise failed[0]
    return replace(ran, data=min(accepted, key=lambda one: one[0])[1])


def _apart(returned: Sequence[Array], outputs: Sequence[Array]) -> float:
    """Return the largest difference of outputs in their order; infinite where their sizes differ."""
    off = 0.0
    for one, other in zip(returned, outputs, strict=False):
        if one.shape != other.shape:
            return float("inf")
        with np.errstate(all="ignore"):
            off = max(off, float(np.abs(one.astype(np.float64) - other).max(initial=0.0)))
    return off


def _fed(
    session: Session, network: Network, settings: runtimes.RunSettings
) -> tuple[Mapping[str, Array], tuple[str, ...]]:
    """Return input that the export accepts, two samples if it takes any number, and notes."""
    if settings.input is None and any(one.name in network.quantised for one in session.inputs):
        data, notes = _fed_reals(session, settings)
        return {
            name: _whole_range(one, network.quantised.get(name), settings.seed) for name, one in data.items()
        }, notes
    return _fed_reals(session, settings)


def _fed_reals(session: Session, settings: runtimes.RunSettings) -> tuple[Mapping[str, Array], tuple[str, ...]]:
    many = bool(session.inputs) and all(one.shape[:1] == (None,) for one in session.inputs)
    many &= all(np.prod([length or 1 for length in one.shape], dtype=object) <= _LARGE for one in session.inputs)
    if many and settings.input is None and not settings.input_shapes:
        with contextlib.suppress(RuntimeFailure):  # some graphs say that they take any number, and take one
            return graph_run.ready(session, replace(settings, batch=2))
    return graph_run.ready(session, settings)


def _whole_range(values: Array, quantisation: Quantisation | None, seed: int) -> Array:
    """Return integers from the whole range of a quantised input's type, others as they are."""
    if quantisation is None or values.dtype.kind not in "iu":
        return values
    kind = np.iinfo(values.dtype)
    generator = np.random.default_rng(seed)
    return np.asarray(generator.integers(kind.min, kind.max, values.shape, np.int64, endpoint=True), values.dtype)


def stood_for(ran: Ran) -> Mapping[str, Array]:
    """Return the input as what the integers of a quantised one stand for, in float32."""
    given = {name: tensors.real(one, ran.network.quantised.get(name)) for name, one in ran.data.items()}
    return {
        name: one.astype(np.float32) if one.dtype == np.float64 != ran.data[name].dtype else one
        for name, one in given.items()
    }


def _unrun(export: Checkpoint, settings: runtimes.RunSettings, error: BninspectError) -> Ran:
    """Return an export that nothing here can run, with input of the kind that it says it takes, if it does."""
    network = formats.read_network(Path(export.path))
    stated = all(one.shape for one in network.inputs)  # a net of ncnn need not
    taken = tuple(graph_run.described(one.name, one.shape, one.dtype) for one in network.inputs)
    data, _ = inputs.prepared(taken, settings, 0) if stated else ({}, ())
    return Ran(None, network, data, reason=f"{error}; {error.hint}" if error.hint else str(error))
