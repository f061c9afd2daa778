"""A list of models in equal parts for several machines, and their reports joined again."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bninspect.errors import UsageError
from bninspect.records import ModelReport, Report, Shard, outcome
from bninspect.safe_text import printable
from bninspect.settings import Part

Named = tuple[str, Report]
"""A report and the file it came from."""
HARMLESS = frozenset({"jobs", "dask", "cache", "cache_size", "timeout", "max_memory", "shard"})
"""Options in which the parts of one run may differ."""


def chosen(models: Sequence[str], part: Part | None) -> tuple[tuple[str, ...], Shard | None]:
    """Return the models of one part, in their order, and what its report says of it.

    Parts differ by at most one model, and no model is in two of them. Dealt out in the order of the paths' digests,
    so that neighbours, which are often of one size, are spread.

    Args:
        models: the whole list, by paths that are the same on every machine.
        part: None for all of them.
    """
    if part is None:
        return tuple(models), None
    dealt = sorted(models, key=_digest)
    mine = set(dealt[part.index - 1 :: part.count])
    places = tuple(place for place, path in enumerate(models) if path in mine)
    listing = _digest("\0".join(sorted(models)))
    return tuple(models[place] for place in places), Shard(part.index, part.count, len(models), listing, places)


def merge(reports: Sequence[Named]) -> Report:
    """Return one report of the models of all, with one exit code: parts in the order of a run without them.

    Raises:
        UsageError: they are not of the same command, version and options; a part is missing there twice or incomplete;
            or a model is in two of them.
    """
    first_path, first = reports[0]
    for path, report in reports[1:]:
        _require_same(first_path, first, path, report)
    if any(report.shard for _, report in reports):
        models = _as_one(_in_order(reports))
    else:
        models = tuple(model for _, report in reports for model in report.models)
    twice = [place[0] for place, number in Counter(model.place for model in models).items() if number > 1]
    if twice:
        contents = {model.content for model in models if model.place[0] == twice[0]}
        raise UsageError(
            f"{printable(twice[0])} is in two of the reports",
            why="which of its results counts cannot be told"
            if len(contents) == 1
            else "it was not the same file: by its digest or version it has changed between the runs",
            hint="give every model to one run only",
        )
    threshold = str(_value(first, "fail_on") or "error")
    models = tuple(outcome.recount(model, threshold) for model in models)
    allowed = first.options.get("allow_empty")
    return replace(
        first,
        environment=_together([report for _, report in reports]),
        models=models,
        summary=outcome.count(models, allow_empty=bool(allowed and allowed.value)),
        shard=None,
    )


def _as_one(parts: Sequence[Named]) -> tuple[ModelReport, ...]:
    """Return the models of all parts as a run without them lists them. Raises UsageError if a part lacks some."""
    placed: list[tuple[int, ModelReport]] = []
    behind: list[ModelReport] = []
    for path, report in parts:
        places = report.shard.places if report.shard else ()
        if len(report.models) < len(places):
            raise UsageError(
                f"{printable(path)} holds {len(report.models)} of its {len(places)} models",
                why="nothing is known of the other models",
                hint="take the report as bninspect wrote it, or run this part again",
            )
        placed += zip(places, report.models, strict=False)
        behind += report.models[len(places) :]
    return (*(model for _, model in sorted(placed, key=lambda pair: pair[0])), *behind)


def _require_same(first_path: str, first: Report, path: str, report: Report) -> None:
    names = sorted({*first.options, *report.options} - HARMLESS)
    asked: list[tuple[str, Any, Any]] = [("command", first.command, report.command)]
    asked += [("version", first.tool.get("version"), report.tool.get("version"))]
    asked += [(f"option {name}", _value(first, name), _value(report, name)) for name in names]
    for name, one, other in asked:
        if one != other:
            raise UsageError(
                f"{printable(path)} and {printable(first_path)} do not belong together",
                why=f"{name} is {printable(str(other), 80)} and {printable(str(one), 80)}",
                hint="run all parts with the same version and options",
            )


def _value(report: Report, name: str) -> Any:
    option = report.options.get(name)
    return option.value if option else None


def _in_order(reports: Sequence[Named]) -> list[Named]:
    """Return the parts of a list of models in their order. Raises UsageError unless each is there once."""
    _, first = reports[0]
    parts: dict[int, Named] = {}
    for path, report in reports:
        if report.shard is None or first.shard is None:
            raise UsageError(
                f"{printable(path if report.shard is None else reports[0][0])} is not a part, as the other reports are",
                why="it was written without --shard",
            )
        part = report.shard
        if (part.count, part.digest) != (first.shard.count, first.shard.digest):
            raise UsageError(
                f"{printable(path)} is a part of another list of models",
                why=f"{part.models} models in {part.count} parts, not {first.shard.models} in {first.shard.count}",
                hint="give every part the same models, by the same paths",
            )
        if part.index in parts:
            raise UsageError(f"part {part.index} is there twice", why=f"{printable(parts[part.index][0])} is it too")
        parts[part.index] = (path, report)
    assert first.shard is not None  # noqa: S101 - checked above
    missing = [index for index in range(1, first.shard.count + 1) if index not in parts]
    if missing:
        listed = ", ".join(map(str, missing[:10]))
        raise UsageError(
            f"{len(missing)} of {first.shard.count} parts missing: {listed}",
            why="without it nothing is known of its models",
            hint=f"bninspect {first.command} ... --shard {missing[0]}/{first.shard.count} -o json=FILE",
        )
    return [parts[index] for index in sorted(parts)]


def _together(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the environments as one: where they differ, all that there were."""
    names = dict.fromkeys(name for report in reports for name in report.environment)
    together = {}
    for name in names:
        values = [report.environment[name] for report in reports if name in report.environment]
        distinct = [value for index, value in enumerate(values) if value not in values[:index]]
        together[name] = distinct[0] if len(distinct) == 1 else distinct
    return together


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
