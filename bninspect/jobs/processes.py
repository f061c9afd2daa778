"""The supervised processes of a run: each with the limits of its settings, and its complaints to those who are told."""

from __future__ import annotations

from bninspect.jobs.context import Surroundings
from bninspect.settings import READ_BYTES, RUN_SECONDS, Settings
from bninspect.workers import tasks
from bninspect.workers.limits import WorkerLimits, reading_limits, running_limits
from bninspect.workers.supervisor import Worker, silent


def reader(settings: Settings, around: Surroundings, folder: str | None = None) -> Worker:
    """Return a process that reads files; it is not started yet. `folder`: where it works, if not where we do."""
    return _worker(reading_limits(settings), around, aloud=around.verbose, folder=folder)


def runner(settings: Settings, around: Surroundings, folder: str | None = None) -> Worker:
    """Return a process that runs frameworks; it is not started yet."""
    return _worker(running_limits(settings), around, aloud=True, folder=folder)


def search(folder: str, settings: Settings, around: Surroundings) -> tuple[str, ...]:
    """Return the models in a folder, found by a process of its own.

    Raises:
        LimitExceeded, WorkerDied: the search came to no end.
    """
    from bninspect.formats.folder_models import FolderModels

    limits = WorkerLimits(settings.timeout or RUN_SECONDS, settings.max_memory or READ_BYTES)
    with _worker(limits, around, aloud=around.verbose) as worker:
        found = worker.call(tasks.search_folder, FolderModels, {"path": folder}, around.progress)
    around.passed_over(folder, found.passed)
    return found.models


def _worker(limits: WorkerLimits, around: Surroundings, *, aloud: bool, folder: str | None = None) -> Worker:
    return Worker(limits, verbose=around.verbose, show=around.complain if aloud else silent, folder=folder)
