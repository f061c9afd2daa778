"""What comparing stored statistics with data finds. One function per rule; its docstring is its manual page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bninspect.records import DataFit, DataReport, Finding, Severity
from bninspect.statistics import words


def of_layer(fit: DataFit, about: DataReport) -> tuple[Finding, ...]:
    """Return what is to be said of how a layer's statistics fit the data: one of BN501 to BN504, or nothing."""
    if fit.verdict == "differs":
        return (behind_another(fit) if fit.inherited else differing(fit, about),)
    if fit.noisy:
        return (as_in_training(fit, about),)
    return (a_little_off(fit),) if fit.small else ()


def differing(fit: DataFit, about: DataReport) -> Finding:
    """BN501: the stored statistics are not those of the data.

    `drift` runs the model in inference mode on data, and takes the mean and the variance of what arrives at each batch
    norm. In at least one channel they are off by more than accident (standard errors, all channels considered) and by
    more than a tolerance: a mean by so many stored deviations, a variance by so much of its logarithm. The layer is the
    first that differs. If a change of the input brings the statistics back, it is named: the data is prepared in
    another way than that of the training was.

    What to do: prepare the data as the message says. Where no change explains it, the data is of another kind, or the
    statistics lag behind the weights (weights that were still moving, averaged, pruned or fine-tuned): then
    `bninspect recalibrate` computes them anew.

    Severity: error.
    """
    return Finding("BN501", Severity.ERROR, words.difference(fit), _evidence(fit), words.cure(about))


def behind_another(fit: DataFit) -> Finding:
    """BN502: the stored statistics are not those of the data, after a layer where that is so already.

    What arrives here has gone through a layer that differs. Nothing can be said of this layer by itself.

    What to do: look at the layer that is named by BN501.

    Severity: note.
    """
    return Finding("BN502", Severity.NOTE, f"{words.difference(fit)}, after a layer that differs", _evidence(fit))


def a_little_off(fit: DataFit) -> Finding:
    """BN503: the stored statistics are a little off.

    By more than accident, and by less than the tolerance. It is what training leaves: augmentation and dropout, which
    inference does not have, weights that moved until the end, and what a net has learnt by heart of its training data.

    What to do: nothing; `--max-effect` sets the tolerance.

    Severity: note.
    """
    return Finding("BN503", Severity.NOTE, words.small(fit), _evidence(fit))


def as_in_training(fit: DataFit, about: DataReport) -> Finding:
    """BN504: the stored statistics are those of the data with dropout or augmentation as in training, not without.

    The model holds layers that do something in training alone. With these as in training, what arrives at the batch
    norm has the stored statistics; in inference it has not. Dropout before a batch norm does that: it multiplies the
    variance there (Li, Chen, Hu and Yang, Understanding the disharmony between dropout and batch normalization by
    variance shift, CVPR 2019). The data is not its cause.

    What to do: nothing about the data. `bninspect recalibrate` stores the statistics of inference; put dropout after
    the last batch norm in the next training.

    Severity: note.
    """
    return Finding("BN504", Severity.NOTE, words.noise(about), _evidence(fit))


FINDINGS: Mapping[str, Callable[..., Finding]] = MappingProxyType(
    {"BN501": differing, "BN502": behind_another, "BN503": a_little_off, "BN504": as_in_training}
)


def _evidence(fit: DataFit) -> dict[str, Any]:
    return {"mean": fit.mean.effect, "variance": fit.variance.effect, "critical": fit.critical}
