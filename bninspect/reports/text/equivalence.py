"""What became of every batch norm of a model in an export of it, for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from bninspect.records import Counterpart, LayerReport, LayerStatus, ModelReport, Severity, Status
from bninspect.reports import Looks, equivalence_words
from bninspect.reports.text.closing import VERDICTS
from bninspect.reports.text.lines import Line, line
from bninspect.reports.words import plural
from bninspect.safe_text import printable

_INDENT = " " * 6
_WORDS = {
    LayerStatus.VERIFIED: ("ok    ", "green"),
    LayerStatus.MISMATCH: ("FAIL  ", "bold red"),
    LayerStatus.UNVERIFIED: ("ERROR ", "bold magenta"),
}
_MOST_RIGHT = 8
"""Right batch norms that are shown one by one beside wrong ones; of more only the number is said."""


def lines(model: ModelReport, looks: Looks, fail_on: str) -> Iterator[Line]:
    """Return the lines about the export: one for each batch norm, failures and their causes first, then the verdict."""
    export = model.against
    if export is None:
        return
    if looks.verbosity >= 0:
        writer = printable(export.writer) or "unknown writer"
        yield line("against ", (printable(export.path), "bold"), f"  {writer}, {export.format}")
    status = equivalence_words.status(model, fail_on)
    passes = status is Status.PASS and model.status is not Status.PASS
    word, style = ("ok", "green") if passes else VERDICTS[status]
    place = f"{printable(model.path)} against {printable(export.path)}: " if looks.verbosity < 0 else ""
    verdict = line((f"{word:<6}", style), place + equivalence_words.verdict(model))
    if looks.verbosity < 0 and not passes:
        yield verdict
    yield from _found(model, looks) if export.same else _another(model)
    if looks.verbosity >= 0:
        yield verdict
    yield line((_INDENT, ""), (equivalence_words.shippable(model, fail_on), "bold"))


def _another(model: ModelReport) -> Iterator[Line]:
    for finding in model.findings:
        if finding.rule == "BN410" and finding.ignored is None:
            yield line(f"{_INDENT}{printable(finding.message, 500)}")


def _found(model: ModelReport, looks: Looks) -> Iterator[Line]:
    yield from _each(model.layers, looks)
    for finding in model.findings:
        if equivalence_words.about_export(finding) and finding.ignored is None and finding.severity is Severity.ERROR:
            yield line(("error   ", "red"), f"{finding.rule}: {printable(finding.message, 500)}")
            yield line(f"{_INDENT}  hint: {printable(finding.hint, 500)}")
    for reason in model.unproved:
        yield line(("ERROR ", "bold magenta"), f"not proved: {printable(reason, 500)}")
    if looks.verbosity >= 0 and (worst := equivalence_words.worst(model)):
        yield line(_INDENT + worst)
    if looks.verbosity >= 0 and model.against:
        for note in model.against.notes:
            yield line((f"{_INDENT}notes: ", "cyan"), printable(note, 500))


def _each(layers: tuple[LayerReport, ...], looks: Looks) -> Iterator[Line]:
    """Return one line for every batch norm, those with one cause together: accounting for each of them is the point."""
    width = max(len(printable(layer.name)) for layer in layers)
    groups: dict[tuple[str, ...], list[tuple[LayerReport, Counterpart]]] = {}
    right: list[tuple[LayerReport, Counterpart]] = []
    for layer in layers:
        found = layer.counterpart
        if found is None:
            continue
        if found.status is LayerStatus.VERIFIED:
            right.append((layer, found))
        else:
            causes = tuple(equivalence_words.reasons(found))
            groups.setdefault(causes if looks.verbosity < 1 else (*causes, layer.name), []).append((layer, found))
    for pairs in groups.values():
        for layer, found in pairs:
            yield _line(layer, found, width)
        yield from _causes(equivalence_words.reasons(pairs[0][1]), len(pairs))
        yield from _hint(pairs[0][0], pairs[0][1])
    if looks.verbosity < 0:
        return
    if looks.verbosity == 0 and groups and len(right) > _MOST_RIGHT:
        yield line(("ok    ", "green"), f"{plural(len(right), 'other batch norm')} (-v lists them)")
        return
    for layer, found in right:
        yield _line(layer, found, width)


def _line(layer: LayerReport, found: Counterpart, width: int) -> Line:
    word, style = _WORDS[found.status]
    return line((word, style), (f"{printable(layer.name):<{width}}", "bold"), f"  {equivalence_words.said(found)}")


def _hint(layer: LayerReport, found: Counterpart) -> Iterator[Line]:
    """Return what to do about a layer that is wrong by itself."""
    acts = (
        finding.hint
        for finding in layer.findings
        if found.status is LayerStatus.MISMATCH and not found.inherited and equivalence_words.about_export(finding)
    )
    for act in acts:
        yield line((f"{_INDENT}hint       ", "bold"), printable(act, 500))


def _causes(reasons: list[str], layers: int) -> Iterator[Line]:
    for number, reason in enumerate(reasons):
        label = (f"{_INDENT}       ", "") if number else (f"{_INDENT}cause      ", "bold")
        many = f" in {layers} layers" if layers > 1 and not number else ""
        yield line(label, (reason.replace("or ", "or  ", 1) if number else reason) + many)
