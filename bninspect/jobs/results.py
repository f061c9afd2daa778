"""What comes out of a run, model by model: kept in their order, or only counted where nobody asks for all of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bninspect import errors, safe_text
from bninspect.records import ModelReport, Shard, Summary, outcome
from bninspect.settings import Settings


class Results:
    """The reports of a run, or what a summary needs of them.

    Args:
        settings: what was asked for.
        kept: whether the reports themselves are kept. If not, memory does not grow with them.
        paths: whether their paths are kept.
        shard: the part of the models that is worked on; whose numbers are kept.
    """

    def __init__(self, settings: Settings, *, kept: bool, paths: bool = False, shard: Shard | None = None) -> None:
        self._settings = settings
        self._kept: dict[int, ModelReport] | None = {} if kept else None
        self._numbers: list[int] | None = [] if shard is not None and not kept else None
        """The place of each model in the list of all, in the order in which they ended."""
        self._tally = outcome.ReportTally()
        self._fitting: set[str] = set()
        self._any_layer = False
        self._nearest = ""
        self._complete = True
        self.paths: list[str] | None = [] if paths else None

    def add(self, number: int, model: ModelReport) -> None:
        """Take the report of a model, which is in that place of the list."""
        if self._kept is not None:
            self._kept[number] = model
        if self._numbers is not None:
            self._numbers.append(number)
        if self.paths is not None:
            self.paths.append(model.path)
        self._tally.add(model)
        if model.error is not None:
            self._complete = False
            return
        self._nearest = self._nearest or (model.left_out.nearest if model.left_out else "")
        names = [*(layer.name for layer in model.layers), *(calls.where for calls in model.unread)]
        self._any_layer = self._any_layer or bool(names)
        for pattern in self._settings.layers:
            if pattern not in self._fitting and any(safe_text.matches(name, (pattern,)) for name in names):
                self._fitting.add(pattern)

    @property
    def models(self) -> tuple[ModelReport, ...]:
        """The reports in the order of the list, if they are kept."""
        kept = self._kept or {}
        return tuple(kept[number] for number in sorted(kept))

    def placed(self, shard: Shard | None) -> Shard | None:
        """Return a part of the models with their places in the order in which a report has them."""
        if shard is None or self._numbers is None:
            return shard
        own = [number for number in self._numbers if number < len(shard.places)]
        return replace(shard, places=tuple(shard.places[number] for number in own))

    def summary(self, shard: Shard | None) -> Summary:
        """Return the counts."""
        return self._tally.summary(allow_empty=self._settings.allow_empty, shard=shard)

    def require_layers(self) -> None:
        """Raise UsageError if the patterns of layers do not fit what was read."""
        if self._tally.readable:
            missing = [pattern for pattern in self._settings.layers if pattern not in self._fitting]
            require_layers(
                missing if self._complete else (), self._settings, found=self._any_layer, nearest=self._nearest
            )


def require_layers(missing: Iterable[str], settings: Settings, *, found: bool, nearest: str = "") -> None:
    """Raise UsageError if the patterns leave no layer in, or if one of them fits none.

    Args:
        missing: patterns that fit none; none if not all models could be read, where they may have fitted.
        settings: with all of the patterns.
        found: whether there is a layer at all.
        nearest: the layer that a pattern which fits none is the most like.
    """
    for pattern in missing if found else ():
        raise errors.UsageError(
            f"no layer fits --layer {safe_text.printable(pattern)}",
            why="the other patterns fit, and a mistyped one would leave its layers unchecked",
            hint=_meant(nearest) or "bninspect inspect MODEL lists the names",
        )
    if not found and (settings.layers or settings.exclude_layers):
        raise errors.UsageError(
            "no layer fits the given patterns",
            why=" ".join(
                [
                    *(f"--layer {pattern}" for pattern in settings.layers),
                    *(f"--exclude-layer {pattern}" for pattern in settings.exclude_layers),
                ]
            ),
            hint=_meant(nearest) or "bninspect inspect MODEL lists the names",
        )


def _meant(nearest: str) -> str:
    return f"did you mean --layer {safe_text.printable(nearest)}?" if nearest else ""
