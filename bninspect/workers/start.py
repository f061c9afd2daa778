"""Starts the processes that supervisor.py supervises; the first of a command before anything else is imported.

Imports nothing heavy: what starts here imports NumPy and its like while the command line imports click.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from bninspect.workers import process_tree, tasks
from bninspect.workers.limits import WorkerLimits
from bninspect.workers.tasks import Task

_ENVIRONMENT = {
    # No filter plugin is ever loaded because a file names it: hostile input may not choose what we execute.
    "HDF5_PLUGIN_PRELOAD": "::",
    "HDF5_USE_FILE_LOCKING": "FALSE",
    # NumPy's BLAS starts a thread for each core when it is imported. No matrix is multiplied here.
    "OPENBLAS_NUM_THREADS": "1",
    # From 1.29 on ONNX Runtime tells Microsoft names and hashes of the models that it loads, on Linux too.
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONUTF8": "1",
}

_MAIN = """
import sys
from bninspect.workers import watcher
watcher.watch()
from bninspect.workers import child
sys.exit(child.main())
"""

Request = Mapping[str, Any]
"""A call as it is sent: its task, arguments and limit."""
_spare: dict[tuple[WorkerLimits, Task[Any] | None], tuple[subprocess.Popen[bytes], Request | None]] = {}


def prestart(
    limits: WorkerLimits, task: Task[Any], first: Mapping[str, Any] | None = None, *, verbose: bool = False
) -> None:
    """Start a child for a Worker of the same limits and task that is still to be made.

    This comes before the imports of the parent, so that child and parent import at the same time. With the arguments
    of the `first` call the child works on that, too, before the Worker asks for it. One that was started for other
    limits, before the options were known, is ended.
    """
    if (limits, task) not in _spare:
        _end(key for key in _spare if key[1] is task)
        _spare[limits, task] = _spawn(limits, task), None
    process, request = _spare[limits, task]
    if first is not None and request is None and process.stdin is not None:
        request = make_request(task, first, limits, verbose=verbose)
        # As wire.write_frame, which would import NumPy: a request without arrays is a length and a JSON text.
        text = json.dumps({"message": request, "arrays": []}).encode()
        with contextlib.suppress(BrokenPipeError):  # it is dead already, as the Worker will see
            process.stdin.write(struct.pack(">Q", len(text)) + text)
            process.stdin.flush()
    _spare[limits, task] = process, request


def make_request(task: Task[Any], arguments: Mapping[str, Any], limits: WorkerLimits, *, verbose: bool) -> Request:
    """Return a call of `task` as it is sent; `verbose`, with tracebacks on the child's standard error."""
    return {"task": tasks.address(task), "arguments": dict(arguments), "seconds": limits.seconds, "verbose": verbose}


def take(
    limits: WorkerLimits, task: Task[Any] | None, folder: str | None = None
) -> tuple[subprocess.Popen[bytes], Request | None]:
    """Return a child for these limits and this task, and what it has been sent already: a waiting one, or a new one."""
    waiting = None if folder else _spare.pop((limits, task), None)
    return waiting or (_spawn(limits, task, folder), None)


def dismiss() -> None:
    """End the children that wait and that nobody has taken: the command ended before."""
    _end(_spare)


def _end(waiting: Iterable[tuple[WorkerLimits, Task[Any] | None]]) -> None:
    for key in tuple(waiting):
        process, _ = _spare.pop(key)
        process_tree.end(process.pid)
        process.communicate()


def _spawn(limits: WorkerLimits, task: Task[Any] | None, folder: str | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        # -P: a `json.py` in the working directory must never be imported. Not `-m`, which would import runpy.
        [
            sys.executable,
            "-P",
            "-c",
            _MAIN,
            "0" if limits.watched else str(limits.memory),
            tasks.address(task) if task else "",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **_ENVIRONMENT},
        cwd=folder,
        start_new_session=True,
    )
