"""Many models, several at a time: each goes to the next idle station, which has processes of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack
from queue import SimpleQueue

from bninspect.records import ModelReport

Work = Callable[[str], ModelReport]
Station = Callable[[], AbstractContextManager[Work]]


def attend(
    paths: Sequence[str], station: Station, *, jobs: int, ended: Callable[[ModelReport], None]
) -> tuple[ModelReport, ...]:
    """Return the reports of all models, in the order of `paths`.

    Args:
        paths: the models.
        station: opens a place of work; `jobs` of them are open at a time, and each serves many models.
        jobs: models that are worked on at a time.
        ended: is called with each report as its model ends, from this thread.

    Raises:
        Whatever the work on a model raises: models that have not begun are given up, and the stations closed, which
        ends those that have.
    """
    reports: dict[int, ModelReport] = {}
    idle: SimpleQueue[Work] = SimpleQueue()

    def attend_one(path: str) -> ModelReport:
        work = idle.get()
        try:
            return work(path)
        finally:
            idle.put(work)

    with ThreadPoolExecutor(jobs) as pool, ExitStack() as stations:
        for _ in range(max(1, min(jobs, len(paths)))):
            idle.put(stations.enter_context(station()))
        numbers = {pool.submit(attend_one, path): number for number, path in enumerate(paths)}
        try:
            for future in as_completed(numbers):
                reports[numbers[future]] = future.result()
                ended(reports[numbers[future]])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return tuple(reports[number] for number in range(len(paths)))
