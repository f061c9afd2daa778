"""The old name of `bninspect.training_drift`, which warns. Called, it is the function `bninspect.drift`.

Whoever imports this module puts it in the place of that function, so it has to be both.
"""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any

from bninspect.training_drift import *  # noqa: F403 - whatever was public here

warnings.warn("the module bninspect.drift is now called bninspect.training_drift", DeprecationWarning, stacklevel=2)


class _CallableModule(ModuleType):
    """A module that is also the function of its name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from bninspect.jobs.data import drift

        return drift(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
