"""What an earlier run has found out is taken over only if the same was asked, of the same program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.made_reports import layer, model, report

from bninspect import errors
from bninspect.errors import UsageError
from bninspect.jobs import resume
from bninspect.records import Report, outcome
from bninspect.reports import json_document

GOOD, BAD = model("good.h5"), model("bad.h5", layer(ratio=9.0))
BROKEN = outcome.broken("broken.h5", errors.DamagedFile("truncated"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("limits", "kept"), [({}, True), ({"timeout": 600.0}, False), ({"max_memory": 8}, False), ({"jobs": 1}, False)]
)
def test_a_model_that_took_too_long_is_waited_for_again_only_with_other_limits(
    limits: dict[str, Any], kept: bool, tmp_path: Path
) -> None:
    before: dict[str, Any] = {"timeout": 20.0, "max_memory": None, "jobs": 2}
    slow = replace(model("slow.h5"), error=outcome.problem(errors.LimitExceeded("not finished within 20 s")))
    path = written(tmp_path, json_document.render_lines(report(GOOD, slow, **before)))
    known = resume.earlier(path, report(**{**before, **limits})).models
    assert known == ({"good.h5": GOOD, "slow.h5": slow} if kept else {"good.h5": GOOD})


def test_an_error_comes_after_an_older_result(tmp_path: Path) -> None:
    later = outcome.broken("good.h5", errors.DamagedFile("truncated"))
    text = json_document.first_line(report()) + json_document.model_line(GOOD) + json_document.model_line(later)
    assert resume.earlier(written(tmp_path, text), report()).models == {}


def test_results_are_taken_over_and_errors_are_tried_again(tmp_path: Path) -> None:
    nameless = replace(model("folder.keras"), sha256=None)
    path = written(tmp_path, json_document.render_lines(report(GOOD, BAD, BROKEN, nameless)))
    assert resume.earlier(path, report()).models == {"good.h5": GOOD, "bad.h5": BAD}


@pytest.mark.parametrize("lost", [1, 40, 400])
def test_a_run_that_was_cut_short_gives_what_it_had(lost: int, tmp_path: Path) -> None:
    before = report(GOOD, BAD)
    text = json_document.first_line(before) + json_document.model_line(GOOD) + json_document.model_line(BAD)[:-lost]
    known = resume.earlier(written(tmp_path, text), report())
    assert known.models["good.h5"] == GOOD
    assert known.running == {}
    assert set(known.models) <= {"good.h5", "bad.h5"}


def test_the_last_result_of_a_model_counts(tmp_path: Path) -> None:
    newer = replace(GOOD, seconds=2.5)
    text = json_document.first_line(report()) + json_document.model_line(GOOD) + json_document.model_line(newer)
    assert resume.earlier(written(tmp_path, text), report()).models == {"good.h5": newer}


def test_the_environment_of_a_finished_run_is_known(tmp_path: Path) -> None:
    before = report(GOOD)
    before = replace(before, environment={**before.environment, "device": "CPU"})
    assert resume.earlier(written(tmp_path, json_document.render_lines(before)), report()).running == {"device": "CPU"}


def test_no_file_and_an_empty_one_are_a_beginning(tmp_path: Path) -> None:
    assert resume.earlier(tmp_path / "none.jsonl", report()) == resume.Earlier()
    assert resume.earlier(written(tmp_path, ""), report()) == resume.Earlier()


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (report(seed=1), "its option seed is 0, now it is 1"),
        (report(trust=True), "its option trust is null, now it is true"),
        (report(command="lint"), 'its command is "verify", now it is "lint"'),
    ],
)
def test_another_question_is_refused(now: Report, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another run") as caught:
        resume.earlier(written(tmp_path, json_document.render_lines(report(GOOD))), now)
    assert caught.value.why == says


def test_what_no_result_depends_on_may_differ(tmp_path: Path) -> None:
    path = written(tmp_path, json_document.render_lines(report(GOOD, jobs=1, timeout=5.0)))
    assert resume.earlier(path, report(jobs=8, timeout=None)).models


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tool": {"name": "bninspect", "version": "0.0.9"}}, 'bninspect was "0.0.9"'),
        ({"environment": {"tensorflow": "1.13"}}, 'tensorflow was "1.13"'),
    ],
)
def test_nothing_is_taken_over_from_other_versions(change: dict[str, object], says: str, tmp_path: Path) -> None:
    before = report(GOOD)
    if "environment" in change:
        change = {"environment": {**before.environment, "tensorflow": "1.13"}}
    known = resume.earlier(written(tmp_path, json_document.render_lines(replace(before, **change))), report())  # type: ignore[arg-type]
    assert known.models == {}
    assert says in known.stale


@pytest.mark.parametrize(
    "text",
    ["not json\n", "[]\n", "{}\n", '{"command":"verify"}\n', json_document.render(report(GOOD)), "[" * 100_000],
)
def test_what_is_no_report_of_lines_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a report to resume from"):
        resume.earlier(written(tmp_path, text), report())


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UsageError, match="cannot resume"):
        resume.earlier(path, report())
