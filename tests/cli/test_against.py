"""`bninspect verify --against` as people and pipelines see it, through all of its processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from helpers.exports import convert, patched

from bninspect.reports import schema

pytestmark = pytest.mark.tensorflow


def _verify(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "bninspect", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pair(sample_models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    import keras

    folder = tmp_path_factory.mktemp("against")
    source = sample_models / "keras3_digits.keras"
    return source, convert(keras.models.load_model(source, compile=False), folder / "m.tflite")


def test_right_export(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = _verify(pair[0], "--against", pair[1], "-o", f"json={tmp_path / 'report.json'}")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    report = json.loads((tmp_path / "report.json").read_text())
    jsonschema.validate(report, json.loads(schema.text()))
    (model,) = report["models"]
    # The model by itself, its export, and the whole, which comes last.
    assert sum(line.startswith("PASS") for line in lines) == 3
    assert lines[-1].startswith("PASS  1 model; 4 of 4 layers verified; exit 0: ")
    for layer in model["layers"]:
        (line,) = (one for one in lines if one.startswith("ok") and f" {layer['name']} " in one)
        assert "folded into" in line
        assert layer["counterpart"]["status"] == layer["counterpart"]["own"] == layer["status"] == "verified"
    assert model["against"]["same"] is True
    assert model["against"]["runtime"]


def test_wrong_export(pair: tuple[Path, Path], tmp_path: Path) -> None:
    wrong = patched(pair[1], tmp_path / "wrong.tflite", {(0, "bias"): lambda old: old + 1})
    outputs = [f"{form}={tmp_path / form}" for form in ("json", "junit", "markdown", "html")]
    done = _verify(pair[0], "--against", wrong, *(word for one in outputs for word in ("-o", one)))
    assert (done.returncode, done.stderr) == (1, "")
    (model,) = json.loads((tmp_path / "json").read_text())["models"]
    first, *rest = model["layers"]
    assert (first["status"], first["counterpart"]["own"]) == ("mismatch", "verified")
    assert {one["counterpart"]["inherited"] for one in rest} == {first["name"]}
    lines = done.stdout.splitlines()
    # The model itself is right, and that is said; the export is not.
    (alone,) = (number for number, line in enumerate(lines) if line.startswith("ok    4 of 4 layers equal "))
    assert lines[alone + 1].startswith("against ")
    assert not any(line.startswith("PASS") for line in lines)
    assert sum(line.startswith("FAIL") for line in lines) == len(model["layers"]) + len(("export", "whole"))
    assert lines[-1].startswith("FAIL  1 model; 0 of 4 layers verified; exit 1: ")
    assert sum("wrong only because of" in line for line in lines) == len(rest)
    for form in ("junit", "markdown", "html"):
        assert "the export holds different numbers" in (tmp_path / form).read_text(encoding="utf-8")


def test_quiet_is_short(pair: tuple[Path, Path]) -> None:
    done = _verify(pair[0], "--against", pair[1], "-q")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert line.startswith("PASS  1 model; 4 of 4 layers verified; exit 0: ")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("{source}", "{source}", "--against", "{export}"), 2, "takes one MODEL"),
        (("{source}", "--against", "{folder}/none.tflite"), 2, "does not exist"),
        (("{source}", "--against", "{folder}/notes.tflite"), 3, "notes.tflite is not of a format"),
        (("{source}", "--against", "{folder}/cut.tflite"), 3, "damaged"),
    ],
)
def test_wrong_use_and_wrong_files(pair: tuple[Path, Path], arguments: tuple[str, ...], code: int, words: str) -> None:
    source, export = pair
    (export.parent / "cut.tflite").write_bytes(export.read_bytes()[:700])
    (export.parent / "notes.tflite").write_text("to be converted")
    names: dict[str, Any] = {"source": source, "export": export, "folder": export.parent}
    done = _verify(*(one.format(**names) for one in arguments))
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
