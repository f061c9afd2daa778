"""What to do about a cause: the value to set, or the step to change, where the wrong numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bninspect.records import Cause, Explanation

EXPORT = "in the code that exports, then export again"
OWN_RUNTIME = "in your runtime, then run the vectors again"
RUNTIME = "in the code that runs this layer, then verify again"

_ROOT = "divide by sqrt(variance + epsilon), with epsilon inside the root and added once,"
_VARIANCE = "pass the variance as it is stored, not a standard deviation and not its inverse,"
_INFERENCE = "use the moving statistics (model.eval() in PyTorch, training=False in Keras)"
_GAMMA = "multiply the normalised values by gamma, once,"
_BETA = "add beta once, after gamma,"
_MEAN = "subtract the moving mean once"
_LAYER = "match the parameters by the names of their layers, not by their order,"
_NUMBERS = "keep the numbers in float32"
_ORDER = "pass the channels in the order in which they are stored"
_AXIS = "apply the parameters along the axis of the channels"
_FOLD = "fold the bias as (b - mean)*a + beta and the weights as W*a, with a = gamma/sqrt(variance+epsilon),"
_LEAVE = "leave this batch norm unfolded"
_ACTS: Mapping[str, str] = MappingProxyType(
    {
        "variance-": _VARIANCE,
        "variance-ignored": _ROOT,
        "epsilon-": _ROOT,
        "epsilon-left": "set epsilon=0 in the node that is left, or leave mean and variance in it,",
        "divided-by-variance": _ROOT,
        "inverse-deviation": _VARIANCE,
        "multiplied-by-": _ROOT,
        "zero-root": _ROOT,
        "batch-": _INFERENCE,
        "instance-": _INFERENCE,
        "layer-statistics": _INFERENCE,
        "position-": _INFERENCE,
        "group=": _INFERENCE,
        "training-mode": _INFERENCE,
        "initial-statistics": "load the trained weights, the moving statistics with them,",
        "statistics-ignored": "normalise by the moving statistics",
        "statistics-factor": "use mean and variance as they are stored",
        "statistics-channels": _ORDER,
        "affine-channels": _ORDER,
        "channels=": _ORDER,
        "arrays=": "skip exactly the header of the file of numbers",
        "last-channel=": "read every channel",
        "axis=": _AXIS,
        "wrong-axis": _AXIS,
        "layout=": "lay the input out as the model takes it, channels first or last,",
        "roles=": "pass the arrays in the order gamma, beta, moving_mean, moving_variance",
        "gamma-": _GAMMA,
        "gamma-and-beta-ignored": "apply gamma and beta to the normalised values",
        "beta-": _BETA,
        "mean-": _MEAN,
        "mean-not-scaled": _FOLD,
        "bias-": _FOLD,
        "shift-not-folded": _FOLD,
        "weights-not-scaled": _FOLD,
        "kernel-": "put the axes of this layer's kernel in the order in which its framework stores them,",
        "folded-twice": "fold this batch norm once",
        "applied-": "apply this batch norm once",
        "group-order": "scale the outputs group by group, in the order in which the weights are stored,",
        "sibling-": _LAYER,
        "both-": _LAYER,
        "folded-across-activation": _LEAVE,
        "folded-past-second-consumer": _LEAVE,
        "padding-border": _LEAVE,
        "left-out": "keep this batch norm, or fold it into its neighbour,",
        "skipped": "apply this batch norm",
        "parameters=": _NUMBERS,
        "input=": _NUMBERS,
        "folded=": _NUMBERS,
        "folded-apart=": _NUMBERS,
        "output=": _NUMBERS,
        "arithmetic=": _NUMBERS,
        "scale-and-shift": "subtract the mean before the factor is applied",
    }
)
"""By the beginning of a cause's name; the longest that fits counts."""


def remedy(explanation: Explanation | None, epsilon: float | None, place: str) -> str:
    """Return the act that mends what explains a difference; empty where none is known.

    Args:
        explanation: its first cause is the likeliest. Where others that fit need another act, this is said.
        epsilon: of the layer, as it should be; None if nobody knows.
        place: where the act is to be done: EXPORT, OWN_RUNTIME or RUNTIME.
    """
    if explanation is None or not explanation.causes:
        return ""
    acts = list(dict.fromkeys(_act(cause, epsilon) for cause in explanation.causes))
    if not acts[0]:
        return ""
    doubt = "if it is the first of these causes, " if len(acts) > 1 else ""
    return f"{doubt}{acts[0]} {place}"


def _act(cause: Cause, epsilon: float | None) -> str:
    """Return what to do about a cause, each of its parts in turn."""
    acts = dict.fromkeys(_single(name, epsilon) for name in cause.name.split(" + "))
    return " and ".join(act for act in acts if act)


def _single(name: str, epsilon: float | None) -> str:
    if name.startswith("epsilon="):
        return "" if epsilon is None else f"set epsilon={epsilon:g}"
    if "-of=" in name:
        return _LAYER
    fitting = [beginning for beginning in _ACTS if name.startswith(beginning)]
    return _ACTS[max(fitting, key=len)] if fitting else ""
