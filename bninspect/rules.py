"""Judgements on stored parameters alone. One function per rule; its docstring is its manual page.

A rule takes one layer and returns its finding, or None. It never raises, whatever the file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from bninspect.records import Array, BatchNorm, Finding, Severity
from bninspect.settings import Settings

_SHOWN = 16


def nonfinite_parameter(layer: BatchNorm) -> Finding | None:
    """BN101: a stored parameter is NaN or infinite.

    Every output of such a channel is NaN, or, worse, constant: an infinite variance gives a scale of zero, and the
    channel answers beta whatever it is asked. Training diverged, or a conversion to float16 overflowed.

    What to do: restore the last checkpoint before the divergence, or convert from the float32 model.
    """
    bad = {name: np.flatnonzero(~np.isfinite(array)) for name, array in layer.arrays.items()}
    bad = {name: channels for name, channels in bad.items() if channels.size}
    if not bad:
        return None
    name, channels = next(iter(bad.items()))
    value = np.ravel(layer.arrays[name])[channels[0]]
    return Finding(
        "BN101",
        Severity.ERROR,
        f"{name} is not finite in {_channels(channels)}: channel {channels[0]} holds {value}",
        {"arrays": {name: _listed(channels) for name, channels in bad.items()}},
        "restore a checkpoint from before the divergence, or convert again from the float32 model",
    )


def negative_variance(layer: BatchNorm) -> Finding | None:
    """BN102: a stored variance is negative.

    No variance is. Between minus epsilon and zero it silently amplifies the channel, below it gives NaN. It comes from
    E[x^2] - E[x]^2 computed in float32 for a mean far from zero, or from arrays that were read in a wrong order.

    What to do: recompute the statistics with a two-pass variance, or check the order of the arrays.
    """
    if layer.moving_variance is None:
        return None
    variance = np.ravel(layer.moving_variance)
    channels = np.flatnonzero(variance < 0)
    if not channels.size:
        return None
    return Finding(
        "BN102",
        Severity.ERROR,
        f"moving_variance is negative in {_channels(channels)}: channel {channels[0]} holds {variance[channels[0]]:g}",
        {"channels": _listed(channels), "minimum": float(variance[channels].min())},
        "recompute the statistics in two passes, or check the order in which the arrays were written",
    )


def missing_parameter(layer: BatchNorm) -> Finding | None:
    """BN103: the file should hold a parameter and does not.

    The configuration says that the layer has it, or every batch norm has it (moving_mean, moving_variance), but the
    data is not there: the file was half-written, or edited.

    What to do: save the model again.
    """
    expected = {"gamma": layer.scale, "beta": layer.center, "moving_mean": True, "moving_variance": True}
    missing = [name for name, there in expected.items() if there and getattr(layer, name) is None]
    if not missing:
        return None
    return Finding(
        "BN103",
        Severity.ERROR,
        f"the file does not hold {', '.join(missing)}",
        {"arrays": missing},
        "save the model again: this file is half-written or was edited",
    )


def variance_below_epsilon(layer: BatchNorm) -> Finding | None:
    """BN113: in some channels the variance is smaller than epsilon.

    There epsilon, not the variance, sets the scale: this model depends on its epsilon, and a runtime with another one
    (0.001 in Keras, 0.00001 in PyTorch and ONNX) computes something else, by a factor of up to ten.

    What to do: hand epsilon on with the parameters, and verify the export.
    """
    if layer.moving_variance is None or layer.epsilon is None:
        return None
    variance = np.ravel(layer.moving_variance)
    channels = np.flatnonzero((variance >= 0) & (variance < layer.epsilon))
    if not channels.size:
        return None
    return Finding(
        "BN113",
        Severity.NOTE,
        f"variance below epsilon in {_channels(channels)}: any other epsilon changes this model",
        {
            "channels": _listed(channels),
            "count": int(channels.size),
            "minimum": float(variance[channels].min()),
        },
        "hand epsilon on with the parameters",
    )


Rule = Callable[[BatchNorm], Finding | None]

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "BN101": nonfinite_parameter,
        "BN102": negative_variance,
        "BN103": missing_parameter,
        "BN113": variance_below_epsilon,
    }
)


def check(layer: BatchNorm) -> tuple[Finding, ...]:
    """Return what the rules find in one layer, in the order of their codes."""
    return tuple(finding for rule in RULES.values() if (finding := rule(layer)) is not None)


def judged(findings: tuple[Finding, ...], settings: Settings) -> tuple[Finding, ...]:
    """Return the findings with those marked as ignored that `--select` and `--ignore` take out."""
    return tuple(
        replace(finding, ignored=reason) if (reason := _ignored(finding.rule, settings)) else finding
        for finding in findings
    )


def _ignored(rule: str, settings: Settings) -> str | None:
    if settings.select and not rule.startswith(settings.select):
        return "not in --select"
    return "--ignore" if rule.startswith(settings.ignore) else None


def _channels(channels: Array) -> str:
    return "1 channel" if channels.size == 1 else f"{channels.size} channels"


def _listed(channels: Array) -> list[int]:
    return [int(channel) for channel in channels[:_SHOWN]]
