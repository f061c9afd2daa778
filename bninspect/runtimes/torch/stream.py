"""A torch program through which data streams: an exported program node by node, TorchScript by fetching."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.formats.torch import script
from bninspect.records import Array, Arrival, Checkpoint, Estimator
from bninspect.runtimes import fetched_stream, loading
from bninspect.runtimes.runtime import Receive, RunSettings, Stream
from bninspect.runtimes.session import CallSite
from bninspect.runtimes.torch import dissection, run
from bninspect.runtimes.torch import script as torch_script


@contextmanager
def stream(checkpoint: Checkpoint, settings: RunSettings) -> Iterator[Stream]:
    """Have torch load the file itself. Raises as `run.observe`."""
    loading.same_bytes(checkpoint)
    if checkpoint.format == script.NAME:
        yield _of_script(checkpoint, settings)
        return
    program = run.loaded(checkpoint)
    session = run.session_of(program, checkpoint)
    calls, unobserved = run.calls_of(checkpoint)
    yield Stream(
        session.title,
        session.inputs,
        _forward(program, calls),
        dict(unobserved),
        (),
        session.environment,
        assign=_assign(program, calls),
        dissect=partial(dissection.dissect, program, calls),
        estimators={call.layer.name: Estimator.UNBIASED for call in calls},
    )


def _assign(program: Any, calls: Sequence[CallSite]) -> Callable[[str, Mapping[str, Array]], None]:
    """Return a function that gives a layer of a program other statistics."""
    import torch

    targets = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
    stored = {call.layer.name: {name: targets.get(value) for name, value in call.loaded.items()} for call in calls}

    def assign(name: str, values: Mapping[str, Array]) -> None:
        for parameter, numbers in values.items():
            target = stored[name].get(parameter)
            if target is None:
                raise RuntimeFailure(f"{parameter} of {name} is not a buffer of the program")
            with torch.no_grad():
                program.state_dict[target].copy_(torch.from_numpy(np.array(numbers)))

    return assign


def _of_script(checkpoint: Checkpoint, settings: RunSettings) -> Stream:
    loaded = torch_script.load(run.title(), run.alone, checkpoint, settings)
    sites = fetched_stream.wanted(loaded.calls, checkpoint)
    return fetched_stream.of_sites(loaded.session, sites, loaded.unobserved, loaded.session.compute)


class _AllReached(Exception):
    """All layers that were asked for have been reached."""


def _forward(program: Any, calls: Sequence[CallSite]) -> Any:
    """Return a function that runs the program, and hands on what arrives at its batch norms as it is computed."""

    def forward(data: Mapping[str, Array], receive: Receive, until: frozenset[str] | None = None) -> None:
        sites: dict[str, list[CallSite]] = {}
        for call in calls:
            if until is None or call.layer.name in until:
                sites.setdefault(call.x, []).append(call)
        missing = set(sites)

        def see(name: str, x: Array) -> None:
            for call in sites[name]:
                receive(Arrival(call.layer.name, x, fetched_stream.axes(call, x.ndim)))
            missing.discard(name)
            if until is not None and not missing:
                raise _AllReached

        try:
            run.interpret(program, data, sites, see)
        except _AllReached:
            return

    return forward
