"""What is going on, on a terminal: after a second, on standard error, and gone at the end."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Self

from bninspect.cli.messages import LONGEST, say
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.records import ModelReport

_DELAY = 1.0
_WIDTH = 60
_NARROWEST = 20
_MANY = 20
"""Models of which the number is said before the first of them is read."""


class Progress:
    """One line: names, and of several models how many are done and how long the rest may take. Any thread may call it.

    Args:
        quiet: show nothing at all.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._timer = threading.Timer(_DELAY, self._show) if not quiet and sys.stderr.isatty() else None
        self._quiet = quiet
        self._says_number = not quiet and self._timer is None  # a bar shows it
        self._lock = threading.RLock()
        self._bar: Any = None
        self._total: int | None = None
        self._done = 0
        self._doing: dict[int, str] = {}

    def __enter__(self) -> Self:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, text: str) -> None:
        """Say what this thread is doing; nothing any more if the text is empty. A text that ends a line stays."""
        if text.endswith("\n"):
            if not self._quiet:
                self.complain(text.rstrip())
            return
        with self._lock:
            if text:
                self._doing[threading.get_ident()] = text
            else:
                self._doing.pop(threading.get_ident(), None)
            self._update()

    def began(self, total: int) -> None:
        """Take note of how many models there are; say it before the work begins, where they are many."""
        if self._says_number and total >= _MANY:
            self.complain(f"{total:,} models were found")
        with self._lock:
            self._total = total
            self._doing.clear()
            self._update()

    def ended(self, _model: ModelReport) -> None:
        """Take note that one of them is done."""
        with self._lock:
            self._done += 1
            self._update()

    def complain(self, line: str) -> None:
        """Show a line of a worker's standard error, above the progress."""
        with self._lock:
            if self._bar is None:
                say(printable(line, LONGEST))
            else:
                self._bar.console.print(printable(line, LONGEST), markup=False, highlight=False, soft_wrap=True)

    def _update(self) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=self._words(), completed=self._done, total=self._total)

    def _words(self) -> str:
        texts = list(self._doing.values())
        return ", ".join(printable(text, max(_NARROWEST, _WIDTH // len(texts))) for text in texts)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
        with self._lock:
            counts = () if self._total == 1 else (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(
                SpinnerColumn(),
                *counts,
                name,
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.add_task(self._words(), total=self._total, completed=self._done)
            self._bar.start()
