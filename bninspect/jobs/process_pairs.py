"""Many models, several at a time: each goes to the next idle pair of processes, one that reads and one that runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from queue import SimpleQueue
from typing import Any, Self

from bninspect import errors
from bninspect.jobs import baseline, processes
from bninspect.jobs.context import Surroundings
from bninspect.jobs.elsewhere import RemoteReading
from bninspect.records import Checkpoint, ModelReport, outcome
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.workers import tasks
from bninspect.workers.supervisor import Worker


class ProcessPair(ExitStack[None]):
    """A process that reads files and one that runs frameworks; together they serve one model at a time.

    Args:
        work: makes the report of one model, with what the pair has.
        settings: what was asked for.
        around: who is told of what is going on, and what is known from before.
        ahead: a task for whose sake the framework is imported before it is asked for.
        folder: where its processes work; where this one does if none is named.
    """

    def __init__(
        self,
        work: Work,
        settings: Settings,
        around: Surroundings,
        ahead: tasks.Task[Any] | None = None,
        *,
        folder: str | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.around = around
        self.reader: Worker = self.enter_context(processes.reader(settings, around, folder))
        self.runner: Worker = self.enter_context(processes.runner(settings, around, folder))
        self.environment: dict[str, Any] = {}
        """What the framework's process said of what it runs on."""
        self._elsewhere = RemoteReading(settings)
        self._work = work
        self._ahead = ahead

    def __enter__(self) -> Self:
        self.reader.start(tasks.read_file)
        if self._ahead is not None:
            self.runner.start(self._ahead)
        return self

    def read(self, path: str, *, digest: bool = True, whole: bool = True) -> Checkpoint:
        """Read a model file; of one elsewhere all of it, if it is to be `whole`. Raises as `jobs.load.load`."""
        if (target := self.around.urls.get(path)) is not None:
            return self._elsewhere.read(self.reader, target, whole=whole)
        return self.reader.call(tasks.read_file, Checkpoint, {"path": path, "digest": digest})

    def run(self, path: str) -> tuple[ModelReport, ...]:
        """Return the report of a model, or one for each export that it is held against.

        Its errors are part of it, except wrong usage, which ends the command.
        """
        self.around.progress(printable(path))
        start = time.monotonic()
        try:
            models = tuple(map(self._elsewhere.named, self._work(self, path)))
        except errors.UsageError:
            raise
        except errors.NothingToCheck as error:
            hint = "; ".join(part for part in (error.hint, "pass --allow-empty if there may be none") if part)
            empty = errors.NothingToCheck(error.what, why=error.why, hint=hint)
            models = (outcome.broken(path, self._elsewhere.named_error(empty)),)
        except errors.BninspectError as error:
            models = (outcome.broken(path, self._elsewhere.named_error(error)),)
        finally:
            self._elsewhere.close()
            self.around.progress("")
        seconds = round((time.monotonic() - start) / len(models), 3)
        return tuple(self._judged(model, seconds) for model in models)

    def _judged(self, model: ModelReport, seconds: float) -> ModelReport:
        model = replace(model, seconds=model.seconds or seconds)  # one of an earlier run keeps its own
        return baseline.judged(model, self.around.baseline, self.settings) if self.around.baseline else model


AHEAD = 2
"""Models for each pair that are on their way: the next one is there when one ends."""

Work = Callable[[ProcessPair, str], Sequence[ModelReport]]


def attend(paths: Sequence[str], pairs: Sequence[ProcessPair]) -> Iterator[tuple[int, ModelReport]]:
    """Yield the place of each model in `paths` and its report, as they end.

    Args:
        paths: the models.
        pairs: where they are worked on, as many at a time as there are pairs; opened here and closed.

    Raises:
        Whatever the work on a model raises: models that have not begun are given up, and the pairs closed, which
        ends those that have. So it is when this generator is closed.
    """
    idle: SimpleQueue[ProcessPair] = SimpleQueue()
    waiting = enumerate(paths)
    with ThreadPoolExecutor(max(1, len(pairs))) as pool, ExitStack() as opened:
        for pair in pairs:
            idle.put(opened.enter_context(pair))
        running: dict[Future[tuple[ModelReport, ...]], int] = {}
        try:
            while True:
                for number, path in islice(waiting, AHEAD * len(pairs) - len(running)):
                    running[pool.submit(_serve, idle, path)] = number
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    # Only of a single model are there several reports, so that no places are taken twice.
                    yield from enumerate(future.result(), number)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _serve(idle: SimpleQueue[ProcessPair], path: str) -> tuple[ModelReport, ...]:
    pair = idle.get()
    try:
        return pair.run(path)
    finally:
        idle.put(pair)
