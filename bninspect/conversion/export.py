"""An export in its own runtime, and the input that both it and the model get."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bninspect import formats, runtimes
from bninspect.conversion import outputs
from bninspect.errors import BninspectError, MissingPackage, RuntimeFailure, UnreadableFile, UsageError
from bninspect.records import Array, Checkpoint
from bninspect.records.graph import Network
from bninspect.runtimes import inputs
from bninspect.runtimes import session as graph_run
from bninspect.runtimes.runtime import Session
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.verdicts import verify_task


@dataclass(frozen=True, eq=False)
class Ran:
    """An export that is ready to be run, on input that it accepts."""

    session: Session | None
    network: Network
    data: Mapping[str, Array]
    notes: tuple[str, ...] = ()
    reason: str = ""
    """Why it cannot be run."""
    loud: bool = False
    """Whether the input is two samples, the second one loud."""


def exported(export: Checkpoint, settings: Settings) -> Ran:
    """Open the export in its runtime, if there is one, and choose the input for both."""
    mine = replace(verify_task.run_settings(settings), runtime=None)
    try:
        runtime = runtimes.choose(export)[0]
        if runtime.open is None or export.format not in runtime.formats:
            raise UsageError(
                f"{export.path} cannot be held against a model",
                why=f"nothing runs {export.format} and shows what its operations return",
                hint="ONNX, TFLite, TorchScript and torch.export files can; bninspect diff compares stored parameters",
            )
        if export.code and not settings.trust:
            raise RuntimeFailure("it is not run", why=f"{printable(export.code[0])} is code (run it with --trust)")
        session = runtime.open(export, mine)
        data, notes, loud = _fed(session, mine)
    except (MissingPackage, RuntimeFailure) as error:
        # Its numbers can be held against the model all the same, if they can be read without it.
        with contextlib.suppress(UnreadableFile):
            return _unrun(export, mine, error)
        raise
    return Ran(session, session.network or formats.read_network(Path(export.path)), data, notes, loud=loud)


def _fed(session: Session, settings: runtimes.RunSettings) -> tuple[Mapping[str, Array], tuple[str, ...], bool]:
    """Return input that the export accepts, notes, and whether it is two samples, the second one loud.

    For numbers around 1 relu6 is relu: an export that has one for the other would be right.
    """
    many = bool(session.inputs) and all(one.shape[:1] == (None,) for one in session.inputs)
    if many and settings.input is None and not settings.input_shapes:
        with contextlib.suppress(RuntimeFailure):  # some graphs say that they take any number, and take one
            data, notes = graph_run.ready(session, replace(settings, batch=2))
            return {name: _with_loud_sample(values) for name, values in data.items()}, notes, True
    return *graph_run.ready(session, settings), False


def _with_loud_sample(values: Array) -> Array:
    if values.dtype.kind != "f":
        return values
    louder = values.copy()
    louder[1:] *= outputs.LOUD
    return louder


def _unrun(export: Checkpoint, settings: runtimes.RunSettings, error: BninspectError) -> Ran:
    """Return an export that nothing here can run, with input of the kind that it says it takes."""
    network = formats.read_network(Path(export.path))
    taken = tuple(graph_run.described(one.name, one.shape, one.dtype) for one in network.inputs)
    data, _ = inputs.prepared(taken, settings, 0)
    return Ran(None, network, data, reason=f"{error}; {error.hint}" if error.hint else str(error))


def values(
    ran: Ran, network: Network, names: Sequence[str]
) -> tuple[Mapping[str, Array] | None, Mapping[str, Array], tuple[str, ...]]:
    """Return the named values of the export, its outputs with the runtime's own optimisation, and notes."""
    if ran.session is None:
        return None, {}, (f"it was not run: {ran.reason}",)
    ends = [one.name for one in network.outputs]
    values = ran.session.compute(ran.data, list(dict.fromkeys((*names, *ends))))
    return values, ran.session.optimised(ran.data), ()
