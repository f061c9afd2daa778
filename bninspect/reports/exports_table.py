"""One table of the exports of a model by its layers, where one model was held against several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bninspect.records import LayerStatus, ModelReport, Report
from bninspect.safe_text import printable

_MARKS = {LayerStatus.VERIFIED: "ok", LayerStatus.MISMATCH: "FAIL", LayerStatus.UNVERIFIED: "?"}
_NAME = 200


@dataclass(frozen=True)
class ExportsTable:
    """What became of each layer in each export."""

    model: str
    exports: tuple[str, ...]
    verdicts: tuple[str, ...]
    """Of each export: pass, fail or error."""
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """Of each layer its name, and a mark for each export: `ok`, `FAIL`, `?`; empty where it was not looked at."""

    @property
    def open(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The layers that are not right in every export."""
        return tuple((name, marks) for name, marks in self.rows if set(marks) != {"ok"})


def tables(report: Report) -> Iterator[ExportsTable]:
    """Yield a table for each model that was held against several exports."""
    groups: dict[str, list[ModelReport]] = {}
    for model in report.models:
        if model.against is not None:
            groups.setdefault(model.path, []).append(model)
    for path, models in groups.items():
        if len(models) > 1:
            names = dict.fromkeys(layer.name for model in models for layer in model.layers)
            marks = [_marks(model) for model in models]
            yield ExportsTable(
                printable(path, _NAME),
                tuple(printable(model.against.path, _NAME) for model in models if model.against is not None),
                tuple(model.status.value for model in models),
                tuple((printable(name, _NAME), tuple(mark.get(name, "") for mark in marks)) for name in names),
            )


def _marks(model: ModelReport) -> dict[str, str]:
    return {
        layer.name: _MARKS[layer.counterpart.status if layer.counterpart else LayerStatus.UNVERIFIED]
        for layer in model.layers
    }
