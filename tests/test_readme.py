"""Every console block of the README is what its commands print, and its Python runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
SCREENS = [
    (command, expected)
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]
# What depends on the processor or on the installed framework, and is not what a screen is there to show.
VARYING = (
    (r"\d\.\d\d of the (rounding )?bound( at \S+, channel \d+)?", "RATIO of the bound"),
    (r"(tf-keras|keras) \d+\.\d+\.\d+", r"\1 VERSION"),
    (r" \((CPU|GPU)[^)]*\)", ""),
)


def _settled(text: str) -> str:
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text)
    return text


@pytest.fixture(scope="module")
def command_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the command `bninspect` of this interpreter."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "bninspect"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m bninspect "$@"\n')
    script.chmod(0o755)
    return folder


@pytest.mark.tensorflow
@pytest.mark.parametrize(("command", "expected"), SCREENS, ids=[command for command, _ in SCREENS])
def test_screen(command: str, expected: str, command_folder: Path) -> None:
    environment = {**os.environ, "PATH": f"{command_folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, shell=True, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    shown = _settled(done.stdout + done.stderr)
    expected = _settled(expected)
    if expected.endswith("...\n"):
        assert shown.startswith(expected.removesuffix("...\n"))
    else:
        assert shown == expected


def test_there_are_screens() -> None:
    assert len(SCREENS) >= 4


@pytest.mark.tensorflow
def test_the_library_example_runs(sample_models: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = code.replace("model.h5", str(sample_models / "keras2_digits.h5"))
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("batch")] == [
        "batch_normalization",
        "batch_normalization_1",
        "batch_normalization_2",
        "batch_normalization_3",
    ]


def test_every_file_that_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (REPOSITORY / target).exists(), target


def test_every_command_is_in_the_readme_or_in_its_help() -> None:
    from bninspect.cli import COMMANDS

    shown = subprocess.run(
        [sys.executable, "-P", "-m", "bninspect", "--help"], capture_output=True, text=True, check=True
    )
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\S", shown.stdout, re.MULTILINE)
