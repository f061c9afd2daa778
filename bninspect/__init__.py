"""Recompute every batch-norm layer of a saved model by hand, and prove that the framework agrees.

    import bninspect

    report = bninspect.verify("model.h5")
    assert report.summary.exit_code == 0

    for layer in bninspect.load("model.h5").layers:
        print(layer.name, layer.epsilon, layer.moving_variance)

Names are imported when they are first used, so that `import bninspect` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bninspect.version import __version__

if TYPE_CHECKING:
    from bninspect.errors import BninspectError as BninspectError
    from bninspect.jobs.data import drift as drift
    from bninspect.jobs.data import recalibrate as recalibrate
    from bninspect.jobs.load import load as load
    from bninspect.jobs.pipeline import inspect as inspect
    from bninspect.jobs.pipeline import verify as verify
    from bninspect.records import BatchNorm as BatchNorm
    from bninspect.records import Checkpoint as Checkpoint
    from bninspect.records import Comparison as Comparison
    from bninspect.records import Finding as Finding
    from bninspect.records import Report as Report
    from bninspect.settings import Settings as Settings

_HOMES = {
    "BatchNorm": "records",
    "BninspectError": "errors",
    "Checkpoint": "records",
    "Comparison": "records",
    "Finding": "records",
    "Report": "records",
    "Settings": "settings",
    "drift": "jobs.data",
    "inspect": "jobs.pipeline",
    "load": "jobs.load",
    "recalibrate": "jobs.data",
    "verify": "jobs.pipeline",
}

__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604 - all of them are texts


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
