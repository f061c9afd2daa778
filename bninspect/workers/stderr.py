"""The standard error of a worker: what a framework always says is dropped, what it complains of is passed on."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from typing import IO

_KEEP = 40
_LONGEST_LINE = 2000

# What TensorFlow prints at every start, whatever the environment says. Named by their source file, because the
# wording differs between versions. Information lines (I) are dropped, warnings and errors only when listed here.
_NOISE = re.compile(
    r"""^(
      WARNING:\ All\ log\ messages\ before\ absl
    | To\ enable\ the\ following\ instructions:
    | I\d{4}\ [\d:.]+\s+\d+\                                     # absl, information
    | \d{4}-\d\d-\d\d\ [\d:.]+:\ I\                              # older TensorFlow, information
    | INFO:\ Created\ TensorFlow\ Lite                            # and LiteRT, with every delegate
    | E\d{4}\ [\d:.]+\s+\d+\ util\.cc:\d+\]\ oneDNN\ supports\ DT_\w+\ only      # it falls back by itself
    | [EW]\d{4}\ [\d:.]+\s+\d+\ (cuda_\w+|computation_placer)\.cc
    | \d{4}-\d\d-\d\d\ [\d:.]+:\ [EW]\ .*(cuda_(dnn|fft|blas|driver)|computation_placer|dso_loader|cudart_stub|TF-TRT)
    )""",
    re.VERBOSE,
)


def is_noise(line: str) -> bool:
    """Return whether `line` is one that a framework prints at every start."""
    return not line.strip() or _NOISE.match(line) is not None


class Stderr:
    """Reads a child's standard error in a thread, so that the child never blocks on it."""

    def __init__(self, stream: IO[bytes], show: Callable[[str], None], *, verbose: bool) -> None:
        self._lines: deque[str] = deque(maxlen=_KEEP)
        self._thread = threading.Thread(
            target=self._read, args=(stream, show), kwargs={"verbose": verbose}, daemon=True
        )
        self._thread.start()

    def _read(self, stream: IO[bytes], show: Callable[[str], None], *, verbose: bool) -> None:
        for raw in iter(lambda: stream.readline(_LONGEST_LINE), b""):
            line = raw.decode(errors="replace").rstrip("\r\n")
            noise = is_noise(line)
            if not noise:
                self._lines.append(line)
            if verbose or not noise:
                show(line)

    def drain(self) -> None:
        """Wait until all that an ended child said has been read."""
        self._thread.join(timeout=2)

    def last_words(self) -> str:
        """Return the last line that was not noise, after the child has ended; empty if there was none."""
        self.drain()
        return self._lines[-1] if self._lines else ""
