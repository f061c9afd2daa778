"""A supervised process that does what must not be done in ours: parse files from strangers, run frameworks.

libhdf5 can be made to loop for ever or to crash by a few bytes, with the interpreter's lock held, so that neither a
signal handler nor a thread can help; a framework can do both on its own. So every such call happens in a process with
a time limit, a memory limit and nothing to lose. Its death, of whatever kind, is an error of one model.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from bninspect import errors
from bninspect.settings import START_SECONDS
from bninspect.workers import process_tree
from bninspect.workers import start as starting
from bninspect.workers.limits import WorkerLimits
from bninspect.workers.start import Request
from bninspect.workers.stderr import Stderr
from bninspect.workers.tasks import Task

if TYPE_CHECKING:
    from bninspect.formats.containers.parts import Supply

T = TypeVar("T")
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Show no progress."""


class Worker:
    """One child process that answers calls one after the other and is replaced when it dies.

    Args:
        limits: for each call.
        verbose: pass the child's whole standard error on, framework noise included.
        show: receives the lines of the child's standard error that are for the user.
        folder: where the child works; where this process does if none is named.
    """

    def __init__(
        self, limits: WorkerLimits, *, verbose: bool = False, show: Progress = silent, folder: str | None = None
    ) -> None:
        self.limits = limits
        self._folder = folder
        self._verbose = verbose
        self._show = show
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Stderr | None = None
        self._task: Task[Any] | None = None
        self._ready = False
        self._seconds = limits.seconds
        self._sent: Request | None = None
        """A request that the child has been sent already, before anybody asked for its answer."""
        self._killed_for = ""
        self._gone = False
        """Whether the child and what it started have been ended."""
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Another thread may be in the middle of a call: it must not start the child again.
        self._ended = True
        self.close()

    def start(self, task: Task[Any] | None = None) -> None:
        """Start the child now and let it import what `task` needs, without waiting for it.

        A child that replaces it imports that as well.
        """
        self._task = task or self._task
        if self._ended:
            raise errors.WorkerDied("the work was given up")
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._ready = self._gone = False
        self._process, self._sent = starting.take(self.limits, self._task, self._folder)
        assert self._process.stderr is not None  # noqa: S101 - narrows the type: PIPE was asked for
        self._stderr = Stderr(self._process.stderr, self._show, verbose=self._verbose)

    def call(
        self,
        task: Task[T],
        kind: type[T],
        arguments: Mapping[str, Any],
        progress: Progress = silent,
        supply: Supply | None = None,
    ) -> T:
        """Run `task` in the child and return its answer as a record of type `kind`.

        `supply` gets the parts of files elsewhere that the child asks for; what it raises ends the child. The time
        that the child takes to start is not the task's.

        Raises:
            BninspectError: the task's own error, `LimitExceeded`, or `WorkerDied`.
        """
        self.start()
        request = starting.make_request(task, arguments, self.limits, verbose=self._verbose)
        if self._sent not in (None, request):  # what was foretold is not what is asked: its answer is of no use
            self.close()
            self.start()
        try:
            if not self._ready:
                with self._watched(START_SECONDS):
                    self._receive(bool, progress, None)
                self._ready = True
            with self._watched(self.limits.seconds):
                if self._sent is None:
                    self._send(request)
                self._sent = None
                return self._receive(kind, progress, supply)
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
        from bninspect.workers.frames import write_frame  # which imports NumPy; by now the child is doing so too

        assert self._process is not None and self._process.stdin is not None  # noqa: S101, PT018
        try:
            write_frame(self._process.stdin, message)  # type: ignore[arg-type]
        except BrokenPipeError:
            raise self._post_mortem() from None

    def _receive(self, kind: type[T], progress: Progress, supply: Supply | None) -> T:
        from bninspect.records import codec
        from bninspect.workers.frames import read_frame

        assert self._process is not None and self._process.stdout is not None  # noqa: S101, PT018
        while True:
            try:
                frame = read_frame(self._process.stdout)  # type: ignore[arg-type]
                if frame is None:
                    raise self._post_mortem()
                message, arrays = frame
                if "progress" in message:
                    progress(str(message["progress"]))
                elif "of" in message and supply is not None:
                    self._send(self._supplied(supply, str(message["of"]), message["wanted"]))
                elif "error" in message:
                    raise _error(message["error"])
                else:
                    return codec.decode(kind, message["result"], arrays)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                if self._killed_for:
                    raise self._post_mortem() from None
                raise errors.WorkerDied("the worker process gave no usable answer", why=str(error)) from error

    def _supplied(self, supply: Supply, name: str, wanted: Any) -> Mapping[str, Any]:
        """Return what the child wants of a file: parts, or, if it names none, how long it is."""
        import numpy as np

        try:
            if wanted is None:
                return {"size": supply.find(name)}
            spans = [(int(start), int(length)) for start, length in wanted]
            return {"parts": [np.frombuffer(part, np.uint8) for part in supply.parts(name, spans)]}
        except BaseException:
            self._kill()  # it waits for what does not come
            raise

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
            elif self.limits.watched and process_tree.exceeds(process.pid, self.limits.memory):
                self._killed_for = "memory"
            if self._killed_for:
                self._kill()
                return

    def _kill(self) -> None:
        process = self._process
        if process is None:
            return
        # Also if it is dead already: what it started may live on. Its number is its own until its watcher has ended.
        if not self._gone:
            self._gone = True
            process_tree.end(process.pid)
        process.wait()

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
