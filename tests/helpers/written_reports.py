"""What one run of `bninspect verify` writes in all formats."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bninspect.cli.options import FORMATS

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Written:
    folder: Path
    exit_code: int

    def path(self, form: str) -> Path:
        return self.folder / f"report.{form}"

    def text(self, form: str) -> str:
        return self.path(form).read_text(encoding="utf-8")


def write(models: Sequence[Path], folder: Path, *options: str) -> Written:
    """Run the command with every format as an output, where no encoding of the terminal helps."""
    outputs = [word for form in FORMATS for word in ("-o", f"{form}={folder / f'report.{form}'}")]
    command = [sys.executable, "-P", "-m", "bninspect", "verify", *map(str, models), *outputs, *options]
    done = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "LC_ALL": "C"}, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr, done.stderr
    return Written(folder, done.returncode)
