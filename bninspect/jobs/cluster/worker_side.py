"""The inside of a Dask worker: process pairs that stay there, so that a framework's process serves many models.

Dask runs these functions by their names. What they return is JSON text, which the client decodes as every other report.
"""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bninspect.errors import BninspectError, UnlikeWorker, UnreadableFile, UsageError, WorkerDied
from bninspect.jobs.cluster import likeness
from bninspect.jobs.context import Surroundings
from bninspect.jobs.process_pairs import ProcessPair, Work
from bninspect.records import ModelReport, Option, codec, outcome
from bninspect.settings import Settings
from bninspect.stores.names import Remote, is_url
from bninspect.workers import tasks

IDLE_SECONDS = 120.0
"""A pair of processes that nobody has needed for so long is closed: the command that it served may have been killed."""


@dataclass(frozen=True)
class Order:
    """What a cluster is to do with each model."""

    name: str
    """Of the run, unlike that of any other."""
    work: Work
    settings: Settings
    ahead: tasks.Task[Any] | None
    expected: Mapping[str, str | None]
    """What a worker must say of itself."""
    options: Mapping[str, Option] = field(default_factory=dict)
    brief: bool = False
    verbose: bool = False
    folder: str = ""
    """Where the command runs: paths are relative to it."""


@dataclass(frozen=True)
class _TakenPair:
    """A process pair, with what it is told of each model and what it has to say."""

    pair: ProcessPair
    complaints: list[str]
    earlier: dict[str, ModelReport]
    urls: dict[str, Remote]


class PairsOfRun:
    """The process pairs of one run in this worker, as many as it works on models at a time."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._lock = threading.Lock()
        self._idle: list[_TakenPair] = []
        self._all: list[ProcessPair] = []
        self._calls = 0
        self._closed = False

    def serve(self, path: str, earlier: str, target: Remote | None) -> str:
        """Return the report of a model and what else the client is to know, as JSON text."""
        taken = self._take()
        try:
            if earlier:
                taken.earlier[path] = codec.decode(ModelReport, json.loads(earlier))
            if target is not None:
                taken.urls[path] = target
            (model,) = taken.pair.run(path)  # of several exports there is no cluster: --against takes one model
            answer = {"model": codec.encode(model), "environment": codec.encode(taken.pair.environment)}
            return json.dumps({**answer, "complaints": taken.complaints})
        except UsageError as error:
            return _error(error)
        finally:
            self._put(taken)

    def close(self) -> None:
        """End all processes of the run. A model that is being worked on is given up."""
        with self._lock:
            self._closed = True
            pairs, self._all = self._all, []
        for pair in pairs:
            pair.close()

    def _take(self) -> _TakenPair:
        with self._lock:
            self._calls += 1
            if self._idle:
                return self._idle.pop()
            taken = self._new()
            self._all.append(taken.pair)
        taken.pair.__enter__()
        return taken

    def _new(self) -> _TakenPair:
        order, complaints = self._order, list[str]()
        earlier, urls = dict[str, ModelReport](), dict[str, Remote]()
        around = Surroundings(
            complain=complaints.append,
            verbose=order.verbose,
            brief=order.brief,
            options=order.options,
            earlier=earlier,
            urls=urls,
        )
        folder = order.folder if _is_folder(order.folder) else os.sep
        pair = ProcessPair(order.work, order.settings, around, order.ahead, folder=folder)
        return _TakenPair(pair, complaints, earlier, urls)

    def _put(self, taken: _TakenPair) -> None:
        taken.complaints.clear()
        taken.earlier.clear()
        taken.urls.clear()
        with self._lock:
            if self._closed:
                return
            self._idle.append(taken)
            timer = threading.Timer(IDLE_SECONDS, self._rest, [self._calls])
            timer.daemon = True
            timer.start()

    def _rest(self, calls: int) -> None:
        """Close what is idle, if nobody has called since."""
        with self._lock:
            if calls != self._calls:
                return
            resting, self._idle = self._idle, []
        for taken in resting:
            taken.pair.close()


_runs: dict[str, PairsOfRun] = {}
_ended: set[str] = set()
_lock = threading.Lock()


def serve(order: Order, path: str, earlier: str = "", target: Remote | None = None) -> str:
    """Work on one model in this worker. Return JSON text: its report, or the error that ends the whole command."""
    try:
        likeness.check(order.expected, likeness.describe(), _address())
    except UnlikeWorker as error:  # it has joined after the others were compared
        return _error(error)
    if not (os.path.isabs(path) or is_url(path) or _is_folder(order.folder)):  # noqa: PTH117
        model = outcome.broken(path, _elsewhere(order.folder))
        return json.dumps({"model": codec.encode(model), "environment": {}, "complaints": []})
    with _lock:
        if order.name in _ended:
            return _error(WorkerDied("the work was given up"))
        pairs = _runs.setdefault(order.name, PairsOfRun(order))
    return pairs.serve(path, earlier, target)


def release(name: str) -> None:
    """End the processes of a run in this worker; nothing more of it is worked on."""
    with _lock:
        _ended.add(name)
        pairs = _runs.pop(name, None)
    if pairs is not None:
        pairs.close()


def _error(error: BninspectError) -> str:
    return json.dumps({"error": codec.encode(outcome.problem(error))})


def _elsewhere(folder: str) -> UnreadableFile:
    return UnreadableFile(
        "the worker does not have this file",
        why=f"there is no folder {folder} on {platform.node()}",
        hint="name models by paths on a file system that all workers share, or by URLs",
    )


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)
