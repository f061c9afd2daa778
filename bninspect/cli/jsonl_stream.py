"""JSON Lines that are written while the run goes on: whatever ends it, what was found out until then is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import click

from bninspect import atomic_files
from bninspect.cli.messages import to_whoever_reads
from bninspect.errors import BninspectError
from bninspect.records import Heading, ModelReport, Report
from bninspect.reports import json_document


class Journal(ExitStack[None]):
    """Where the reports of models go as they end.

    Args:
        heading: what is known before any model.
        kept: reports of models that an earlier run has found out, which must not be lost if this one is cut short.
        paths: files to write; one that cannot be written is left to those who write the whole report at the end.
        aloud: whether to write to standard output.
        inputs: files that are being read.
    """

    def __init__(
        self,
        heading: Heading,
        kept: Iterable[ModelReport],
        paths: Sequence[Path],
        *,
        aloud: bool,
        inputs: Sequence[Path],
    ) -> None:
        super().__init__()
        self._streams: list[IO[str]] = []
        self._aloud = aloud
        self._lost = False
        """Whether a line could not be written."""
        head = json_document.first_line(heading)
        lines = head + "".join(map(json_document.model_line, kept))
        for path in paths:
            if is_ours(path):
                with contextlib.suppress(BninspectError, OSError):
                    atomic_files.write_whole(path, lines.encode(), force=True, inputs=inputs)
                    self._streams.append(self.enter_context(path.open("a", encoding="utf-8")))
        self._say(head)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what could not be written is still in a buffer, and was told
            super().__exit__(None, None, None)

    def ended(self, model: ModelReport) -> None:
        """Write the report of one model, so that it stays whatever happens next."""
        if not (self._streams or self._aloud):
            return
        line = json_document.model_line(model)
        for stream in self._streams:
            try:
                stream.write(line)
                stream.flush()
            except OSError:
                self._lost = True
        self._say(line)

    def covers(self, outputs: Sequence[tuple[str, str]]) -> bool:
        """Return whether all that was asked for is written model by model, so that no report need be kept whole."""
        return self._aloud and len(self._streams) == len(outputs)

    def finish(self, report: Report) -> bool:
        """Write the last line behind the models of each file, and return whether that could be done."""
        line = json_document.last_line(report)
        try:
            for stream in self._streams:
                stream.write(line)
                stream.flush()
        except OSError:
            return False
        return not self._lost

    def _say(self, line: str) -> None:
        if self._aloud:
            with to_whoever_reads():
                click.echo(line, nl=False)  # which flushes


def is_ours(path: Path) -> bool:
    """Return whether a file may be begun anew at once: it is not there, empty, or JSON Lines that bninspect wrote.

    Anything else, a model for instance, is replaced only at the end and only if that is allowed then.
    """
    try:
        if not path.is_file():  # a pipe would have to be waited for
            return not path.exists()
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return False
    return not head or head.startswith(b'{"schema_version":')
