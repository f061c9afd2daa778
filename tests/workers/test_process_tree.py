"""Who belongs to a process, and what memory they hold together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from bninspect.workers import process_tree

_FORKS = """
import os, sys
held = bytearray(os.urandom(1 << 20)) * 200
if os.fork():
    print("ready", flush=True)
sys.stdin.read()
"""
MEGABYTE = 1 << 20


@pytest.fixture
def forked() -> Iterator[int]:
    """A process with 200 MB, and a fork of it that shares them."""
    command = [sys.executable, "-c", _FORKS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process_tree.end(process.pid)


@pytest.fixture(params=["proc", "psutil"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "proc" and sys.platform != "linux":
        pytest.skip("the system has no /proc")
    monkeypatch.setattr(process_tree, "_PROC", request.param == "proc")
    return str(request.param)


def test_all_that_a_process_started_is_known(way: str, forked: int) -> None:
    first, second = process_tree.members(forked)
    assert first == forked
    assert 200 * MEGABYTE < process_tree.resident(first) < 300 * MEGABYTE
    assert process_tree.resident(second) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no system tells what is shared")
def test_what_is_shared_counts_once(forked: int) -> None:
    assert process_tree.exceeds(forked, 150 * MEGABYTE)
    assert not process_tree.exceeds(forked, 350 * MEGABYTE)


def test_a_process_that_has_ended_holds_nothing(way: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert process_tree.members(process.pid) == (process.pid,)
    assert not process_tree.exceeds(process.pid, 0)
