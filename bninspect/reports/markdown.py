"""Markdown for the summary of a job: the verdict, failures first, then all models, then details to unfold.

GitHub takes 1 MiB of it, so it ends with whole parts before 900 KiB and says what is left out. Names from files can
neither begin Markdown nor HTML: what is not a plain word is written as character references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bninspect.records import Comparison, Finding, LayerReport, ModelReport, Report, Status
from bninspect.reports import counts, equivalence_words, words
from bninspect.reports.exports_table import ExportsTable, tables
from bninspect.safe_text import printable

LIMIT = 900 << 10
_RESERVE = 400
"""Bytes for the line that says what is left out."""
_WORDS = {
    Status.PASS: "✅ PASS",
    Status.FAIL: "❌ FAIL",
    Status.ERROR: "⛔ ERROR",
    Status.EMPTY: "⚪ EMPTY",
}
_FIRST = (Status.FAIL, Status.ERROR, Status.EMPTY, Status.PASS)
_MOST_REASONS = 20
# What can neither begin Markdown nor a link of GitHub's, at least where it stands.
_HARMLESS = re.compile(
    r"""[A-Za-z0-9 ,;()%=+'"/-]
    | (?<=[A-Za-z0-9])_(?=[A-Za-z0-9])
    | (?<!www)\.
    | :(?!/)""",
    re.VERBOSE | re.IGNORECASE,
)
_BEGINS_A_BLOCK = re.compile(r"\d+[.)](?:\s|$)|[^A-Za-z0-9]")


def render(report: Report) -> str:
    """Return the report as Markdown (GitHub's dialect) of at most 900 KiB."""
    kept: list[str] = []
    size, left = 0, 0
    for part in _parts(report):
        length = len(part.encode())
        if size + length > LIMIT - _RESERVE:
            left += 1
        else:
            kept.append(part)
            size += length
    if left:
        parts = words.plural(left, "part")
        kept.append(f"\n*{parts} left out: this summary ends at 900 KiB. The JSON report has it all.*\n")
    return "".join(kept)


def _parts(report: Report) -> Iterator[str]:
    """Return the parts, the most important first; each one is whole in itself, or a row of the table before it."""
    threshold = counts.fail_on(report)
    verdict = _WORDS[report.summary.status]
    yield f"## {verdict}: bninspect {escaped(report.command)}\n\n"
    yield f"{escaped(words.summary(report))}. Exit code {report.summary.exit_code}.\n"
    models = sorted(report.models, key=lambda model: _FIRST.index(model.status))
    for model in models:
        if model.status is not Status.PASS:
            yield "".join(_failure(model, threshold))
    for table in tables(report):
        yield _exports(table)
    yield "\n| | model | layers | worst error | runtime |\n|---|---|---:|---:|---|\n"
    for model in models:
        yield _row(model)
    for model in models:
        if model.layers:
            yield "".join(_details(model))
    yield "".join(_environment(report))


def _exports(table: ExportsTable) -> str:
    """Return the exports of one model by its layers, right ones of every export counted."""
    head = [code(table.model), *(code(export) for export in table.exports)]
    rows = [["verdict", *table.verdicts], *([code(name), *marks] for name, marks in table.open)]
    if right := len(table.rows) - len(table.open):
        rows.append([f"{words.plural(right, 'layer')} more", *(["ok"] * len(table.exports))])
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _failure(model: ModelReport, threshold: str) -> Iterator[str]:
    verdicts = "\n\n".join(map(escaped, words.verdicts(model)))
    yield f"\n### {_WORDS[model.status]}: {code(model.path)}\n\n{verdicts}\n\n"
    reasons = list(_reasons(model, threshold))
    yield from (f"- {reason}\n" for reason in reasons[:_MOST_REASONS])
    if len(reasons) > _MOST_REASONS:
        yield f"- and {words.plural(len(reasons) - _MOST_REASONS, 'more reason')}\n"


def _reasons(model: ModelReport, threshold: str) -> Iterator[str]:
    if model.error:
        yield from map(escaped, words.reasons_of(model.error))
    yield from (_said(finding) for finding in model.findings if counts.finding_counts(finding, model, threshold))
    yield from map(escaped, words.unverified(model))
    for layer in model.layers:
        yield from (f"{code(layer.name)}: {reason}" for reason in _layer_reasons(layer, model, threshold))


def _layer_reasons(layer: LayerReport, model: ModelReport, threshold: str) -> list[str]:
    comparison, findings = counts.reasons(layer, model, threshold)
    said = ["\n  - ".join(_mismatch(layer, comparison))] if comparison else []
    said += map(_said, findings)
    if not said and counts.loaded_differently(layer, model, threshold):
        said = [words.unspoken(layer)]
    return said


def _mismatch(layer: LayerReport, comparison: Comparison) -> Iterator[str]:
    findings = counts.about(comparison, layer)
    rules = "".join(f"{_rule(finding)} " for finding in findings)
    yield rules + escaped(words.measured(comparison))
    if comparison.worst:
        yield f"by hand: {code(words.by_hand(comparison.worst))}"
        yield f"runtime: {code(words.number(comparison.worst.actual))}"
    if layer.explanation:
        yield from (f"cause: {escaped(line)}" for line in words.causes(layer.explanation))
    yield from (f"hint: {escaped(words.message(finding.hint))}" for finding in findings if finding.hint)


def _said(finding: Finding) -> str:
    hint = f"\n  - hint: {escaped(words.message(finding.hint))}" if finding.hint else ""
    ignored = f" *(ignored: {escaped(words.message(finding.ignored))})*" if finding.ignored is not None else ""
    return f"{_rule(finding)} {escaped(words.message(finding.message))}{ignored}{hint}"


def _rule(finding: Finding) -> str:
    return f"**{escaped(printable(finding.rule)) or '?'}**"


def _row(model: ModelReport) -> str:
    worst = counts.worst_of(model)
    cells = (
        _WORDS[model.status],
        code(model.path),
        str(len(model.layers)),
        words.ratio(worst) if worst else "-",
        escaped(printable(model.runtime or "-")),
    )
    return f"| {' | '.join(cells)} |\n"


def _details(model: ModelReport) -> Iterator[str]:
    yield f"\n<details><summary>{_html_code(model.path)}: {words.plural(len(model.layers), 'layer')}</summary>\n\n"
    yield "| layer | status | channels | epsilon | worst error | findings |\n|---|---|---:|---:|---:|---|\n"
    for layer in map(equivalence_words.layer_alone, model.layers):
        worst = counts.worst_comparison(layer)
        cells = (
            code(layer.name),
            (layer.status.value if layer.status else "read") + (", known" if layer.known else ""),
            str(layer.channels),
            "unknown" if layer.epsilon is None else f"{layer.epsilon:g}",
            words.ratio(worst) if worst else "-",
            escaped(words.rules(layer)) or "-",
        )
        yield f"| {' | '.join(cells)} |\n"
    yield from _export(model)
    lines = list(_findings(model))
    yield "\n" if lines else ""
    yield from (f"- {line}\n" for line in lines)
    yield "\n</details>\n"


def _export(model: ModelReport) -> Iterator[str]:
    """Return what became of each layer in the export."""
    if model.against is None:
        return
    yield f"\n{escaped(words.verdicts(model)[-1])}\n\n"
    yield "| layer | in the export | where, and errors over bounds |\n|---|---|---|\n"
    for layer in model.layers:
        if layer.counterpart is not None:
            status, said = layer.counterpart.status.value, escaped(equivalence_words.said(layer.counterpart))
            yield f"| {code(layer.name)} | {status} | {said or '-'} |\n"


def _findings(model: ModelReport) -> Iterator[str]:
    """Return each rule's first finding, and how many layers share it."""
    found: dict[str, list[tuple[LayerReport, Finding]]] = {}
    for layer in model.layers:
        for finding in layer.findings:
            found.setdefault(finding.rule, []).append((layer, finding))
    for pairs in found.values():
        yield f"{escaped(words.some([layer for layer, _ in pairs]))}: {_said(pairs[0][1])}"
    yield from map(escaped, words.qualifications(model))
    yield from (escaped(words.message(note)) for note in model.notes)


def _environment(report: Report) -> Iterator[str]:
    yield "\n<details><summary>Environment</summary>\n\n"
    tool = {report.tool.get("name", "bninspect"): report.tool.get("version", "unknown")}
    for name, value in {**tool, **report.environment}.items():
        yield f"- {escaped(printable(str(name)))}: {escaped(words.message(str(value)))}\n"
    yield "\n</details>\n"


def code(text: str) -> str:
    """Return a name as code that nothing in it can end, in a table neither."""
    safe = printable(text)
    literal = safe == safe.strip() and safe and not set(safe) & set("`|<>&")
    return f"`{safe}`" if literal else _html_code(safe)


def _html_code(text: str) -> str:
    return f"<code>{_references(printable(text))}</code>"


def escaped(text: str) -> str:
    """Return one line of text that is nothing but text in Markdown and in HTML.

    A character reference is never structure (CommonMark 0.31, section 2.5). After `@` an invisible space keeps GitHub
    from telling a person of that name.
    """
    return _references(text).replace("&#64;", "&#64;&#8203;")


def _references(text: str) -> str:
    kept = {match.start() for match in _HARMLESS.finditer(text)}
    if _BEGINS_A_BLOCK.match(text):
        kept.discard(0)
    return "".join(
        character if index in kept or not (character.isascii() or character.isspace()) else f"&#{ord(character)};"
        for index, character in enumerate(text)
    )
