"""The snippets for MLflow and DVC: with the real packages where they are installed, with a stub of MLflow anyway."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from helpers import screens
from helpers.screens import REPOSITORY

pytestmark = pytest.mark.tensorflow
PAGE = (REPOSITORY / "docs" / "how-to" / "tracking.md").read_text(encoding="utf-8")
FILES = {block.file: block.text for block in screens.blocks(PAGE) if block.file}
STUB = """
import contextlib, json
@contextlib.contextmanager
def start_run(): yield
def note(name, *said): print(json.dumps([name, *said]))
def log_metric(name, value): note("metric", name, value)
def set_tag(name, value): note("tag", name, value)
def log_text(text, name): note("text", len(text), name)
"""
ASK = """
import json, mlflow
client, (run,) = mlflow.MlflowClient(), mlflow.search_runs(output_format="list")
tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
page = mlflow.artifacts.load_text(run.info.artifact_uri + "/batch_norm.html")
print(json.dumps([run.info.status, run.data.metrics, tags, len(page)]))
"""


def needs(package: str) -> pytest.MarkDecorator:
    missing = find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install '.[tracking]'")


def test_what_mlflow_is_told(sample_models: Path, tmp_path: Path) -> None:
    (tmp_path / "track.py").write_text(FILES["track.py"])
    (tmp_path / "mlflow.py").write_text(STUB)
    shell = screens.shell(tmp_path)
    *metrics, tag, (_, length, name) = map(
        json.loads, shell.run(f"python track.py {sample_models}/keras2_digits.h5").splitlines()
    )
    assert metrics == [["metric", "bn_verified", 4], ["metric", "bn_mismatch", 0], ["metric", "bn_unverified", 0]]
    assert tag == ["tag", "bn_status", "pass"]
    assert (length > 500, name, shell.code) == (True, "batch_norm.html", 0)


@needs("mlflow")
def test_what_mlflow_keeps(sample_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny brings no database
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    (tmp_path / "track.py").write_text(FILES["track.py"])
    (tmp_path / "ask.py").write_text(ASK)
    shell = screens.shell(tmp_path)
    said = shell.run(f"python track.py {sample_models}/broken_nan.h5")
    assert shell.code == 1, said
    status, metrics, tags, length = json.loads(shell.run("python ask.py").splitlines()[-1])
    assert metrics == {"bn_verified": 2, "bn_mismatch": 2, "bn_unverified": 0}
    assert (status, tags, length > 500) == ("FINISHED", {"bn_status": "fail"}, True)


@needs("dvc")
def test_what_dvc_makes_of_the_stage(sample_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    (tmp_path / "dvc.yaml").write_text(FILES["dvc.yaml"])
    shutil.copy(sample_models / "keras2_digits.h5", tmp_path / "model.h5")
    shell = screens.shell(tmp_path)
    assert not shell.run("python -m dvc init --no-scm --quiet")
    assert "PASS  1 model; 4 of 4 layers verified" in shell.run("python -m dvc repro")
    assert "didn't change, skipping" in shell.run("python -m dvc repro")
    shutil.copy(sample_models / "broken_nan.h5", tmp_path / "model.h5")
    said = shell.run("python -m dvc repro")
    assert (shell.code, "exited with 1" in said) == (255, True)
    assert json.loads((tmp_path / "batch_norm.json").read_text())["summary"]["status"] == "fail"


def test_the_stage_makes_what_it_says(sample_models: Path, tmp_path: Path) -> None:
    shutil.copy(sample_models / "keras2_digits.h5", tmp_path / "model.h5")
    stage = yaml.safe_load(FILES["dvc.yaml"])["stages"]["batch-norm"]
    shell = screens.shell(tmp_path)
    said = shell.run(stage["cmd"])
    assert shell.code == 0, said
    assert all((tmp_path / name).stat().st_size > 1000 for name in [*stage["deps"], *stage["outs"]])
