"""A Dask scheduler and worker processes, as somebody starts them by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from helpers.marked import wait_for

MODULES = {"scheduler": "distributed.cli.dask_scheduler", "worker": "distributed.cli.dask_worker"}


@dataclass
class Running:
    """A cluster that runs."""

    file: Path
    """The scheduler's file, which `--dask` takes."""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def worker_pids(self) -> list[int]:
        """Return the processes in which tasks run; nannies look after them and start others when they die."""
        return [pid for worker in self.workers for pid in children(worker.pid)]


def children(pid: int, of: str = "spawn_main") -> list[int]:
    """Return the processes below one that run and have a word in their command: by default Dask's workers."""
    import psutil

    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended since, or nobody has waited for it yet
            found += [process.pid] * (of in " ".join(process.cmdline()))
    return found


@contextmanager
def cluster(folder: Path, workers: int, **environment: str) -> Iterator[Running]:
    """Run a scheduler and workers in processes of their own; all of them have ended after."""
    file = folder / "scheduler.json"
    with ExitStack() as stack:
        command = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--port", "0"]
        stack.enter_context(_process("scheduler", [*command, "--no-dashboard"], folder, environment))
        wait_for(file)
        running = Running(file)
        options = ["--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]
        for _ in range(workers):
            running.workers.append(stack.enter_context(_process("worker", options, folder, environment)))
        yield running


@contextmanager
def _process(
    kind: str, arguments: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with (
        (folder / f"{kind}.log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-P", "-m", MODULES[kind], *arguments],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **environment},
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(true: object, seconds: float = 240) -> None:
    """Wait until a function returns something true."""
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
