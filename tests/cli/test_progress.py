"""Progress is for people at a terminal that wait longer than a second: names, counts, time left, and then gone."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bninspect.cli import progress as module
from bninspect.cli.progress import Progress
from bninspect.records import ModelReport, Status

DONE = ModelReport("m", None, 0, "", "", Status.PASS)


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, delay: float = 0.0) -> Iterator[Callable[[], str]]:
    """Put a terminal in place of standard error, and give what it was sent so far."""
    reader, writer = pty.openpty()
    os.set_blocking(reader, False)

    def sent() -> str:
        stream.flush()
        parts = []
        with contextlib.suppress(BlockingIOError):
            while True:
                parts.append(os.read(reader, 65536))
        return b"".join(parts).decode()

    with os.fdopen(writer, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(module, "_DELAY", delay)
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "120")
        yield sent
    os.close(reader)


def wait_for(progress: Progress) -> None:
    assert progress._timer is not None
    progress._timer.join(30)


def test_names_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as sent:
        with Progress(quiet=False) as progress:
            progress.began(200)
            progress("models/\x1b[31m[bold]a.h5")
            other = threading.Thread(target=progress, args=("models/b.h5",))
            other.start()
            other.join()
            for _ in range(17):
                progress.ended(DONE)
            wait_for(progress)
            progress.complain("a warning [red]of a worker\x07")
        raw = sent()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw)
    assert "17/200" in text
    assert r"models/\x1b[31m[bold]a.h5, models/b.h5" in text
    assert r"a warning [red]of a worker\x07" in text
    assert raw.endswith(("\x1b[2K", "\x1b[?25h"))  # the line is gone


def test_one_model_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as sent:
        progress = Progress(quiet=False)
        progress.began(1)  # within the first second, as in a real run
        with progress:
            progress("m.h5: running the model")
            wait_for(progress)
        text = sent()
    assert "m.h5: running the model" in text
    assert "0/1" not in text


def test_a_thread_that_has_finished_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as sent:
        with Progress(quiet=False) as progress:
            progress.began(3)
            progress("done.h5")
            progress("")
            wait_for(progress)
        text = sent()
    assert "0/3" in text
    assert "done.h5" not in text


def test_nothing_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch, delay=600.0) as sent:
        with Progress(quiet=False) as progress:
            progress.began(200)
            progress("m.h5")
        assert sent() == ""


def test_nothing_when_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as sent:
        with Progress(quiet=True) as progress:
            progress("m.h5")
        assert sent() == ""


def test_nothing_in_a_log(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "_DELAY", 0.0)
    with Progress(quiet=False) as progress:
        progress("m.h5")
        progress.complain("a warning\n::error::x")
    assert capfd.readouterr().err == "a warning\\x0a::error::x\n"


def test_a_real_command_shows_it_and_its_result_is_intact(sample_models: Path, tmp_path: Path) -> None:
    for number in range(30):
        shutil.copy(sample_models / "keras3_digits.h5", tmp_path / f"m{number}.h5")
    slow = "import bninspect.cli.progress as p; p._DELAY = 0.0; from bninspect.__main__ import main; main()"
    reader, writer = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-P", "-c", slow, "lint", str(tmp_path)], stdout=subprocess.PIPE, stderr=writer, check=False
    )
    os.close(writer)
    assert done.returncode == 0
    assert done.stdout.decode().endswith("\nPASS  30 models: 30 pass; exit 0: checked, and nothing fails\n")
    assert b"\x1b" not in done.stdout
    shown = b""
    with contextlib.suppress(OSError):  # at its end Linux says EIO
        while part := os.read(reader, 65536):
            shown += part
    os.close(reader)
    assert re.search(rb"\d+/30", re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown))


def test_without_a_terminal_the_number_of_many_models_is_said_first(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(quiet=False) as progress:
        progress.began(19)
        assert capsys.readouterr().err == ""
        progress.began(1200)
        assert capsys.readouterr().err == "1,200 models were found\n"
    with Progress(quiet=True) as progress:
        progress.began(1200)
    assert capsys.readouterr().err == ""
