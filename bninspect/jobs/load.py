"""Reads one model, or two, and arrays to explain: each file in a supervised process."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING

from bninspect import safe_text
from bninspect.jobs import elsewhere, processes, results
from bninspect.jobs.context import DEFAULTS, SILENT, PathLike, Surroundings
from bninspect.records import BatchNorm, Checkpoint
from bninspect.settings import Settings
from bninspect.verdicts import selection
from bninspect.workers import tasks
from bninspect.workers.supervisor import Worker

if TYPE_CHECKING:
    from bninspect.records.explained import Answer
    from bninspect.verdicts.own_runtime.explain_task import GivenFiles


def load(path: PathLike, settings: Settings = DEFAULTS, around: Surroundings = SILENT) -> Checkpoint:
    """Read one model file in a supervised process.

    Args:
        path: a file or folder of any format that `bninspect doctor` lists.
        settings: layers to keep, epsilon for those whose file states none, limits.
        around: where progress and complaints go.

    Raises:
        UnreadableFile, LimitExceeded, WorkerDied: it cannot be read.
        NothingToCheck: it holds no batch-norm layer.
        UsageError: `settings.layers` fits none of them.
    """
    return load_beside(path, settings, around)[0]


def load_beside(
    path: PathLike, settings: Settings = DEFAULTS, around: Surroundings = SILENT
) -> tuple[Checkpoint, tuple[BatchNorm, ...]]:
    """Read one model file; return what is chosen of it, and all of its layers. Args, Raises: as `load`."""
    with processes.reader(settings, around) as reader:
        whole = _read(reader, path, settings)
    checkpoint = selection.select(whole, settings)
    _require_layers(checkpoint.layers, settings, complete=True)
    return checkpoint, whole.layers


def load_both(
    before: PathLike, after: PathLike, settings: Settings = DEFAULTS, around: Surroundings = SILENT
) -> tuple[Checkpoint, Checkpoint]:
    """Read two model files. Args, Raises: as `load`; a pattern must fit a layer in one of them at least."""
    with processes.reader(settings, around) as reader:
        both = [selection.select(_read(reader, path, settings), settings) for path in (before, after)]
    for checkpoint in both:
        _require_layers(checkpoint.layers, settings, complete=False)
    _require_layers([layer for checkpoint in both for layer in checkpoint.layers], settings, complete=True)
    return both[0], both[1]


def _read(reader: Worker, path: PathLike, settings: Settings) -> Checkpoint:
    with closing(elsewhere.RemoteReading(settings)) as reading:
        return reading.of_place(reader, str(path), whole=False)


def explain(given: GivenFiles, settings: Settings = DEFAULTS, around: Surroundings = SILENT) -> Answer:
    """Explain arrays in files, which are read, and held against the formula, in a supervised process.

    Raises:
        UsageError: arrays and layers do not belong together.
        UnreadableFile, LimitExceeded, WorkerDied: they cannot be read.
    """
    from bninspect.verdicts.own_runtime.explain_task import AnswerText

    with processes.reader(settings, around) as reader:
        reader.start(tasks.explain_files)
        return reader.call(tasks.explain_files, AnswerText, {"given": given}, around.progress).read()


def _require_layers(layers: Iterable[BatchNorm], settings: Settings, *, complete: bool) -> None:
    """Raise UsageError if the patterns leave no layer in, or if one of them fits none.

    `complete`: whether these are all there are; in the other file of two, a pattern may fit.
    """
    names = [layer.name for layer in layers]
    missing = [pattern for pattern in settings.layers if not any(safe_text.matches(name, (pattern,)) for name in names)]
    results.require_layers(missing if complete else (), settings, found=bool(names))
