"""The manual of the causes is the one that the detective makes, and it leaves none out."""

from __future__ import annotations

from pathlib import Path

from helpers.wrong_kernels import KERNELS

from bninspect.causes import catalogue

PATH = Path(__file__).parents[2] / "docs" / "causes.md"


def test_docs_hold_the_list() -> None:
    assert PATH.read_text("utf-8") == catalogue.markdown(), "python -m bninspect.causes.catalogue > docs/causes.md"


def test_every_cause_that_is_tested_is_listed() -> None:
    listed = {
        line.split("`")[1].partition("=")[0] for line in PATH.read_text("utf-8").splitlines() if line[:3] == "- `"
    }
    assert {name.partition("=")[0] for name in KERNELS} <= listed
