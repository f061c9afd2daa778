"""A supervised process that does what must not be done in ours: parse files from strangers, run frameworks.

libhdf5 can be made to loop for ever or to crash by a few bytes, with the interpreter's lock held, so that neither a
signal handler nor a thread can help; a framework can do both on its own. So every such call happens in a process with
a time limit, a memory limit and nothing to lose. Its death, of whatever kind, is an error of one model.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from bninspect import errors
from bninspect.settings import READ_BYTES, READ_SECONDS, START_SECONDS, Settings
from bninspect.stderr import Stderr

T = TypeVar("T")
Progress = Callable[[str], None]

_ENVIRONMENT = {
    # No filter plugin is ever loaded because a file names it: hostile input may not choose what we execute.
    "HDF5_PLUGIN_PRELOAD": "::",
    "HDF5_USE_FILE_LOCKING": "FALSE",
    "PYTHONSAFEPATH": "1",
    "PYTHONUTF8": "1",
}


@dataclass(frozen=True)
class Limits:
    """What one call may use: seconds of wall time, and bytes of memory (address space, or resident if `watched`)."""

    seconds: float
    memory: int
    watched: bool = False
    """Frameworks map far more than they use, so their resident memory is watched instead of their address space."""


def silent(_: str) -> None:
    """Show no progress."""


READ = "bninspect.reading:read"
"""The task of reading one file."""


def reading_limits(settings: Settings) -> Limits:
    """Return the limits of a process that reads."""
    return Limits(settings.timeout or READ_SECONDS, settings.max_memory or READ_BYTES)


Request = Mapping[str, Any]
_spare: dict[tuple[Limits, str], tuple[subprocess.Popen[bytes], Request | None]] = {}


def prestart(limits: Limits, task: str, first: Mapping[str, Any] | None = None, *, verbose: bool = False) -> None:
    """Start a child for a Worker of the same limits and task that is still to be made.

    This comes before the imports of the parent, so that child and parent import at the same time. With the arguments
    of the `first` call the child works on that, too, before the Worker asks for it. One that was started for other
    limits, before the options were known, is ended.
    """
    if (limits, task) not in _spare:
        dismiss()
        _spare[limits, task] = _spawn(limits, task), None
    process, request = _spare[limits, task]
    if first is not None and request is None and process.stdin is not None:
        request = _request(task, first, limits, verbose=verbose)
        # As wire.write_frame, which would import NumPy: a request without arrays is a length and a JSON text.
        text = json.dumps({"message": request, "arrays": []}).encode()
        with contextlib.suppress(BrokenPipeError):  # it is dead already, as the Worker will see
            process.stdin.write(struct.pack(">Q", len(text)) + text)
            process.stdin.flush()
    _spare[limits, task] = process, request


def _request(task: str, arguments: Mapping[str, Any], limits: Limits, *, verbose: bool) -> Request:
    return {"task": task, "arguments": dict(arguments), "seconds": limits.seconds, "verbose": verbose}


def dismiss() -> None:
    """End the children that were started and that no Worker has taken: the command ended before."""
    while _spare:
        _, (process, _) = _spare.popitem()
        process.kill()
        process.communicate()


def _spawn(limits: Limits, task: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        # -P: a `json.py` in the working directory must never be imported.
        [sys.executable, "-P", "-m", "bninspect.child", "0" if limits.watched else str(limits.memory), task],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **_ENVIRONMENT, **({} if limits.watched else {"OPENBLAS_NUM_THREADS": "1"})},
        start_new_session=True,
    )


class Worker:
    """One child process that answers calls one after the other and is replaced when it dies.

    Args:
        limits: for each call.
        verbose: pass the child's whole standard error on, framework noise included.
        show: receives the lines of the child's standard error that are for the user.
    """

    def __init__(self, limits: Limits, *, verbose: bool = False, show: Progress = silent) -> None:
        self.limits = limits
        self._verbose = verbose
        self._show = show
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Stderr | None = None
        self._task = ""
        self._ready = False
        self._seconds = limits.seconds
        self._sent: Request | None = None
        """A request that the child has been sent already, before anybody asked for its answer."""
        self._killed_for = ""
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Another thread may be in the middle of a call: it must not start the child again.
        self._ended = True
        self.close()

    def start(self, task: str = "") -> None:
        """Start the child now and let it import what `task` (`module:function`) needs, without waiting for it.

        A child that replaces it imports that as well.
        """
        self._task = task or self._task
        if self._ended:
            raise errors.WorkerDied("the work was given up")
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._ready = False
        spare = _spare.pop((self.limits, self._task), None)
        self._process, self._sent = spare or (_spawn(self.limits, self._task), None)
        assert self._process.stderr is not None  # noqa: S101 - narrows the type: PIPE was asked for
        self._stderr = Stderr(self._process.stderr, self._show, verbose=self._verbose)

    def call(self, task: str, kind: type[T], arguments: Mapping[str, Any], progress: Progress = silent) -> T:
        """Run `task` (`module:function`) in the child and return its answer as a record of type `kind`.

        The time that the child takes to start is not the task's.

        Raises:
            BninspectError: the task's own error, `LimitExceeded`, or `WorkerDied`.
        """
        self.start()
        request = _request(task, arguments, self.limits, verbose=self._verbose)
        if self._sent not in (None, request):  # what was foretold is not what is asked: its answer is of no use
            self.close()
            self.start()
        try:
            if not self._ready:
                with self._watched(START_SECONDS):
                    self._receive(bool, progress)
                self._ready = True
            with self._watched(self.limits.seconds):
                if self._sent is None:
                    self._send(request)
                self._sent = None
                return self._receive(kind, progress)
        except BaseException as error:
            if not isinstance(error, errors.BninspectError) or isinstance(
                error, (errors.WorkerDied, errors.LimitExceeded)
            ):
                self._kill()
            raise

    def close(self) -> None:
        """End the child and let go of its pipes."""
        if self._process is None or self._stderr is None:
            return
        self._kill()
        self._stderr.drain()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was still buffered for a dead child
                    pipe.close()
        self._process = None

    def _send(self, message: Mapping[str, Any]) -> None:
        from bninspect import wire  # which imports NumPy; by now the child is doing so too

        assert self._process is not None and self._process.stdin is not None  # noqa: S101, PT018
        try:
            wire.write_frame(self._process.stdin, message)  # type: ignore[arg-type]
        except BrokenPipeError:
            raise self._post_mortem() from None

    def _receive(self, kind: type[T], progress: Progress) -> T:
        from bninspect import wire

        assert self._process is not None and self._process.stdout is not None  # noqa: S101, PT018
        while True:
            try:
                frame = wire.read_frame(self._process.stdout)  # type: ignore[arg-type]
                if frame is None:
                    raise self._post_mortem()
                message, arrays = frame
                if "progress" in message:
                    progress(str(message["progress"]))
                elif "error" in message:
                    raise _error(message["error"])
                else:
                    return wire.decode(kind, message["result"], arrays)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                if self._killed_for:
                    raise self._post_mortem() from None
                raise errors.WorkerDied("the worker process gave no usable answer", why=str(error)) from error

    @contextlib.contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """Kill the child if the block takes longer, or if the child takes more memory than it may."""
        self._killed_for, self._seconds = "", seconds
        stop = threading.Event()
        watch = threading.Thread(target=self._watch, args=(stop, seconds), daemon=True)
        watch.start()
        try:
            yield
        finally:
            stop.set()
            watch.join()

    def _watch(self, stop: threading.Event, remaining: float) -> None:
        process = self._process
        if process is None:  # closed by another thread in this moment
            return
        step = 0.05 if self.limits.watched else remaining
        while not stop.wait(min(step, remaining)):
            remaining -= step
            if remaining <= 0:
                self._killed_for = "time"
            elif self.limits.watched and _resident(process.pid) > self.limits.memory:
                self._killed_for = "memory"
            if self._killed_for:
                self._kill()
                return

    def _kill(self) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            if hasattr(os, "killpg"):
                # The child leads its own group, so what it started goes with it.
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()

    def _post_mortem(self) -> errors.BninspectError:
        """Return what the death of the child means."""
        assert self._process is not None and self._stderr is not None  # noqa: S101, PT018
        code = self._process.wait()
        last = self._stderr.last_words()
        if self._killed_for == "time" or (code == -getattr(signal, "SIGXCPU", 0) != 0):
            if not self._ready:
                return errors.WorkerDied(
                    f"the worker process did not start within {self._seconds:g} s",
                    why="importing what it needs takes seconds on an idle machine",
                    hint="run it again with -vv to see all that it printed",
                )
            return errors.LimitExceeded(
                f"not finished within {self._seconds:g} s",
                why="the time limit ends what hangs, whatever the cause",
                hint=f"give it more time: --timeout {max(60, round(5 * self._seconds))}",
            )
        if self._killed_for == "memory" or "MemoryError" in last or "bad_alloc" in last:
            return errors.LimitExceeded(
                f"more than {self.limits.memory / 1e9:.3g} GB of memory",
                why="the memory limit protects this machine",
                hint=f"allow more: --max-memory {max(1, round(2 * self.limits.memory / 1e9))}GB",
            )
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return errors.WorkerDied(
            f"the worker process died ({cause})",
            why=last,
            hint="run it again with -vv to see all that it printed",
        )


def _error(data: Mapping[str, Any]) -> errors.BninspectError:
    """Return the error that a child reported as `{kind, what, why, hint}`."""
    return errors.by_name(str(data["kind"]))(str(data["what"]), why=str(data["why"]), hint=str(data["hint"]))


def _resident(pid: int) -> int:
    """Return the resident bytes of a process; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def machine_memory() -> int:
    """Return the bytes of memory that a framework may use: 80 % of this machine or of its control group."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        total = 16_000_000_000
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total * 4 // 5
