"""`bninspect diff`, as users call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.running import bninspect

MODEL = "keras2_digits.h5"


@pytest.mark.parametrize(
    ("other", "code", "says"),
    [
        ("keras2_digits.keras", 0, "4 layers, 4 equal"),
        ("keras3_digits.keras", 1, "4 layers, 4 changed"),
        ("keras2_digits_weights.h5", 3, "epsilon is 0.001 in A, and not stated in B"),
    ],
)
def test_verdicts_and_exit_codes(other: str, code: int, says: str, sample_models: Path) -> None:
    done = bninspect("diff", MODEL, other, cwd=sample_models)
    assert (done.returncode, done.stderr) == (code, "")
    assert says in done.stdout


def test_json_and_chosen_layers(sample_models: Path) -> None:
    done = bninspect("diff", "keras3_digits.h5", "broken_nan.h5", "--layer", "*_2", "--json", cwd=sample_models)
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"]) == (1, 1)
    (layer,) = document["layers"]
    assert (layer["verdict"], layer["parameters"]["gamma"]["after"]) == ("changed", None)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((MODEL,), 2),
        ((MODEL, "missing.h5"), 2),
        ((MODEL, "broken_truncated.h5"), 3),
        ((MODEL, MODEL, "--layer", "x"), 2),
    ],
)
def test_what_cannot_be_compared(arguments: tuple[str, ...], code: int, sample_models: Path) -> None:
    done = bninspect("diff", *arguments, cwd=sample_models)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
