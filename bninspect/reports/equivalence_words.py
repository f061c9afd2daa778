"""What every output format says of an export that a model was held against, in the same words."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from bninspect.records import Counterpart, Evidence, Finding, LayerReport, LayerStatus, ModelReport, Severity, Status
from bninspect.records import outcome as summary
from bninspect.records.limit_words import of_limit, of_limits
from bninspect.safe_text import printable

RULES = ("BN401", "BN402", "BN403", "BN404", "BN405", "BN406", "BN407", "BN410", "BN411")
_MOST_TIES = 4


def alone(model: ModelReport, fail_on: str) -> ModelReport:
    """Return the report of a model as if it had not been held against anything; `fail_on` is that of the command."""
    if model.against is None:
        return model
    layers = tuple(map(layer_alone, model.layers))
    findings = tuple(finding for finding in model.findings if not about_export(finding))
    status = summary.model_status(layers, findings, fail_on, model.unread)
    return replace(model, layers=layers, status=status, findings=findings, against=None)


def status(model: ModelReport, fail_on: str) -> Status:
    """Return the verdict on the export alone, whatever its model is like."""
    layers = [
        replace(
            layer,
            status=layer.counterpart.status if layer.counterpart else LayerStatus.UNVERIFIED,
            findings=tuple(filter(about_export, layer.findings)),
            counterpart=None,
        )
        for layer in model.layers
    ]
    return summary.model_status(layers, filter(about_export, model.findings), fail_on, unproved=model.unproved)


def shippable(model: ModelReport, fail_on: str) -> str:
    """Return the answer to the question that people have: can this be shipped?"""
    match status(model, fail_on):
        case Status.PASS if model.against is not None and model.against.evidence is Evidence.NUMBERS:
            return "can this ship?  as far as numbers say: what feeds what, and what is computed, was not compared"
        case Status.PASS:
            proved = "every kernel and batch norm is proved, and what lies between them"
            if model.against is not None and model.against.condition:
                return f"can this ship?  yes, if {printable(model.against.condition, 500)}. {proved.capitalize()}"
            return f"can this ship?  yes: {proved}"
        case Status.FAIL:
            return f"can this ship?  no: {_wrong(model)}"
    unknown = [
        f"{printable(layer.name)}: {printable(layer.counterpart.sentence, 200)}"
        for layer in model.layers
        if layer.counterpart is not None and layer.counterpart.status is LayerStatus.UNVERIFIED
    ]
    reasons = [*(printable(reason, 500) for reason in model.unproved), *unknown]
    return f"can this ship?  cannot say, because {reasons[0] if reasons else 'nothing was compared'}"


def _wrong(model: ModelReport) -> str:
    """Return what is wrong with an export that fails."""
    right = all(layer.counterpart and layer.counterpart.status is LayerStatus.VERIFIED for layer in model.layers)
    said = [one for one in model.findings if about_export(one) and one.severity is Severity.ERROR and not one.ignored]
    if right and said and all(one.rule == "BN407" for one in said):
        return printable(said[0].message, 500)
    return "the export does not compute what the model does"


def layer_alone(layer: LayerReport) -> LayerReport:
    """Return the report of a layer with its status in its own runtime, whatever the export holds."""
    if layer.counterpart is None:
        return layer
    findings = tuple(finding for finding in layer.findings if not about_export(finding))
    own = layer.counterpart.own
    reason = layer.reason if own is LayerStatus.UNVERIFIED else ""
    return replace(layer, status=own, reason=reason, findings=findings, counterpart=None)


def about_export(finding: Finding) -> bool:
    """Return whether a finding is about the export, not about the model itself."""
    return finding.rule in RULES


def verdict(model: ModelReport) -> str:
    """Return how many batch norms of a model are in its export with the right numbers, and how; empty without one."""
    export = model.against
    if export is None:
        return ""
    found = [layer.counterpart for layer in model.layers if layer.counterpart is not None]
    right = Counter(one.how for one in found if one.status is LayerStatus.VERIFIED)
    how = ", ".join(f"{number} {_kind(kind, number)}" for kind, number in right.items())
    ran = f" in {printable(export.runtime)}" if export.runtime else ", which was not run"
    norms = "batch norm is" if len(model.layers) == 1 else "batch norms are"
    text = f"{right.total()} of {len(model.layers)} {norms} in the export with the right numbers"
    return f"{text}{': ' + how if how else ''}{ran}"


def _kind(kind: str, number: int) -> str:
    if kind == "batch norm":
        return "as a batch norm" if number == 1 else "as batch norms"
    return {"folded": "folded and matched", "scale and shift": "as scale and shift"}.get(kind, f"{kind} and matched")


def worst(model: ModelReport) -> str:
    """Return how near right batch norms and the outputs are to their bounds; empty if nothing was compared."""
    counterparts = {layer.name: layer.counterpart for layer in model.layers if layer.counterpart is not None}
    numbers = [
        (comparison.ratio, name)
        for name, counterpart in counterparts.items()
        for comparison in counterpart.comparisons
        if comparison.observed != "output"
        and comparison.ratio is not None
        and counterpart.status is LayerStatus.VERIFIED
    ]
    parts = []
    if numbers:
        ratio, name = max(numbers)
        parts.append(f"right batch norms: weights and biases at most {of_limit(ratio)}, at {printable(name)}")
    proved = [
        compared.ratio
        for counterpart in counterparts.values()
        for compared in counterpart.comparisons
        if compared.observed == "output" and compared.ratio is not None and counterpart.status is LayerStatus.VERIFIED
    ]
    if proved:
        parts.append(f"each recomputed on the export's own input: at most {of_limit(max(proved))}")
    fast = (
        [output.ratio for output in model.against.outputs if output.observed == "optimised output"]
        if model.against
        else []
    )
    known = [ratio for ratio in fast if ratio is not None]
    if known:
        parts.append(f"the optimised output: {of_limit(max(known))}")
    return "; ".join(parts)


def where(counterpart: Counterpart) -> str:
    """Return in which operation of the export a batch norm is; empty if no place was found."""
    place = printable(counterpart.place)
    known = {"folded": f"folded into {place}", "folded forward": f"folded into {place} after it"}
    return known.get(counterpart.how, place)


def said(counterpart: Counterpart) -> str:
    """Return what became of a batch norm, in one line."""
    if counterpart.status is LayerStatus.UNVERIFIED:
        return f"unverified: {printable(counterpart.sentence, 500)}"
    ratios = of_limits({compared.observed: compared.ratio for compared in counterpart.comparisons})
    if counterpart.inherited:
        return f"wrong only because of {printable(counterpart.inherited)}: {ratios}"
    return f"{where(counterpart)}  {ratios}".strip()


def reasons(counterpart: Counterpart) -> list[str]:
    """Return what explains a mismatch: the likeliest cause and those that fit as well. Empty if there is none."""
    if counterpart.status is not LayerStatus.MISMATCH or counterpart.inherited:
        return []
    explanation = counterpart.explanation
    if explanation is None or not explanation.causes:
        unknown = explanation is None or explanation.tried == 0
        return [printable(counterpart.sentence if unknown or not explanation else explanation.sentence, 500)]
    first, *others = explanation.causes
    lines = [
        printable(first.sentence, 500),
        *(f"or {printable(further.sentence, 500)}" for further in others[:_MOST_TIES]),
    ]
    if len(others) > _MOST_TIES:
        left = len(others) - _MOST_TIES
        lines.append(f"or {left:,} other{'' if left == 1 else 's'} that fit as well (--json lists them)")
    return lines
