"""What a cancelled job, `timeout` or a terminal that is closed does to the command: it ends as after Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = ("SIGTERM", "SIGHUP")


class Terminated(BaseException):
    """The command is to end: whatever is open is closed, and nobody takes it for an error of a model."""


@dataclass
class Told:
    """What the command was told, so far."""

    signal: signal.Signals | None = None

    def end(self, number: int, _frame: FrameType | None) -> None:
        """Take note of a signal, and leave what is going on. The next one ends the process at once."""
        self.signal = signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)
        raise Terminated

    @property
    def exit_code(self) -> int | None:
        """128 and the number of the signal, as a shell has it; None if there was none."""
        return None if self.signal is None else 128 + self.signal


@contextmanager
def listening() -> Iterator[Told]:
    """Listen to the signals that end a process by default; one that is ignored, as under nohup, stays ignored."""
    told = Told()
    heard: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        known = [signal.Signals[name] for name in _SIGNALS if hasattr(signal, name)]  # Windows has no SIGHUP
        heard = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]
    for number in heard:
        signal.signal(number, told.end)
    try:
        yield told
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)
