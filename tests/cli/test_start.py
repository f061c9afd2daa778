"""The command line starts fast: what a command does not need is not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bninspect import cli
from bninspect.__main__ import READING

HEAVY = {"numpy", "h5py", "rich", "msgspec", "tensorflow", "keras", "tf_keras"}


def _start(*arguments: str) -> tuple[int, set[str]]:
    """Return the exit code of a command, and which of the heavy packages it imported in its own process."""
    command = [sys.executable, "-P", "-X", "importtime", "-m", "bninspect", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "bninspect.cli" in imported
    return done.returncode, imported & HEAVY


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("--version",), 0),
        (("verify", "--help"), 0),
        (("inspect", "--help"), 0),
        (("export", "--help"), 0),
        (("verify", "no-such-file.h5"), 2),
    ],
)
def test_help_and_wrong_usage_import_nothing_heavy(arguments: tuple[str, ...], code: int) -> None:
    assert _start(*arguments) == (code, set())


def test_the_check_itself_sees_an_import() -> None:
    assert _start("rule") == (0, {"numpy"})


def test_the_commands_whose_process_starts_first_are_those_that_read_with_it() -> None:
    modules = {name: Path(cli.__file__).parent / f"{name.replace('-', '_')}.py" for name in cli.COMMANDS}
    assert {name for name, path in modules.items() if "prestart(" in path.read_text()} == set(READING)


def test_importing_the_library_costs_nothing() -> None:
    script = f"import sys, bninspect; print('IMPORTED', *sorted({HEAVY!r} & set(sys.modules)), bninspect.__version__)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["IMPORTED", "0.1.0"]
