"""The worked example of docs/how-to/own-runtime.md: a C program is compiled from an export, run, and judged."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "docs" / "own_runtime"
PAGE = REPOSITORY / "docs" / "how-to" / "own-runtime.md"
COMPILER = shutil.which("cc") or shutil.which("gcc")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler here")


def _bninspect(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "bninspect", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _compiled(folder: Path, *options: str, strict: bool = True) -> Path:
    assert COMPILER is not None
    program = folder / "batch_norm"
    warnings = ["-Wall", "-Wextra", "-Werror", "-pedantic"] if strict else []
    command = [COMPILER, "-std=c99", "-O2", *warnings, *options, "-o", str(program), "batch_norm.c", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    return program


def _judged(folder: Path, model: str, seed: str = "0") -> tuple[int, dict[str, Any]]:
    assert _bninspect(folder, "vectors", model, "-o", "vectors.npz", "--force", "--seed", seed).returncode == 0
    command = [sys.executable, "run.py", "./batch_norm", "vectors.npz", "outputs.npz"]
    subprocess.run(command, cwd=folder, check=True)
    done = _bninspect(folder, "verify", model, "--against", "outputs.npz", "--json", "--seed", seed)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def example(tmp_path: Path, sample_models: Path) -> Path:
    for path in (*EXAMPLE.iterdir(), sample_models / "keras2_digits.h5"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.parametrize("folded", [(), ("--folded",)])
def test_right_program(example: Path, folded: tuple[str, ...]) -> None:
    model = "keras2_digits.h5"
    assert _bninspect(example, "export", model, "-f", "c", "-o", "batch_norms.h", *folded).returncode == 0
    _compiled(example)
    code, report = _judged(example, model)
    assert code == 0
    (found,) = report["models"]
    layers = found["layers"]
    returned = np.load(example / "outputs.npz").files
    assert sorted(returned) == sorted(f"{layer['name']}/{which}" for layer in layers for which in "xy")
    assert len(layers) > 1
    assert {layer["status"] for layer in layers} == {"verified"}
    assert all(layer["comparisons"][0]["elements"] == 105 * layer["channels"] for layer in layers)


def test_program_with_epsilon_outside_the_root(example: Path) -> None:
    model = "keras2_digits.h5"
    _bninspect(example, "export", model, "-f", "c", "-o", "batch_norms.h")
    _compiled(example, "-DOUTSIDE")
    code, report = _judged(example, model, seed="5")
    assert code == 1
    (found,) = report["models"]
    for layer in found["layers"]:
        assert [cause["name"] for cause in layer["explanation"]["causes"]] == ["epsilon-outside"]


def test_header_is_c_and_cpp_whatever_the_names(example: Path) -> None:
    assert COMPILER is not None
    _bninspect(example, "export", "keras2_digits.h5", "-f", "c", "-o", "batch_norms.h")
    for language in ("c", "c++"):
        command = [COMPILER, "-x", language, "-Wall", "-Werror", "-fsyntax-only", "batch_norms.h"]
        done = subprocess.run(command, cwd=example, capture_output=True, text=True, check=False)
        # Nobody uses what it defines here.
        assert done.returncode == 0 or set(re.findall(r"-Werror=([\w-]+)", done.stderr)) <= {
            "unused-variable",
            "unused-function",
            "unused-const-variable",
        }


def test_commands_of_the_manual_are_these(example: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    commands = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    assert [command.split()[0] for command in commands] == ["bninspect", "cc", "bninspect", "python", "bninspect"]
    for command in commands:
        words = command.replace("model.h5", "keras2_digits.h5").split()
        if words[0] == "bninspect":
            assert _bninspect(example, *words[1:]).returncode == 0, command
        else:
            words[0] = {"cc": str(COMPILER), "python": sys.executable}[words[0]]
            subprocess.run(words, cwd=example, check=True)
