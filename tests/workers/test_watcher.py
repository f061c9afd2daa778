"""No process outlives the one that started it, whatever it is doing, and whoever of its threads started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import worker_tasks
from helpers.marked import alive, marked, wait_for, wait_for_the_end

from bninspect import errors
from bninspect.records import Option
from bninspect.workers.limits import WorkerLimits
from bninspect.workers.supervisor import Worker

_COMMAND = """
import os, sys, threading
from helpers import worker_tasks
from bninspect.records import Option
from bninspect.workers.limits import WorkerLimits
from bninspect.workers.supervisor import Worker

worker = Worker(WorkerLimits(600, 1_500_000_000))

def start():
    assert worker.call(worker_tasks.echo, Option, {"value": 1}).value == 1

if sys.argv[2] == "thread":
    starter = threading.Thread(target=start)
    starter.start()
    starter.join()
if sys.argv[2] == "fork":
    start()
    if os.fork() == 0:  # which has the pipes to the worker as well
        sys.stdin.read()
        os._exit(0)
worker.call(worker_tasks.hang_with_children, Option, {"note": sys.argv[1]})
"""


_NO_HANDLES = """
import os

def refuse(pid, flags=0):
    raise OSError("this system has no files for processes")

os.pidfd_open = refuse
"""


def _started(note: Path, how: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), str(note.parent)])
    return subprocess.Popen([sys.executable, "-c", _COMMAND, str(note), how], env=environment, stdin=subprocess.PIPE)


@pytest.mark.parametrize("handles", [True, False], ids=["handles", "no handles"])
@pytest.mark.parametrize("how", ["main", "thread"])
def test_a_worker_inside_a_native_call_ends_with_its_command_and_with_it_what_it_started(
    how: str, handles: bool, tmp_path: Path
) -> None:
    environment = marked()
    if not handles:  # as on macOS, and on Linux before 5.3: the pipe alone tells
        (tmp_path / "sitecustomize.py").write_text(_NO_HANDLES)
    with _started(tmp_path / "note", how, environment) as command:
        wait_for(tmp_path / "note")
        time.sleep(0.2)  # until it is inside
        assert len(alive(environment)) == 5  # the command, its worker, who watches that, and two that it started
        command.send_signal(signal.SIGKILL)
        command.wait()
        wait_for_the_end(environment)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a fork of the command keeps its workers")
def test_a_fork_of_the_command_does_not_keep_its_worker(tmp_path: Path) -> None:
    environment = marked()
    with _started(tmp_path / "note", "fork", environment) as command:
        wait_for(tmp_path / "note")
        command.send_signal(signal.SIGKILL)
        command.wait()
        wait_for_the_end(environment, but=1)
        assert command.stdin is not None
        command.stdin.close()
        wait_for_the_end(environment)


def test_what_a_worker_started_ends_when_the_worker_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = marked()
    monkeypatch.setenv("BNINSPECT_TEST_MARK", environment["BNINSPECT_TEST_MARK"])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with Worker(WorkerLimits(3, 1_500_000_000)) as worker:
        with pytest.raises(errors.LimitExceeded):
            worker.call(worker_tasks.hang_with_children, Option, {"note": str(tmp_path / "note")})
        with pytest.raises(errors.WorkerDied, match="SIGABRT"):
            worker.call(worker_tasks.crash_with_a_child, Option, {})
        worker.close()
        wait_for_the_end(environment)
