"""JUnit XML, which every CI system draws: a suite is a model, a case a check of one of its layers.

A failure is a mismatch or a finding that reaches `--fail-on`; an error is what could not be checked; skipped is what
the user's options leave out of the verdict, and a model in which there is nothing to check. Pure ASCII.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from bninspect.records import (
    Comparison,
    Counterpart,
    Finding,
    LayerReport,
    LayerStatus,
    ModelReport,
    Report,
    Status,
    Unread,
)
from bninspect.reports import counts as counting
from bninspect.reports import equivalence_words, words
from bninspect.safe_text import printable

_LONGEST_PATH = 1000


@dataclass(frozen=True)
class JunitCase:
    """One test case: passed if it has no outcome."""

    name: str
    outcome: str = ""
    """failure, error or skipped; empty for passed."""
    kind: str = ""
    """What the outcome is called: a rule, `unverified`, the class of an error."""
    message: str = ""
    details: tuple[str, ...] = ()


def render(report: Report) -> str:
    """Return the report as JUnit XML."""
    threshold = counting.fail_on(report)
    places = Counter(model.path for model in report.models)
    suites = [(model, list(_cases(model, threshold))) for model in report.models]
    root = ET.Element("testsuites", name=f"bninspect {report.command}")
    _count(root, [case for _, cases in suites for case in cases], sum(model.seconds for model in report.models))
    for model, cases in suites:
        suite = ET.SubElement(root, "testsuite", name=_suite(model, several=places[model.path] > 1))
        _count(suite, cases, model.seconds)
        _properties(suite, model)
        for case in cases:
            _add(suite, case, printable(model.path, _LONGEST_PATH))
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="us-ascii", xml_declaration=True)
    return text.decode("ascii") + "\n"


def _suite(model: ModelReport, *, several: bool) -> str:
    """Return the name of a suite; where one model was held against several exports, with the export in it."""
    name = printable(model.path, _LONGEST_PATH)
    return f"{name} against {printable(model.place[1], _LONGEST_PATH)}" if several and model.against else name


def _count(element: ET.Element, cases: list[JunitCase], seconds: float) -> None:
    outcomes = [case.outcome for case in cases]
    counts = {"tests": len(cases), "failures": outcomes.count("failure"), "errors": outcomes.count("error")}
    element.attrib.update({name: str(count) for name, count in counts.items()})
    element.attrib.update(skipped=str(outcomes.count("skipped")), time=f"{seconds:.3f}")


def _properties(suite: ET.Element, model: ModelReport) -> None:
    known = {
        "status": model.status.value,
        "format": model.format,
        "writer": model.writer,
        "sha256": model.sha256,
        "runtime": model.runtime,
        "evidence": model.evidence.value if model.evidence else None,
        "against": model.against.path if model.against else None,
        "against.sha256": model.against.sha256 if model.against else None,
        "against.runtime": model.against.runtime if model.against else None,
    }
    properties = ET.SubElement(suite, "properties")
    for name, value in known.items():
        if value:
            ET.SubElement(properties, "property", name=name, value=printable(value))


def _add(suite: ET.Element, case: JunitCase, path: str) -> None:
    element = ET.SubElement(suite, "testcase", classname=path, name=case.name)
    text = "\n".join(case.details)
    if case.outcome == "skipped":
        ET.SubElement(element, "skipped", message=case.message)
    elif case.outcome:
        ET.SubElement(element, case.outcome, type=case.kind, message=case.message).text = text
    elif text:
        ET.SubElement(element, "system-out").text = text


def _cases(model: ModelReport, threshold: str) -> Iterator[JunitCase]:
    if model.error or not (model.layers or any(not calls.known for calls in model.unread)):
        yield _without_layers(model)
        return
    cases = [case for layer in model.layers for case in _layer_cases(layer, model, threshold)]
    cases.extend(map(_unread_case, model.unread))
    cases.extend(_finding_case("model", finding, model, threshold) for finding in model.findings)
    if model.status is Status.FAIL and not any(case.outcome == "failure" for case in cases):
        cases.insert(0, JunitCase("model: verdict", "failure", "fail", "a finding reaches --fail-on"))
    yield from cases


def _without_layers(model: ModelReport) -> JunitCase:
    message = words.verdict(model)
    if model.status is Status.EMPTY or model.error is None:
        return JunitCase("model", "skipped", message=message)
    return JunitCase("model", "error", printable(model.error.kind), message, tuple(words.reasons_of(model.error)))


def _unread_case(calls: Unread) -> JunitCase:
    name, said = f"{printable(calls.where)}: read", words.unread(calls)
    if calls.known:
        return JunitCase(name, "skipped", message=f"{words.message(calls.known)}: {said}")
    return JunitCase(name, "error", "unread", said)


def _layer_cases(layer: LayerReport, model: ModelReport, threshold: str) -> Iterator[JunitCase]:
    name = printable(layer.name)
    export = _export_case(name, layer, layer.counterpart, model, threshold) if layer.counterpart else None
    layer = equivalence_words.layer_alone(layer)
    cases = [_comparison_case(name, layer, comparison, model, threshold) for comparison in layer.comparisons]
    cases += [_finding_case(name, finding, model, threshold) for finding in layer.findings if not _told(finding, layer)]
    fails = counting.mismatch_counts(layer, model, threshold)
    if layer.status is LayerStatus.UNVERIFIED:
        said = words.message(layer.reason)
        known = JunitCase(f"{name}: verified", "skipped", message=f"{words.message(layer.known)}: {said}")
        cases.append(known if layer.known else JunitCase(f"{name}: verified", "error", "unverified", said))
    elif fails and all(case.outcome != "failure" for case in cases):
        cases.append(JunitCase(f"{name}: verified", "failure", "mismatch", words.unspoken(layer)))
    if all(case.outcome == "skipped" for case in cases):
        yield JunitCase(f"{name}: read")
    yield from cases
    if export:
        yield export


def _export_case(name: str, layer: LayerReport, found: Counterpart, model: ModelReport, threshold: str) -> JunitCase:
    """Return the case of what became of a layer in the export."""
    name = f"{name}: in the export {printable(model.against.path if model.against else '', _LONGEST_PATH)}"
    about = [finding for finding in layer.findings if equivalence_words.about_export(finding)]
    said = [words.message(finding.message) for finding in about] or [words.message(found.sentence)]
    details = [f"place: {equivalence_words.where(found)}"] if found.place else []
    for comparison in found.comparisons:
        channel = f", channel {comparison.worst.channel}" if comparison.worst and comparison.violations else ""
        details.append(f"{comparison.observed}: measured {words.ratio(comparison)}{channel}")
    details += [f"cause: {line}" for line in equivalence_words.reasons(found)]
    details += [f"hint: {words.message(finding.hint)}" for finding in about if finding.hint]
    if found.status is LayerStatus.VERIFIED:
        return JunitCase(name, details=tuple(details))
    if layer.known or (found.status is LayerStatus.MISMATCH and not counting.mismatch_counts(layer, model, threshold)):
        why = words.message(layer.known) or "not counted because of --fail-on never"
        return JunitCase(name, "skipped", message=f"{why}: {said[0]}")
    if found.status is LayerStatus.UNVERIFIED:
        return JunitCase(name, "error", "unverified", said[0], tuple(details))
    rules = " ".join(dict.fromkeys(printable(finding.rule) for finding in about))
    return JunitCase(name, "failure", rules or "mismatch", said[0], tuple(details))


def _told(finding: Finding, layer: LayerReport) -> bool:
    """Return whether a finding says what the case of a comparison says."""
    return any(
        finding in counting.about(comparison, layer) for comparison in layer.comparisons if not comparison.agrees
    )


def _comparison_case(
    name: str, layer: LayerReport, comparison: Comparison, model: ModelReport, threshold: str
) -> JunitCase:
    name = f"{name}: {printable(comparison.title)}"
    details = tuple(_figures(comparison))
    if layer.explanation and not comparison.agrees:
        details += tuple(f"cause: {line}" for line in words.causes(layer.explanation))
    if comparison.agrees:
        return JunitCase(name, details=details)
    said = words.measured(comparison)
    if not counting.mismatch_counts(layer, model, threshold):
        why = words.message(layer.known) or "not counted because of --fail-on never"
        return JunitCase(name, "skipped", message=f"{why}: {said}")
    rules = " ".join(printable(finding.rule) for finding in counting.about(comparison, layer))
    return JunitCase(name, "failure", rules or "mismatch", said, details)


def _figures(comparison: Comparison) -> Iterator[str]:
    yield f"measured: {words.ratio(comparison)}, {comparison.violations:,} of {comparison.elements:,} values over it"
    worst = comparison.worst
    if worst is None:
        return
    yield f"channel: {worst.channel}, index {list(worst.index)}"
    if comparison.reference in counting.OUTPUTS:
        yield f"by hand: {words.by_hand(worst)}"
    else:
        yield f"expected: {words.number(worst.expected)}"
    yield f"runtime: {words.number(worst.actual)}"
    if worst.bound is not None:
        yield f"bound: {worst.bound:.3g}"
    if comparison.channels:
        yield f"channels with violations, worst first: {', '.join(map(str, comparison.channels))}"


def _finding_case(where: str, finding: Finding, model: ModelReport, threshold: str) -> JunitCase:
    name, rule, said = f"{where}: {printable(finding.rule)}", printable(finding.rule), words.message(finding.message)
    if finding.ignored is not None:
        return JunitCase(name, "skipped", rule, f"ignored ({words.message(finding.ignored)}): {said}")
    hint = (f"hint: {words.message(finding.hint)}",) if finding.hint else ()
    if counting.finding_counts(finding, model, threshold):
        return JunitCase(name, "failure", rule, said, (f"severity: {finding.severity}", *hint))
    return JunitCase(name, details=(f"{finding.severity}: {said}", *hint))
