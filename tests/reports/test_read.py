"""Reports are read back from either form, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.made_reports import model, report

from bninspect.errors import UsageError
from bninspect.reports import json_document

REPORT = report(model("a.h5"), model("b.h5"))


@pytest.mark.parametrize("text", [json_document.render(REPORT), json_document.render_lines(REPORT)])
def test_both_forms_are_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "r").write_text(text)
    assert json_document.read(tmp_path / "r") == REPORT


def test_a_run_that_was_cut_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "r").write_text(json_document.first_line(REPORT) + json_document.model_line(REPORT.models[0]))
    with pytest.raises(UsageError, match="not a report") as caught:
        json_document.read(tmp_path / "r")
    assert "cut short" in caught.value.why
    assert "--resume" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"a":1}\n', b"\x89HDF", b"[" * 100_000, b'{"summary": 3}'])
def test_anything_else_is_wrong_usage(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(content)
    with pytest.raises(UsageError):
        json_document.read(tmp_path / "r")


def test_a_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        json_document.read(tmp_path / "none.json")
