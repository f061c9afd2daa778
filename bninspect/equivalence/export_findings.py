"""What comparing with an export finds. One function per rule; its docstring is its manual page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bninspect.causes import remedies
from bninspect.equivalence import measuring
from bninspect.equivalence.judgement.case import WrongKernel
from bninspect.records import Counterpart, Finding, LayerStatus, Severity
from bninspect.safe_text import printable

_CONVERT = (
    "convert again, with another version of the converter or without folding; in a port by hand look at this layer's "
    "padding and the axes of its kernel"
)


def of_layer(counterpart: Counterpart, epsilon: float | None) -> tuple[Finding, ...]:
    """Return what is to be said of the counterpart of a layer of this epsilon: one of BN401 to BN404, or nothing."""
    if counterpart.status is not LayerStatus.MISMATCH:
        return ()
    if counterpart.inherited:
        return (inherited(counterpart),)
    numbers = (measuring.WEIGHTS, measuring.BIAS)
    wrong = [compared for compared in counterpart.comparisons if not compared.agrees and compared.observed in numbers]
    if wrong or not counterpart.how:
        return (other_numbers(counterpart, epsilon),)
    return (other_input(counterpart) if counterpart.explanation is None else wrong_place(counterpart, epsilon),)


def other_numbers(counterpart: Counterpart, epsilon: float | None) -> Finding:
    """BN401: an export holds other numbers than folding this layer gives.

    A converter takes a batch norm into the weights and the bias of its neighbour, W*a and (b - mean)*a + beta, or
    leaves a*x + c. Its numbers are recomputed in float64 and must agree to a few units in the last place, quantised
    ones to half a step. If one of the known ways to get a fold wrong explains all of them, it is named: a bias that was
    dropped or not scaled, the wrong axis, another grouping, another epsilon.

    What to do: convert again with a converter that folds right, or leave the batch norm unfolded.

    Severity: error.
    """
    message = f"the export holds different numbers{_where(counterpart)}: {counterpart.sentence}"
    hint = remedies.remedy(counterpart.explanation, epsilon, remedies.EXPORT) or _CONVERT
    return _error("BN401", message, _evidence(counterpart), hint)


def other_input(counterpart: Counterpart) -> Finding:
    """BN402: an export's numbers are right for this layer, and its output is not.

    What comes into the layer differs already: another preprocessing of the input, another padding, a missing or added
    activation. The layers before it agree, so that the place is between them and this one.

    What to do: look at what the export does between the last layer that agrees and this one.

    Severity: error.
    """
    hint = "compare what comes before this layer in the export and in the model: padding, activation, preparation"
    return _error("BN402", f"{counterpart.sentence}{_where(counterpart)}", _evidence(counterpart), hint)


def inherited(counterpart: Counterpart) -> Finding:
    """BN403: a layer's output in the export differs because of an earlier layer.

    Its own numbers are right. It is listed so that every layer is accounted for; the layer named in the message is the
    one to look at.

    What to do: mend the earlier layer.

    Severity: error.
    """
    hint = f"mend {printable(counterpart.inherited)}, then verify again: this layer follows from it"
    return _error("BN403", counterpart.sentence, _evidence(counterpart), hint)


def wrong_place(counterpart: Counterpart, epsilon: float | None) -> Finding:
    """BN404: an export folded this layer where it must not be folded.

    The numbers are those of a right fold, in a place where it computes something else: across an activation, into an
    operation whose result is used without the batch norm as well, into a padded convolution after it, where zeros and
    not its shift are beyond the border, or a second time.

    What to do: convert again with a converter that looks at what is between the two operations.

    Severity: error.
    """
    hint = remedies.remedy(counterpart.explanation, epsilon, remedies.EXPORT) or _CONVERT
    return _error("BN404", f"{counterpart.sentence}{_where(counterpart)}", _evidence(counterpart), hint)


def other_kernel(wrong: WrongKernel) -> Finding:
    """BN405: a kernel of the model is another one in the export, or is not computed as in the model.

    Of layers without a batch norm: weights and bias must be a copy, to a rounding of the type, quantised ones to half a
    step; the operation is recomputed from them on the export's own input; stride, padding, activation and what comes
    before it are compared by running the model on the values that the export had there.

    What to do: convert the model again, and look at what was done to this layer.

    Severity: error.
    """
    where = f" in {printable(wrong.place)}" if wrong.place else ""
    evidence = {"place": wrong.place, **{one.observed: one.ratio for one in wrong.comparisons}}
    return _error("BN405", f"{printable(wrong.name)}{where}: {wrong.sentence}", evidence, _CONVERT)


def other_momentum(layer: str, own: float | None, counterpart: Counterpart) -> Finding:
    """BN406: a batch norm has another momentum in the port.

    Inference does not use it, and nothing is wrong with what the port computes. Who trains it on gets other moving
    statistics. PyTorch's momentum is the weight of the new batch, that of Keras and ONNX the weight of what was there:
    0.1 of the one is 0.9 of the other, and is easily copied as it stands. Both are given here as Keras has them.

    What to do: set it to 1 - momentum on the way from PyTorch to Keras, and back.

    Severity: warning.
    """
    message = f"momentum is {counterpart.momentum:g}{_where(counterpart)} and {own:g} in the model"
    misread = own is not None and counterpart.momentum is not None and abs(own + counterpart.momentum - 1) < _MISREAD
    if misread:
        message += ": 1 - momentum was taken for it, or the other way round"
    evidence = {"place": counterpart.place, "momentum": counterpart.momentum, "own": own}
    hint = f"give {printable(layer)} the momentum of the model before the port is trained"
    return Finding("BN406", Severity.WARNING, message, evidence, hint)


_MISREAD = 1e-6
"""By how much two momenta that were taken for each other may miss a sum of 1."""


def less_precise(message: str, wanted: str) -> Finding:
    """BN407: the export is computed with less precision than `--precision` asks for.

    Its runtime chooses a coarser type where the processor has one, or the file itself holds numbers of half precision
    or whole numbers. That is right within the bound of the coarser type, which hides what is smaller. An export that
    was not run may be computed in any type, so it does not pass either.

    What to do: set what the message names, in the program that deploys the export and for this gate alike; or export
    the model in the type that was asked for.

    Severity: error.
    """
    return _error("BN407", message, {"wanted": wanted}, "export in the type that was asked for, or ask for less")


def other_model(export: str, layers: int) -> Finding:
    """BN410: the export is not of this model.

    None of the batch norms is in it, and its weights have nothing in common with what they should be. It was made from
    another training run, another checkpoint or another model.

    What to do: convert this model again, or find the model that the export was made from.

    Severity: error.
    """
    message = (
        f"{printable(export)} is not the same model: none of the {layers} batch norms is in it, and its "
        "weights have nothing in common with what they should be"
    )
    return _error("BN410", message, {}, "convert this model again, or name the model that the export was made from")


def other_output(message: str, *, layers_right: bool) -> Finding:
    """BN411: an output of the export is not that of the model.

    Both got the same input. If every batch norm is right the difference arises after the last one, or only with the
    runtime's default optimisation, as the message says.

    What to do: look at what comes after the last layer that agrees.

    Severity: error.
    """
    right = "compare what comes after the last batch norm, in the model and in the export"
    return _error("BN411", message, {}, right if layers_right else "mend the layers that are named first")


FINDINGS: Mapping[str, Callable[..., Finding]] = MappingProxyType(
    {
        "BN401": other_numbers,
        "BN402": other_input,
        "BN403": inherited,
        "BN404": wrong_place,
        "BN405": other_kernel,
        "BN406": other_momentum,
        "BN407": less_precise,
        "BN410": other_model,
        "BN411": other_output,
    }
)


def _error(rule: str, message: str, evidence: Mapping[str, Any], hint: str) -> Finding:
    return Finding(rule, Severity.ERROR, message, evidence, hint)


def _where(counterpart: Counterpart) -> str:
    return f" in {printable(counterpart.place)}" if counterpart.place else ""


def _evidence(counterpart: Counterpart) -> dict[str, Any]:
    return {
        "place": counterpart.place,
        "causes": [cause.name for cause in counterpart.explanation.causes] if counterpart.explanation else [],
        **{one.observed: one.ratio for one in counterpart.comparisons},
    }
