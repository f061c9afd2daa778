"""`-o html=FOLDER/`: a page for each model, written as it ends, and at the end an index of them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from bninspect import atomic_files
from bninspect.cli.messages import show_error
from bninspect.errors import BninspectError, UsageError
from bninspect.records import Heading, ModelReport, Report, Status, outcome
from bninspect.safe_text import printable

_INDEX = "index.html"
_PAGES = "models"
_FIRST = (Status.FAIL, Status.ERROR, Status.EMPTY, Status.PASS)


class HtmlFolder(ExitStack[None]):
    """A folder with the pages of a run.

    Args:
        path: the folder; it is made if it is not there. One that holds anything but such pages is refused.
        heading: what is known before any model.
        inputs: files that are being read.

    Raises UsageError if the folder is not to be written to.
    """

    def __init__(self, path: Path, heading: Heading, inputs: Sequence[Path]) -> None:
        super().__init__()
        self._path, self._heading, self._inputs = path, heading, inputs
        self._number = self._passed = 0
        self._failed: BninspectError | None = None
        self._rows: dict[Status, IO[str]] = {}
        try:
            if path.is_dir() and {member.name for member in path.iterdir()} - {_INDEX, _PAGES}:
                raise UsageError(
                    f"the folder {printable(str(path))} holds other files than a report",
                    why="pages of an earlier run there are replaced",
                    hint="name a new folder: -o html=FOLDER/",
                )
            (path / _PAGES).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot write to {printable(str(path))}",
                why=error.strerror or str(error),
                hint="name a folder that you may write to",
            ) from error

    def ended(self, model: ModelReport) -> None:
        """Write the page of a model."""
        from bninspect.reports import counts, html
        from bninspect.reports.html import index

        self._number += 1
        name = f"{_PAGES}/{self._number:06}.html"
        alone = outcome.under(self._heading, (model,))
        self._write(name, html.render(alone).encode())
        if model.status not in self._rows:  # kept on disk: there may be many
            spool = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed with the folder
            self._rows[model.status] = self.enter_context(spool)
        self._rows[model.status].write(index.row(model, name, counts.fail_on(alone)) + "\n")
        self._passed += model.status is Status.PASS

    def finish(self, report: Report) -> bool:
        """Write the index, and return whether all pages could be written; what could not is said."""
        from bninspect.reports.html import index

        self._write(_INDEX, "".join(index.render(report, self._listed(), self._passed)).encode())
        if self._failed is not None:
            show_error(self._failed.what, self._failed.why, self._failed.hint)
        return self._failed is None

    def _listed(self) -> Iterator[str]:
        for status in _FIRST:
            if (rows := self._rows.get(status)) is not None:
                rows.seek(0)
                yield from rows

    def _write(self, name: str, data: bytes) -> None:
        try:
            atomic_files.write_whole(self._path / name, data, force=True, inputs=self._inputs)
        except BninspectError as error:
            self._failed = self._failed or error
            with contextlib.suppress(OSError):
                (self._path / name).unlink(missing_ok=True)
