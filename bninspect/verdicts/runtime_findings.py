"""What comparing with a runtime finds. One function per rule; its docstring is its manual page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from bninspect.arithmetic.bounds import PRECISIONS, precision
from bninspect.records import (
    PARAMETERS,
    Array,
    BatchNorm,
    Comparison,
    DeclaredPrecision,
    Finding,
    Observation,
    Severity,
    in_words,
)
from bninspect.records.limit_words import of_limit

_FINITE = "look for NaN and infinity in the parameters and in the input"
_RELOAD = "the runtime did not load what the file holds: look for renamed layers and by-name or by-position loading"


def off(comparison: Comparison, whose: str, explanation: str = "", hint: str | None = None) -> Finding:
    """Return what is to be said of outputs that do not agree: BN202 if they are not finite, else BN301.

    Args:
        comparison: the outputs with those of the formula.
        whose: what the values are, such as `in the model`.
        explanation: what explains them, in words.
        hint: what to do; if that is not said, what helps in general.
    """
    if comparison.ratio is None:
        return not_finite(comparison, f"{_values(comparison)} {whose} are", _place(comparison), hint)
    return beyond_bound(comparison, whose, explanation, hint or "")


def not_finite(comparison: Comparison, subject: str, place: str, hint: str | None = None, **more: Any) -> Finding:
    """BN202: an output is NaN or infinite, or should be.

    The formula and the runtime do not both have a finite number there, so nothing can be compared, and NaN is never
    counted as agreement. Parameters or the input hold NaN, or an earlier layer overflowed.

    What to do: look at the rules BN101 and BN102 of the same layer, and at the layers before it.

    Severity: error.
    """
    message = f"{subject} not finite on one side or on both{place}"
    return _error("BN202", message, {**_evidence(comparison), **more}, _FINITE if hint is None else hint)


def beyond_bound(comparison: Comparison, whose: str, explanation: str, hint: str) -> Finding:
    """BN301: the runtime computes something else than the formula with the stored parameters.

    At least one element differs by more than float arithmetic allows: the bound is derived from the order of
    operations and the precision of the kernel, for each element. The cause that is named is a reading of the same
    parameters under which every value is explained; where several fit, all are named.

    What to do: if the runtime is wrong, correct the convention that is named; `bninspect explain` shows the arithmetic.

    Severity: error.
    """
    message = f"{_values(comparison)} {whose} are over the rounding limit, {_worst(comparison)}"
    return _error("BN301", f"{message}: {explanation}" if explanation else message, _evidence(comparison), hint)


def shaped_differently(_layer: BatchNorm, observation: Observation) -> Finding | None:
    """BN301, for an output that is not even of the shape of its input."""
    x, y = observation.x.shape, observation.y.shape
    if x == y:
        return None
    message = f"the output {in_words(observation.observed)} has shape {y} for an input of shape {x}"
    return _error("BN301", message, {"observed": observation.observed}, "this is not a batch norm")


def loaded_differently(layer: BatchNorm, observation: Observation) -> Finding | None:
    """BN304: the runtime loaded other parameters than the file holds.

    They were compared bit for bit, in the wider of both types. Weights were loaded by position into layers of another
    order, by name into renamed layers, or not at all, so that the layer kept its initial values.

    What to do: load the whole model instead of its weights, or compare the order of layers and arrays.

    Severity: error.
    """
    for name in PARAMETERS:
        stored, loaded = getattr(layer, name), observation.loaded.get(name)
        if stored is None or loaded is None:
            if stored is None and loaded is None:
                continue
            there, absent = ("the runtime", "the file") if stored is None else ("the file", "the runtime")
            return _error("BN304", f"{there} has a {name}, {absent} has none", {"array": name}, _RELOAD)
        if stored.shape != loaded.shape:
            message = f"{name} has shape {stored.shape} in the file and {loaded.shape} in the runtime"
            return _error("BN304", message, {"array": name}, _RELOAD)
        # In the wider type of both: a runtime that widens float16 has changed nothing.
        wide = np.result_type(stored, loaded)
        differs = np.flatnonzero(_bits(stored.astype(wide)) != _bits(loaded.astype(wide)))
        if differs.size:
            channel = int(differs[0])
            before, after = stored.ravel()[channel], loaded.ravel()[channel]
            message = f"{name} of channel {channel} is {before!s} in the file and {after!s} in the runtime"
            if differs.size > 1:
                message += f" ({differs.size} channels differ)"
            evidence = {"array": name, "channels": [int(differ) for differ in differs[:16]]}
            return _error("BN304", message, evidence, _RELOAD)
    return None


def configured_differently(layer: BatchNorm, observation: Observation) -> Finding | None:
    """BN305: the runtime's layer has another setting than the file states.

    Its epsilon or its axis is not the stored one: it was built anew with defaults, or a loader read the configuration
    of another version.

    What to do: build the layer with the stored settings.

    Severity: error.
    """
    rank = observation.x.ndim
    axis = None if layer.axis is None else tuple(sorted(number % rank for number in layer.axis))
    for name, stored, loaded in (
        ("epsilon", layer.epsilon, observation.epsilon),
        ("axis", axis, tuple(sorted(observation.axis))),
        ("momentum", layer.momentum, observation.replay.momentum if observation.replay else None),
    ):
        if stored is not None and loaded is not None and stored != loaded:
            place = "by --epsilon" if name == "epsilon" and layer.epsilon_source == "--epsilon" else "in the file"
            message = f"{name} is {stored} {place} and {loaded} in the runtime"
            hint = f"the runtime does not use the {name} of this model"
            return _error("BN305", message, {"stored": stored, "loaded": loaded}, hint)
    return None


def normalised_differently(comparison: Comparison, means: str) -> Finding:
    """BN311: a training step computes something else than the formula with the moments of its batch.

    `verify --training` calls the model once with training=True. Mean and biased variance of the batch (divided by n,
    over all axes but that of the channels) must normalise it, whatever is stored; a layer that does not train must
    use its moving statistics. The bound holds for sums in any order.

    What to do: if the runtime is wrong, correct what is named as its cause: gradients depend on this output.

    Severity: error.
    """
    subject = f"{_values(comparison)} of a training step are"
    if comparison.ratio is None:
        return not_finite(comparison, subject, _place(comparison))
    message = f"{subject} not those normalised by {means}, {_worst(comparison)}"
    return _error("BN311", message, _evidence(comparison))


def updated_differently(comparison: Comparison, momentum: float, cause: str) -> Finding:
    """BN312: a training step stores another moving mean or variance than momentum and batch make of it.

    The new value must be momentum * old + (1 - momentum) * batch. Keras writes momentum 0.99 where torch writes 0.01.
    Which variance is averaged is a convention of the kernel: the biased one in Keras 3 and in the layers of tf_keras
    that are not fused, n/(n-1) times as much in its fused ones. None of this shows in the outputs of this model; it is
    what a model becomes that is trained further there.

    What to do: use one momentum and one estimator everywhere, or do not train the model further in this runtime.

    Source: measured with Keras 3.15 and tf_keras 2.21; tensorflow#55545.

    Severity: error.
    """
    name, worst = comparison.reference, comparison.worst
    if comparison.ratio is None:
        return not_finite(comparison, f"{name} after a training step is", f" {_channels(comparison)}", array=name)
    message = f"a training step stores another {name} {_channels(comparison)}: {cause}."
    if worst is not None:
        batch = worst.moving_mean if name == "moving_mean" else worst.moving_variance
        by_hand = f"{momentum:g} * {_number(worst.x)} + {1 - momentum:g} * {_number(batch)}"
        message += f" In channel {worst.channel}, {by_hand} = {_number(worst.expected)} by hand"
        message += f" and {_number(worst.actual)} in the runtime."
    hint = "training that goes on there stores other statistics: use one momentum and one estimator everywhere"
    evidence = {**_evidence(comparison), "array": name, "momentum": momentum, "cause": cause}
    return _error("BN312", message, evidence, hint)


def moved(comparison: Comparison, said: str) -> Finding:
    """BN313: a training step moves the statistics of a layer that does not train.

    With trainable=False, or when it is called with training=False, a layer must leave its moving mean and variance as
    they are, to the last bit. Otherwise a frozen model drifts away from what was verified.

    What to do: look for code that updates the statistics outside of the layer.

    Severity: error.
    """
    name = comparison.reference
    message = f"a training step moves its {name} {_channels(comparison)} ({said})"
    hint = "a layer that does not train must leave its moving statistics as they are"
    return _error("BN313", message, {**_evidence(comparison), "array": name}, hint)


def less_precise(found: DeclaredPrecision | None, wanted: str) -> Finding | None:
    """BN306: the runtime computes with less precision than `--precision` asks for.

    Some runtimes compute a file of float32 in bfloat16 or float16 where the processor can, which is right within the
    bound of that type, and hides what is smaller. A gate that relies on float32 says `--precision float32`. A model of
    which no call was seen may be computed in any type, so it does not pass either.

    What to do: set what the message names, in the program that deploys the model and for this gate alike.

    Source: OpenVINO 2026.4, CPU plug-in, INFERENCE_PRECISION_HINT.

    Severity: error.
    """
    message = short_of(found, wanted)
    if not message:
        return None
    return _error("BN306", message, {"wanted": wanted, **({"found": found.dtype} if found is not None else {})})


def short_of(found: DeclaredPrecision | None, wanted: str) -> str:
    """Return in what words the type in which something is computed is less precise than `wanted`; empty if it is not.

    A type that is not a float, such as int8, is less than every float; None is one that nobody saw.
    """
    if found is None:
        return f"whether it is computed in {wanted} was not seen"
    if found.dtype in PRECISIONS and precision(found.dtype).unit <= precision(wanted).unit:
        return ""
    why = f": {found.why}" if found.why else ", as the file says"
    return f"it is computed in {found.dtype}, --precision asks for {wanted}{why}"


FINDINGS: Mapping[str, Callable[..., Finding | None]] = MappingProxyType(
    {
        "BN202": not_finite,
        "BN301": beyond_bound,
        "BN304": loaded_differently,
        "BN305": configured_differently,
        "BN306": less_precise,
        "BN311": normalised_differently,
        "BN312": updated_differently,
        "BN313": moved,
    }
)


def _error(rule: str, message: str, evidence: Mapping[str, Any], hint: str = "") -> Finding:
    return Finding(rule, Severity.ERROR, message, evidence, hint)


def _evidence(comparison: Comparison) -> dict[str, Any]:
    return {
        "observed": comparison.observed,
        "violations": comparison.violations,
        "channels": list(comparison.channels),
        "ratio": comparison.ratio,
    }


def _values(comparison: Comparison) -> str:
    return f"{comparison.violations} of {comparison.elements} values"


def _channels(comparison: Comparison) -> str:
    return f"in {comparison.violations} of {comparison.elements} channels"


def _channel(comparison: Comparison) -> str:
    return f", channel {comparison.worst.channel}" if comparison.worst else ""


def _place(comparison: Comparison) -> str:
    inherited = comparison.worst is not None and comparison.worst.x is None
    return _channel(comparison) + (" (nor is their input: look at earlier layers)" if inherited else "")


def _worst(comparison: Comparison) -> str:
    return f"the worst {of_limit(comparison.ratio)}{_channel(comparison)}"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6g}"


def _bits(array: Array) -> Array:
    contiguous = np.ascontiguousarray(array).ravel()
    return contiguous.view(f"u{contiguous.dtype.itemsize}")
