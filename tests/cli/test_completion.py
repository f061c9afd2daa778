"""Completion as users meet it: keys typed into bash, zsh and fish on a terminal, and what reaches the command."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import keras_files
from helpers.running import bninspect

PATIENCE = 60.0
"""Seconds; only a shell that hangs needs them."""

STARTS = {
    "bash": (["bash", "--noprofile", "--norc", "-i"], 'eval "$(DIRECT=1 bninspect completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -U compinit && compinit -u -D && eval "$(DIRECT=1 bninspect completion zsh)"',
    ),
    "fish": (["fish", "--no-config", "-i"], "DIRECT=1 bninspect completion fish | source"),
}
# Job control needs a terminal that is the session's own.
OWN_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
NAMES = ("stem_norm", "head_norm", "evil$(touch hacked)", "evil;touch hacked", "evil`touch hacked`", "evil *", "-evil")


@pytest.fixture(params=list(STARTS))
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, and with a `bninspect` that completes as ours and otherwise notes what it was given."""
    layers = [keras_files.norm(name) for name in NAMES]
    objects = {f"layers/{name}": keras_files.arrays(seed) for seed, name in enumerate(_groups(len(NAMES)))}
    keras_files.write(tmp_path / "model.keras", keras_files.members(keras_files.model("m", *layers), objects))
    command = tmp_path / "bin" / "bninspect"
    command.parent.mkdir()
    real = f'exec "{sys.executable}" -P -m bninspect "$@"'
    command.write_text(
        f'#!/bin/sh\n[ -n "$_BNINSPECT_COMPLETE$DIRECT" ] && {real}\n'
        'for one in "$@"; do echo "[$one]"; done > "$HOME/given.part"; mv "$HOME/given.part" "$HOME/given"\n'
    )
    command.chmod(0o755)
    return tmp_path


def _groups(number: int) -> list[str]:
    return ["batch_normalization", *(f"batch_normalization_{count}" for count in range(1, number))]


def _typed(shell: str, folder: Path, keys: str) -> list[str]:
    """Type keys and Enter into a shell on a terminal; return the arguments that the command got."""
    start, source = STARTS[shell]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ZDOT", "BASH", "XDG_"))},
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "TERM": "xterm",
        "PS1": "> ",
        "HISTFILE": "",
    }
    given = folder / "given"
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, *start],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=folder,
        env=environment,
    )
    os.close(terminal)
    try:
        os.write(keyboard, f"{source}\necho READY >ready\n".encode())
        screen = _until(folder / "ready", keyboard, process)
        os.write(keyboard, f"{keys}\n".encode())
        screen += _until(given, keyboard, process)
        assert given.exists(), screen.decode(errors="replace")
        return [line[1:-1] for line in given.read_text().splitlines()]
    finally:
        process.kill()
        process.wait()
        os.close(keyboard)


def _until(path: Path, keyboard: int, process: subprocess.Popen[bytes]) -> bytes:
    screen = b""
    end = time.monotonic() + PATIENCE
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        screen += _shown(keyboard)
    return screen


def _shown(keyboard: int) -> bytes:
    ready, _, _ = select.select([keyboard], [], [], 0.05)
    if not ready:
        return b""
    with contextlib.suppress(OSError):  # the shell has ended
        data = os.read(keyboard, 65536)
        if b"\x1b[c" in data or b"\x1b[0c" in data:
            os.write(keyboard, b"\x1b[?62;c")  # fish asks what terminal this is, and waits for the answer
        return data
    return b""


CASES = {
    "a command": ("bninspect expl\t", ["explain"]),
    "an option": ("bninspect lint --fail\t", ["lint", "--fail-on"]),
    "a choice": ("bninspect lint --fail-on wa\t", ["lint", "--fail-on", "warning"]),
    "a layer of the model": (
        "bninspect verify model.keras --layer he\t",
        ["verify", "model.keras", "--layer", "head_norm"],
    ),
    "a rule": ("bninspect lint --ignore bn20\t", ["lint", "--ignore", "BN202"]),
    "a runtime": ("bninspect verify --runtime tf-\t", ["verify", "--runtime", "tf-keras"]),
    "a shell": ("bninspect completion f\t", ["completion", "fish"]),
    "a file": ("bninspect verify mod\t", ["verify", "model.keras"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_typed_is_completed(case: str, shell: str, folder: Path) -> None:
    keys, given = CASES[case]
    assert _typed(shell, folder, keys) == given


def test_names_that_a_shell_could_take_for_commands_are_not_offered(shell: str, folder: Path) -> None:
    # Nothing is offered, so what was typed is what arrives.
    keys = "bninspect verify model.keras --layer evil\t"
    assert _typed(shell, folder, keys) == ["verify", "model.keras", "--layer", "evil"]
    assert not (folder / "hacked").exists()


def _offered(line: str, folder: Path, behind: str = "") -> list[str]:
    """Return what is offered for the last word of `line`, with more words behind the cursor."""
    place = str(line.count(" "))
    done = bninspect(cwd=folder, _BNINSPECT_COMPLETE="bash_complete", COMP_WORDS=line + behind, COMP_CWORD=place)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.split()]


def test_layers_are_those_of_the_models_on_the_line(folder: Path) -> None:
    assert _offered("bninspect verify model.keras --layer ", folder) == ["stem_norm", "head_norm"]
    assert _offered("bninspect verify --layer s", folder, behind=" model.keras") == ["stem_norm"]
    assert _offered("bninspect verify --exclude-layer x", folder, behind=" model.keras") == []
    assert _offered("bninspect verify --layer s", folder) == []


def test_what_cannot_be_read_offers_nothing(folder: Path) -> None:
    (folder / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert _offered("bninspect verify broken.h5 --layer ", folder) == []
    assert _offered("bninspect verify broken.h5 model.keras --layer h", folder) == ["head_norm"]


def test_reports_are_offered_with_a_path(folder: Path) -> None:
    offered = _offered("bninspect verify model.keras -o ", folder)
    assert "json=report.json" in offered
    assert all("=report." in one for one in offered)


def test_rules_are_offered_by_their_codes(folder: Path) -> None:
    offered = _offered("bninspect rule bn30", folder)
    assert {"BN301", "BN304", "BN305"} <= set(offered)
    assert offered == _offered("bninspect lint --select BN30", folder)


def test_other_shells_are_wrong_usage() -> None:
    done = bninspect("completion", "tcsh")
    assert done.returncode == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in done.stderr
