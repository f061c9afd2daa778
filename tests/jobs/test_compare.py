"""Two reports side by side: worse fails, better and unchanged do not, and what is gone or new is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers import made_reports

from bninspect.errors import UsageError
from bninspect.jobs.compare import compare
from bninspect.records import LayerStatus, ModelReport, Problem, Report, Status, outcome
from bninspect.reports import REPORTS, Looks


def report(*models: ModelReport, command: str = "verify") -> Report:
    return outcome.report(command, models, options={}, allow_empty=False, running={})


def model(*layers: object, path: str = "m.h5") -> ModelReport:
    made = made_reports.model(path, *layers)  # type: ignore[arg-type]
    return replace(made, sha256=path, status=outcome.model_status(made.layers, (), "error"))


def found(done: Report) -> list[str]:
    every = [finding.rule for each in done.models for finding in each.findings]
    return sorted(every + [f.rule for each in done.models for layer in each.layers for f in layer.findings])


RIGHT = made_reports.layer("bn", 0.5)
WRONG = made_reports.layer("bn", 50.0)
WORSE = made_reports.layer("bn", 5000.0)
UNSEEN = replace(RIGHT, status=LayerStatus.UNVERIFIED, comparisons=(), reason="it did not run")


@pytest.mark.parametrize("layer", [RIGHT, WRONG, UNSEEN])
def test_a_report_is_not_worse_than_itself(layer: object) -> None:
    done = compare(report(model(layer)), report(model(layer)))
    assert found(done) == []
    assert done.summary.exit_code == 0


@pytest.mark.parametrize(("before", "now"), [(RIGHT, WRONG), (RIGHT, UNSEEN), (WRONG, WORSE), (UNSEEN, WRONG)])
def test_worse_fails_and_the_other_way_round_is_better(before: object, now: object) -> None:
    done = compare(report(model(before)), report(model(now)))
    assert found(done) == ["BN601"]
    assert done.summary.exit_code == 1
    if before is not UNSEEN:  # an unverified layer that turns out to be wrong is worse, and so is the reverse
        back = compare(report(model(now)), report(model(before)))
        assert found(back) == ["BN603"]
        assert back.summary.exit_code == 0


def test_noise_within_the_limit_is_no_change() -> None:
    assert (
        found(compare(report(model(made_reports.layer("bn", 0.01))), report(model(made_reports.layer("bn", 0.9)))))
        == []
    )


def test_an_added_finding_is_worse_and_one_that_has_gone_is_better() -> None:
    damaged = replace(RIGHT, findings=(made_reports.finding("BN102"),))
    assert found(compare(report(model(RIGHT)), report(model(damaged)))) == ["BN601"]
    assert found(compare(report(model(damaged)), report(model(RIGHT)))) == ["BN603"]


def test_what_is_gone_fails_and_what_is_new_only_if_it_is_wrong() -> None:
    other = replace(RIGHT, name="other")
    done = compare(report(model(RIGHT, other)), report(model(RIGHT)))
    assert (found(done), done.summary.exit_code) == (["BN602"], 1)
    done = compare(report(model(RIGHT)), report(model(RIGHT, other)))
    assert (found(done), done.summary.exit_code) == (["BN604"], 0)
    done = compare(report(model(RIGHT)), report(model(RIGHT), model(WRONG, path="n.h5")))
    assert (found(done), done.summary.exit_code) == (["BN604"], 1)
    done = compare(report(model(RIGHT), model(RIGHT, path="n.h5")), report(model(RIGHT)))
    assert (found(done), done.summary.exit_code) == (["BN602"], 1)


def test_a_model_that_can_no_longer_be_read_is_worse_and_one_that_never_could_is_an_error() -> None:
    broken = ModelReport("m.h5", None, 0, "", "", Status.ERROR, error=Problem("DamagedFile", "cut off", "", "", 3))
    assert compare(report(model(RIGHT)), report(broken)).summary.exit_code == 1
    assert compare(report(broken), report(model(RIGHT))).summary.exit_code == 0
    assert compare(report(broken), report(broken)).summary.exit_code == 3


def test_reports_of_two_commands_are_refused() -> None:
    with pytest.raises(UsageError, match="of different commands"):
        compare(report(model(RIGHT)), report(model(RIGHT), command="lint"))


@pytest.mark.parametrize("form", sorted(set(REPORTS) - {"intoto"}))
def test_every_format_says_it(form: str) -> None:
    said = REPORTS[form](compare(report(model(RIGHT)), report(model(WRONG))), Looks())
    assert "verified before" in said
    assert "BN601" in said


def test_the_screen_ends_with_the_counts() -> None:
    text = REPORTS["text"](compare(report(model(RIGHT)), report(model(WRONG))), Looks())
    assert text.splitlines()[-1] == "FAIL  1 model; 1 worse; exit 1: checked, and something is wrong"
    text = REPORTS["text"](compare(report(model(RIGHT)), report(model(RIGHT))), Looks(verbosity=-1))
    assert text == "PASS  1 model; no changes; exit 0: checked, and nothing fails\n"
