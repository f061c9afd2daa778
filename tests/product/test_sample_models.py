"""The sample models: what is stored in them is read exactly, and `bninspect verify` says of each what it must.

Expected values are in `manifest.json`: layers and digests as the framework held them when it saved the model, verdicts
by hand. Models that take the same options share one call, because a framework takes seconds to start.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bninspect import formats

FOLDER = Path(__file__).parents[2] / "sample_models"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
MODELS: dict[str, dict[str, Any]] = MANIFEST["models"]
EXPORTS: dict[str, dict[str, Any]] = MANIFEST["exports"]
TRAINED = [name for name, entry in MODELS.items() if entry["layers"] is not None]
CASES = [(name, case) for name, entry in MODELS.items() for case in entry["verify"]]
EXIT_CODES = {"pass": 0, "fail": 1, "error": 3, "empty": 5}


def _verify(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bninspect", "verify", "--format", "json", *words]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def reports() -> dict[tuple[str, ...], dict[str, Any]]:
    """The report on each model, by options and file name."""
    together: dict[tuple[str, ...], list[str]] = {}
    for name, case in CASES:
        together.setdefault(tuple(case["options"]), []).append(name)
    found = {}
    for options, names in together.items():
        done = _verify(*options, *names)
        assert "Traceback" not in done.stderr
        models = json.loads(done.stdout)["models"]
        assert [Path(model["path"]).name for model in models] == names
        found[options] = dict(zip(names, models, strict=True))
    return found


def _said(model: Mapping[str, Any]) -> str:
    """Return the error, the reasons and the notes in a report on a model."""
    error = model["error"] or {}
    reasons = [text for layer in model["layers"] for text in (layer["reason"], *layer["notes"])]
    return "\n".join([*map(str, error.values()), *reasons])


def _layers(model: Mapping[str, Any], status: str) -> list[str]:
    return [layer["name"] for layer in model["layers"] if layer["status"] == status]


def _channels(evidence: Mapping[str, Any]) -> list[int]:
    lists = evidence.get("arrays", {"": evidence.get("channels")})
    return sorted({channel for channels in lists.values() for channel in channels})


@pytest.mark.tensorflow
@pytest.mark.parametrize(("name", "case"), CASES, ids=[" ".join([name, *case["options"]]) for name, case in CASES])
def test_verdict(name: str, case: dict[str, Any], reports: dict[tuple[str, ...], dict[str, Any]]) -> None:
    model = reports[tuple(case["options"])][name]

    assert model["status"] == case["status"], _said(model)
    code = model["error"]["exit_code"] if model["error"] else EXIT_CODES[model["status"]]
    assert code == case["exit_code"]
    assert model["evidence"] == case.get("evidence", model["evidence"])
    assert case.get("says", "") in _said(model)
    # What lies behind a layer that gives NaN is not foretold: a max pooling turns NaN into a finite number.
    assert next(iter(_layers(model, "mismatch")), None) == case.get("mismatch")
    if "unverified" in case:
        assert _layers(model, "unverified") == case["unverified"]
    if case["status"] == "pass":
        assert _layers(model, "verified") == [layer["name"] for layer in model["layers"]]
        assert len(model["layers"]) == len(MODELS[name]["layers"])
        observed = {one["observed"] for layer in model["layers"] for one in layer["comparisons"]}
        assert observed == ({"in-model", "probed"} if case["evidence"] == "model" else {"probed"})
    for layer in model["layers"]:
        expected = case.get("findings", {}).get(layer["name"], {})
        named = [finding for finding in layer["findings"] if finding["rule"] in expected]
        assert {finding["rule"]: _channels(finding["evidence"]) for finding in named} == expected


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("keras3_digits.h5", 0),
        ("broken_negative_variance.h5", 1),
        ("broken_truncated.h5", 3),
        ("keras3_without_batch_norm.keras", 5),
    ],
)
def test_exit_code(name: str, code: int) -> None:
    done = _verify(name)
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["summary"]["exit_code"] == code


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", EXPORTS)
def test_export(name: str) -> None:
    expected = EXPORTS[name]["verify"]
    done = _verify(EXPORTS[name]["of"], "--against", name)
    assert done.returncode == expected["exit_code"], done.stderr
    layers = json.loads(done.stdout)["models"][0]["layers"]
    assert _layers({"layers": layers}, "verified") == expected["verified"]
    assert [one["name"] for one in layers if one["counterpart"]["inherited"]] == expected.get("inherited", [])
    wrong = [one for one in layers if one["status"] == "mismatch" and not one["counterpart"]["inherited"]]
    causes = [one["counterpart"]["explanation"]["causes"][0]["sentence"] for one in wrong]
    assert len(causes) == ("says" in expected)
    assert all(cause.startswith(expected["says"]) for cause in causes)


@pytest.mark.parametrize("name", TRAINED)
def test_read_is_what_the_framework_saved(name: str) -> None:
    checkpoint = formats.read(FOLDER / name)
    expected = MODELS[name]["layers"]
    digests = [
        hashlib.sha256(b"".join(array.astype("<f4").tobytes() for array in layer.arrays.values())).hexdigest()
        for layer in checkpoint.layers
    ]
    assert digests == [layer["digest"] for layer in expected.values()]
    assert [layer.name for layer in checkpoint.layers] == list(expected)
    for layer, facts in zip(checkpoint.layers, expected.values(), strict=True):
        weights_only = "weights" in name
        assert layer.dtype == "float32"
        assert layer.channels == facts["channels"]
        assert layer.epsilon == (None if weights_only else facts["epsilon"])
        assert layer.momentum == (None if weights_only else facts["momentum"])


def test_manifest_lists_every_file_as_it_is() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.suffix in {".h5", ".keras", ".tflite"}}
    assert files == {*MODELS, *EXPORTS}
    sizes = []
    for name, entry in [*MODELS.items(), *EXPORTS.items()]:
        content = (FOLDER / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], name
        assert entry["verify"], name
        sizes.append(len(content))
    assert max(sizes) < 300_000
    assert sum(sizes) < 2_000_000
