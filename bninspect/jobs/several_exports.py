"""The exports that one model is held against: files, and the models in folders; each gets a verdict of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from bninspect import errors
from bninspect.inspection import description
from bninspect.jobs import named_models, processes
from bninspect.jobs.process_pairs import ProcessPair
from bninspect.records import Checkpoint, Export, ModelReport, Status, outcome


@dataclass(frozen=True)
class Exports:
    """The exports of a run in their order: what was read of each, or why it could not be."""

    every: tuple[tuple[str, Checkpoint | errors.BninspectError], ...]

    @property
    def readable(self) -> tuple[Checkpoint, ...]:
        """Those that could be read."""
        return tuple(one for _, one in self.every if isinstance(one, Checkpoint))

    def reports(self, checkpoint: Checkpoint, found: Sequence[ModelReport]) -> tuple[ModelReport, ...]:
        """Return a report for each export, `found` for those that could be read.

        Where the model itself could not be run there is one report for all of them.
        """
        if any(model.error is not None and model.against is None for model in found):
            return tuple(found)
        waiting = list(found)
        return tuple(
            waiting.pop(0) if isinstance(one, Checkpoint) else _unread(checkpoint, path, one)
            for path, one in self.every
        )


def read(pair: ProcessPair) -> Exports:
    """Read the exports; a folder that is not a model stands for those in it, without what is not an export.

    Raises:
        UsageError: a single export cannot be held against any model.
        BninspectError: a single export cannot be read.
    """
    from bninspect.equivalence import running

    asked = pair.settings.against
    found = named_models.gather(asked, partial(processes.search, settings=pair.settings, around=pair.around))
    every: list[tuple[str, Checkpoint | errors.BninspectError]] = []
    for path in found.models:
        try:
            export = pair.read(path)
            running.require_graph(export)
        except errors.BninspectError as error:
            if len(found.models) == 1:
                raise
            every.append((path, error))
        else:
            every.append((path, export))
    every += [(path, named_models.nothing(path)) for path in found.vain]
    if not every:
        raise named_models.nothing(asked[0])
    return Exports(tuple(every))


def _unread(checkpoint: Checkpoint, path: str, error: errors.BninspectError) -> ModelReport:
    """Return the report on an export that could not be read."""
    export = Export(path, None, 0, "", "", None, same=True, open=(str(error),))
    model = description.model(checkpoint)
    return replace(model, status=Status.ERROR, error=outcome.problem(error), against=export)
