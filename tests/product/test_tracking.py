"""The snippets for MLflow and DVC. MLflow itself is a stub that notes its calls; the command of the stage is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import screens
from helpers.screens import REPOSITORY

pytestmark = pytest.mark.tensorflow
PAGE = (REPOSITORY / "docs" / "how-to" / "tracking.md").read_text(encoding="utf-8")
FILES = {block.file: block.text for block in screens.blocks(PAGE) if block.file}
STUB = """
import contextlib, json, pathlib
@contextlib.contextmanager
def start_run(): yield
def note(name, *said): print(json.dumps([name, *said]))
def log_metrics(found): note("metrics", found)
def set_tag(name, value): note("tag", name, value)
def log_text(text, name): note("text", len(text), name)
"""


def test_what_mlflow_is_told(sample_models: Path, tmp_path: Path) -> None:
    (tmp_path / "track.py").write_text(FILES["track.py"])
    (tmp_path / "mlflow.py").write_text(STUB)
    command = [sys.executable, "track.py", str(sample_models / "keras2_digits.h5")]
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    metrics, tag, (_, length, name) = map(json.loads, done.stdout.splitlines())
    assert metrics == ["metrics", {"bn_verified": 4, "bn_mismatch": 0, "bn_unverified": 0}]
    assert tag == ["tag", "bn_status", "pass"]
    assert (length > 500, name) == (True, "batch_norm.html")


def test_the_stage_makes_what_it_says(sample_models: Path, tmp_path: Path) -> None:
    shutil.copy(sample_models / "keras2_digits.h5", tmp_path / "model.h5")
    stage = yaml.safe_load(FILES["dvc.yaml"])["stages"]["batch-norm"]
    program, *arguments = stage["cmd"].split()
    assert program == "bninspect"
    call = [sys.executable, "-P", "-m", "bninspect", *arguments]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / name).stat().st_size > 1000 for name in [*stage["deps"], *stage["outs"]])
