"""The old name of `bninspect.training_drift`, which warns."""

from __future__ import annotations

import warnings

from bninspect.training_drift import *  # noqa: F403 - whatever was public here

warnings.warn("bninspect.drift is now called bninspect.training_drift", DeprecationWarning, stacklevel=2)
