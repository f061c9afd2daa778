"""The statement as parsers read it that have no part in bninspect: those of in-toto's own attestation framework."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from helpers.any_reports import reports
from helpers.made_reports import layer, model, report, unverified
from hypothesis import given, settings

from bninspect.records import Report
from bninspect.reports import intoto, json_document

attestation = pytest.importorskip("in_toto_attestation.v1.statement", reason="in-toto-attestation is not installed")


def parsed(made: Report) -> tuple[Any, Any]:
    """Return the statement and its predicate, validated."""
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1 import statement_pb2

    text = intoto.render(made)
    statement = json_format.Parse(text, statement_pb2.Statement())
    attestation.Statement.copy_from_pb(statement).validate()
    predicate = json_format.MessageToJson(statement.predicate)
    return statement, json_format.Parse(predicate, test_result_pb2.TestResult())


@settings(max_examples=30)
@given(made=reports())
def test_any_statement_is_one(made: Report) -> None:
    _, result = parsed(made)
    assert result.result == ("PASSED" if made.summary.exit_code == 0 else "FAILED")


def test_it_says_what_was_tested_how_and_what_came_out() -> None:
    good, bad = layer("good"), layer("bad", 7.0)
    made = report(model("a.h5", good, sha256="aa" * 32), model("b.h5", good, bad, sha256="bb" * 32), seed=5)
    statement, result = parsed(made)
    written = sha256(json_document.render(made).encode()).hexdigest()
    assert [subject.digest["sha256"] for subject in statement.subject] == [written, "aa" * 32, "bb" * 32]
    assert (result.result, list(result.failed_tests)) == ("FAILED", ["b.h5: bad"])
    assert list(result.passed_tests) == ["a.h5: good", "b.h5: good"]
    noted = json_format.MessageToDict(result.configuration[0])["annotations"]
    assert noted["command"] == "verify"
    assert noted["version"] == made.tool["version"]
    assert noted["options"]["seed"] == 5
    assert [(one["name"], one["verdict"]) for one in noted["models"]] == [("a.h5", "pass"), ("b.h5", "fail")]


def test_what_is_unverified_has_not_passed() -> None:
    _, result = parsed(report(model("a.h5", layer("good"), unverified("unseen"))))
    assert result.result == "FAILED"
    assert list(result.failed_tests) == ["a.h5: unseen"]


def test_its_report_is_the_file_that_was_written(tmp_path: Path) -> None:
    from bninspect.cli import bninspect

    made = Path(__file__).parents[2] / "sample_models" / "keras2_digits.h5"
    paths = {kind: tmp_path / f"report.{kind}" for kind in ("intoto", "json")}
    outputs = [word for kind, path in paths.items() for word in ("-o", f"{kind}={path}")]
    assert bninspect.main(["lint", str(made), *outputs], standalone_mode=False) == 0
    subjects = json.loads(paths["intoto"].read_text())["subject"]
    assert subjects[0]["digest"]["sha256"] == sha256(paths["json"].read_bytes()).hexdigest()
    assert subjects[1]["digest"]["sha256"] == sha256(made.read_bytes()).hexdigest()
