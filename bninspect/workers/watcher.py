"""Ends a worker when the command that started it is gone, whatever the worker is doing then.

A worker may be inside native code that holds the interpreter's lock: no thread and no signal handler of its own could
run. PR_SET_PDEATHSIG of Linux is not what is needed either: it fires when the *thread* ends that started the worker,
and says nothing to what the worker started itself. So a process waits beside the worker, forked from it before
anything is imported, for one of two signs: nobody holds the other end of the worker's standard input any more, or the
command has ended (which Linux tells even if a fork of the command still holds that end).
"""

from __future__ import annotations

import contextlib
import os
import sys


def watch() -> None:
    """Start the watcher of this process, which leads a process group and whose standard input is a pipe."""
    if sys.platform == "win32":
        _watch_in_a_thread(os.getppid())
        return
    command = _handle(os.getppid())
    if os.fork() == 0:
        try:
            _wait_and_end(command)
        finally:
            os._exit(1)
    if command is not None:
        os.close(command)


def _handle(pid: int) -> int | None:
    """Return a file that can be read when that process has ended; None where the system has no such files."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def _wait_and_end(command: int | None) -> None:
    import select

    from bninspect.workers import process_tree

    worker = os.getppid()
    # The supervisor waits for the end of these: they must not stay open here when the worker has gone.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    signs = select.poll()
    signs.register(0, 0)  # that it is hung up is always told, and nothing else is asked for
    if command is not None:
        signs.register(command, select.POLLIN)
    signs.poll()
    process_tree.end(worker)


def _watch_in_a_thread(command: int) -> None:
    """On Windows, which has no fork. A worker that is busy in native code ends when it returns from that."""
    if sys.platform == "win32":
        import _winapi
        import threading

        handle = _winapi.OpenProcess(_winapi.SYNCHRONIZE, False, command)  # noqa: FBT003 - not inherited

        def wait() -> None:
            _winapi.WaitForSingleObject(handle, _winapi.INFINITE)
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()
