"""ONNX Runtime: a model through which data streams, whose statistics may change, as a whole or in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.exporters.copies import onnx_places
from bninspect.formats.onnx import format as container
from bninspect.formats.onnx import inlining
from bninspect.records import Array, Checkpoint
from bninspect.runtimes import fetched_stream, loading
from bninspect.runtimes.dissection import Arriving, Dissection
from bninspect.runtimes.onnxruntime import parts
from bninspect.runtimes.onnxruntime.run import UNROUNDED, Fetcher, calls_of, fetcher_of, opened, run_session, session_of
from bninspect.runtimes.runtime import RunSettings, Session, Stream
from bninspect.runtimes.session import CallSite


@contextmanager
def stream(checkpoint: Checkpoint, settings: RunSettings) -> Iterator[Stream]:
    """Load a file to run data through it. Raises as `observe`."""
    session = opened(checkpoint, settings)
    calls, unobserved = calls_of(Path(checkpoint.path))
    sites = fetched_stream.wanted(calls, checkpoint)
    changing = _Changing(checkpoint, session, sites)
    found = fetched_stream.of_sites(session, sites, unobserved, changing.fetch)
    yield replace(found, assign=changing.assign, dissect=changing.dissect)


class _Changing:
    """A model whose statistics may change: a session is built anew when values are fetched after a change."""

    def __init__(self, checkpoint: Checkpoint, session: Session, sites: Sequence[CallSite]) -> None:
        self._path = Path(checkpoint.path)
        self._content = bytearray(loading.content(checkpoint, container.digest))
        self._outputs, self._inputs = session.outputs, session.inputs
        self._calls = sites
        self._sites = {site.layer.name: site for site in sites}
        self._fetchers: dict[tuple[str, ...], Fetcher] = {}
        self._loaded: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}

    def _stored(self) -> bytes:
        return bytes(inlining.inline(bytes(self._content)).data)

    def fetch(self, data: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        """Run the model. Raises RuntimeFailure."""
        key = tuple(names)
        if key not in self._fetchers:
            self._fetchers = {key: fetcher_of(self._stored(), self._path, self._outputs, names)}
        return self._fetchers[key](data)

    def assign(self, layer: str, values: Mapping[str, Array]) -> None:
        """Put other statistics into the model. Raises RuntimeFailure if they are not numbers of the file itself."""
        site = self._sites[layer]
        names = {name: site.loaded.get(name, "") for name in values}
        for name, place in onnx_places.places(bytes(self._content), {layer: names})[layer].items():
            place.write(self._content, values[name])
        self._fetchers.clear()
        self._loaded.clear()

    def dissect(self, _data: Mapping[str, Array]) -> Dissection:
        """Take the model apart: for data of any shape."""
        statistics = {
            site.loaded[name]: site.layer.name
            for site in self._calls
            for name in ("moving_mean", "moving_variance")
            if name in site.loaded
        }
        steps = tuple(parts.steps(self._stored(), [described.name for described in self._inputs], statistics))
        arriving = tuple(
            Arriving(site.layer.name, site.x.removeprefix(UNROUNDED), partial(fetched_stream.axes, site))
            for site in self._calls
        )
        return Dissection(steps, arriving, partial(fetched_stream.fed, self._inputs), self._part)

    def _part(self, given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        key = (tuple(given), tuple(names))
        if key not in self._loaded:
            model = parts.part(self._stored(), {name: one.dtype.name for name, one in given.items()}, names)
            self._loaded[key] = session_of(model, self._path, optimise=False)
        values = run_session(self._loaded[key], given, names)
        if any(values[name].dtype == np.float16 for name in names):
            raise RuntimeFailure("the model cannot be taken apart", why="a float16 is rounded only where it is cut")
        return values
