"""The command ends, whatever ends it, and nothing that it started goes on: its framework may be busy in native code."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from helpers.marked import marked, wait_for, wait_for_the_end
from helpers.renaming import renamed
from helpers.running import HANGUP_ENDS, IN_BACKGROUND, after

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def busy(tmp_path: Path, sample_models: Path) -> dict[str, str]:
    """A model, the second one of two, on which the framework stays in native code with the interpreter's lock held."""
    (tmp_path / "models").mkdir()
    renamed(sample_models / "keras2_digits.h5", tmp_path / "models" / "a.h5", "batch_normalization_2", "bn_good")
    renamed(sample_models / "keras2_digits.h5", tmp_path / "models" / "b.h5", "batch_normalization_2", "bn_hang")
    tampered = Path(__file__).parents[1] / "helpers" / "tampered"
    environment = {"TAMPERED": "one_way", "TAMPER": "by-name", "PYTHONPATH": str(tampered)}
    return {**marked(), **environment, "HANGS": str(tmp_path / "note")}


@pytest.mark.parametrize(("end", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_signal_ends_a_command_whose_framework_is_busy(
    end: signal.Signals, code: int, busy: dict[str, str], tmp_path: Path
) -> None:
    with subprocess.Popen(
        after(IN_BACKGROUND, "verify", "models", "-o", "json=r.json", "-o", "jsonl=r.jsonl"),
        cwd=tmp_path,
        env=busy,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        wait_for(tmp_path / "note")
        command.send_signal(end)
        printed, said = command.communicate()
    assert (command.returncode, printed) == (code, "")
    assert said == ("error: ended by SIGTERM\n" if end is signal.SIGTERM else "")
    wait_for_the_end(busy)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "note", "r.jsonl"]
    assert (tmp_path / "r.jsonl").read_text().count("\n") == 2  # what the run is, and the first model


def test_a_closed_terminal_ends_a_command_whose_framework_is_busy(busy: dict[str, str], tmp_path: Path) -> None:
    outer, inner = os.openpty()
    on_terminal = after(f"{HANGUP_ENDS}; os.login_tty({inner})", "verify", "models")
    with subprocess.Popen(on_terminal, cwd=tmp_path, env=busy, pass_fds=[inner]) as command:
        os.close(inner)
        wait_for(tmp_path / "note")
        os.close(outer)
        assert command.wait() == 128 + signal.SIGHUP
    wait_for_the_end(busy)
