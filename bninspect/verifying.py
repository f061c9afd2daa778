"""The task of the framework's process: one Checkpoint and its file to the verdict on every layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bninspect import judging, runtimes, summary, wire
from bninspect.records import Checkpoint, ModelReport, Verified
from bninspect.settings import Settings


def prepare() -> None:
    """Import the framework while the file is still being read: it takes seconds."""
    if find_spec("tensorflow") is not None:
        import tensorflow  # noqa: F401


def verify(arguments: Mapping[str, Any], arrays: list[Any], progress: Callable[[str], None]) -> Verified:
    """Run the model of `arguments["checkpoint"]` and compare every batch-norm call with the formula."""
    checkpoint = wire.decode(Checkpoint, arguments["checkpoint"], arrays)
    settings = wire.decode(Settings, arguments["settings"])
    return verify_checkpoint(checkpoint, settings, progress)
