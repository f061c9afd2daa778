"""What comes out of a file in this process: of its runtime, and of the whole command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bninspect import formats, runtimes
from bninspect.records import ModelReport, Observation, Run
from bninspect.runtimes.runtime import RunSettings
from bninspect.settings import Settings
from bninspect.verdicts import verify_task


def observed(path: Path, **settings: Any) -> tuple[Run, list[Observation]]:
    """Run a file in its framework; return what that said, and what it computed."""
    seen: list[Observation] = []
    run = runtimes.run(formats.read(path), RunSettings(**settings), lambda: seen.append)
    return run, seen


def verified(path: Path, **settings: Any) -> ModelReport:
    """Verify a file as the command does."""
    return verify_task.verify_checkpoint(formats.read(path), Settings(**settings)).model
