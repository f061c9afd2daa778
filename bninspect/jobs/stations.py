"""Many models, several at a time: each goes to the next idle station, which has processes of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import replace
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from bninspect import errors
from bninspect.jobs import baseline, processes
from bninspect.jobs.context import Surroundings
from bninspect.records import Checkpoint, ModelReport, verdict
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.workers import tasks
from bninspect.workers.supervisor import Worker


class Station:
    """A place of work, with a process that reads files and one that runs frameworks; it serves one model at a time.

    Args:
        work: makes the report of one model, with what the station has.
        settings: what was asked for.
        around: who is told of what is going on, and what is known from before.
        ahead: a task for whose sake the framework is imported before it is asked for.
    """

    def __init__(
        self, work: Work, settings: Settings, around: Surroundings, ahead: tasks.Task[Any] | None = None
    ) -> None:
        self.settings = settings
        self.around = around
        self.reader: Worker = processes.reader(settings, around)
        self.runner: Worker = processes.runner(settings, around)
        self.environment: dict[str, Any] = {}
        """What the framework's process said of what it runs on."""
        self._work = work
        self._ahead = ahead

    def __enter__(self) -> Self:
        self.reader.start(tasks.read_file)
        if self._ahead is not None:
            self.runner.start(self._ahead)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.runner.__exit__(kind, error, trace)
        self.reader.__exit__(kind, error, trace)

    def read(self, path: str, *, digest: bool = True) -> Checkpoint:
        """Read a model file. Raises what `load` of the pipeline raises."""
        return self.reader.call(tasks.read_file, Checkpoint, {"path": path, "digest": digest})

    def run(self, path: str) -> ModelReport:
        """Return the report of a model; its errors are part of it, except wrong usage, which ends the command."""
        self.around.progress(printable(path))
        start = time.monotonic()
        try:
            model = self._work(self, path)
        except errors.UsageError:
            raise
        except errors.BninspectError as error:
            model = verdict.broken(path, error)
        finally:
            self.around.progress("")
        seconds = model.seconds or round(time.monotonic() - start, 3)  # one of an earlier run keeps its own
        model = replace(model, seconds=seconds)
        return baseline.judged(model, self.around.baseline, self.settings) if self.around.baseline else model


Work = Callable[[Station, str], ModelReport]


def attend(
    paths: Sequence[str], stations: Sequence[Station], ended: Callable[[ModelReport], None]
) -> tuple[ModelReport, ...]:
    """Return the reports of all models, in the order of `paths`.

    Args:
        paths: the models.
        stations: where they are worked on, as many at a time as there are stations; opened here and closed.
        ended: is called with each report as its model ends, from this thread.

    Raises:
        Whatever the work on a model raises: models that have not begun are given up, and the stations closed, which
        ends those that have.
    """
    reports: dict[int, ModelReport] = {}
    idle: SimpleQueue[Station] = SimpleQueue()
    with ThreadPoolExecutor(max(1, len(stations))) as pool, ExitStack() as opened:
        for station in stations:
            idle.put(opened.enter_context(station))
        numbers = {pool.submit(_serve, idle, path): number for number, path in enumerate(paths)}
        try:
            for future in as_completed(numbers):
                reports[numbers[future]] = future.result()
                ended(reports[numbers[future]])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return tuple(reports[number] for number in range(len(paths)))


def _serve(idle: SimpleQueue[Station], path: str) -> ModelReport:
    station = idle.get()
    try:
        return station.run(path)
    finally:
        idle.put(station)
