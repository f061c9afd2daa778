"""The words that records use: names of parameters, verdicts, kinds of evidence."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""Not NDArray: from NumPy 2.5 and Python 3.12 on that is not a class at run time, which codec.py needs."""

PARAMETERS = ("gamma", "beta", "moving_mean", "moving_variance")


_OBSERVED = {
    "in-model": "in the model",
    "probed": "of the layer run alone",
    "training": "in a training step",
    "training-probed": "in a training step of the layer run alone",
}


def in_words(observed: str) -> str:
    """Return how values came about in words that need no manual, to stand behind "values": `in the model`."""
    return _OBSERVED.get(observed, observed)


class Severity(StrEnum):
    """How much a finding matters; `--fail-on` names the least that fails."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class LayerStatus(StrEnum):
    """What is known of a layer after `verify`."""

    VERIFIED = "verified"
    MISMATCH = "mismatch"
    UNVERIFIED = "unverified"


class Status(StrEnum):
    """The verdict on a model or on a whole report."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    ERROR = "error"
    EMPTY = "empty"


class Evidence(StrEnum):
    """How the numbers of the runtime came about.

    MODEL: the framework loaded the file itself with its own loader and ran it.
    LAYER: the framework's batch-norm layer was run on the parameters that we read.
    NUMBERS: of a file and an export of it the stored numbers were compared, and nothing was run.
    """

    MODEL = "model"
    LAYER = "layer"
    NUMBERS = "numbers"


class Statistics(StrEnum):
    """Which mean and variance a layer normalises with at inference."""

    MOVING = "moving"
    BATCH = "batch"
    SAMPLE = "sample"
    COMPUTED = "computed"
    """Of those that the graph computes from its inputs, or takes as inputs: the file does not hold them."""
    FOLDED = "folded"
    """None any more: a converter left gamma * x + beta, with mean, variance and epsilon already in gamma and beta."""

    @property
    def elsewhere(self) -> str:
        """What a layer normalises by, if that is not what the file holds; empty if it is."""
        if self is Statistics.COMPUTED:
            return "its parameters are computed by the graph, or are inputs of it"
        if self in {Statistics.BATCH, Statistics.SAMPLE}:
            return f"it normalises by the statistics of each {self.value}"
        return ""


class Estimator(StrEnum):
    """How the variance of a batch is estimated that goes into the moving variance."""

    BIASED = "biased"
    """Sum of squares divided by n."""
    UNBIASED = "unbiased"
    """Divided by n - 1."""
    OVERCORRECTED = "overcorrected"
    """Divided by n - (1 + epsilon)."""


class Form(StrEnum):
    """The order of operations of a kernel; it decides the rounding bound (bounds.py), never the verdict.

    CENTRED: (x - mean) * scale + beta.
    AFFINE: x * scale + shift, scale and shift from one rounded 1/sqrt.
    FOLDED: x * scale + shift, both rounded on their own, for instance by a converter.
    UNKNOWN: whichever of CENTRED and AFFINE allows more.
    """

    CENTRED = "centred"
    AFFINE = "affine"
    FOLDED = "folded"
    UNKNOWN = "unknown"
