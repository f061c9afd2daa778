"""What is around a run: who is told of it, and what is known from before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bninspect.records import ModelReport, Option, Report
from bninspect.settings import Settings
from bninspect.stores.names import Remote
from bninspect.workers.supervisor import Progress, silent

PathLike = str | Path


def _unheard(_: Any) -> None:
    """Tell nobody."""


def _unasked(_folder: str, _passed: Mapping[str, int]) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Surroundings:
    """Who is told of a run, and what is known from before. The defaults are silent and know nothing."""

    progress: Progress = silent
    """Is told in words what is going on, from any thread."""
    complain: Progress = silent
    """Gets the lines of the workers' standard error that are for the user, from any thread."""
    began: Callable[[int], None] = _unheard
    """Is told how many models there are."""
    ended: Callable[[ModelReport], None] = _unheard
    """Gets the report of each model as it ends."""
    passed_over: Callable[[str, Mapping[str, int]], None] = _unasked
    """Is told of each folder that was searched, and how many files there are no models, by their ending."""
    verbose: bool = False
    brief: bool = False
    """Whether an inspection leaves out what its screen does not show: digests, and all but the extremes of a parameter.
    They take longer than reading."""
    kept: bool = True
    """Whether the reports of all models are in the report at the end. If not, `ended` alone gets them."""
    options: Mapping[str, Option] = field(default_factory=dict)
    """Where each option came from."""
    urls: Mapping[str, Remote] = field(default_factory=dict)
    """Models elsewhere, by their names."""
    listed: frozenset[str] = frozenset()
    """URLs that a list names, and nobody at the command line."""
    earlier: Mapping[str, ModelReport] = field(default_factory=dict)
    """By path, reports of an earlier run with the same options: they stand if the file is the same."""
    running: Mapping[str, Any] = field(default_factory=dict)
    """What that run said of the environment of its framework."""
    baseline: Report | None = None
    """What fails is what is worse than in this report."""


DEFAULTS = Settings()
SILENT = Surroundings()
