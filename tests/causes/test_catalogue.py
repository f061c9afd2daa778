"""The page of the causes leaves none out."""

from __future__ import annotations

from pathlib import Path

from helpers.wrong_kernels import KERNELS

PATH = Path(__file__).parents[2] / "docs" / "causes.md"


def test_every_cause_that_is_tested_is_listed() -> None:
    listed = {
        line.split("`")[1].partition("=")[0] for line in PATH.read_text("utf-8").splitlines() if line[:3] == "- `"
    }
    assert {name.partition("=")[0] for name in KERNELS} <= listed
