"""Options from files: below the command line and the environment, above the defaults; no typo loosens a gate."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bninspect.cli import run

FAILING = "broken_nan.h5"


@pytest.fixture
def project(tmp_path: Path, sample_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a failing model, where the command runs, in a project."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    for name in (FAILING, "keras3_digits.h5"):
        shutil.copy(sample_models / name, tmp_path / "models")
    monkeypatch.chdir(tmp_path / "models")
    return tmp_path


def configure(project: Path, text: str) -> None:
    (project / "bninspect.toml").write_text(text)


def lint(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run(["lint", FAILING, "--json", *arguments])
    return code, json.loads(capfd.readouterr().out)


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["lint", FAILING, *arguments]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    return said.err


def test_without_a_file_the_model_fails(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, document = lint(capfd)
    assert code == 1
    assert document["options"]["fail_on"] == {"value": "error", "source": "default"}


@pytest.mark.parametrize("name", ["bninspect.toml", "pyproject.toml"])
def test_a_file_gives_defaults_and_the_report_names_it(
    name: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    head = "[tool.bninspect]\n" if name == "pyproject.toml" else ""
    (project / name).write_text(f'{head}fail-on = "never"\nlayer = ["batch*"]\n')
    code, document = lint(capfd)
    assert code == 0
    where = f"../{name}" + (" [tool.bninspect]" if head else "")
    assert document["options"]["fail_on"] == {"value": "never", "source": where}
    assert document["options"]["layer"] == {"value": ["batch*"], "source": where}


def test_the_table_of_the_command_comes_before_the_common_one(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    configure(project, 'fail-on = "never"\nseed = 7\n[lint]\nfail_on = "error"\n[verify]\nfail-on = "note"\n')
    code, document = lint(capfd)
    assert code == 1
    assert document["options"]["fail_on"]["source"] == "../bninspect.toml [lint]"


def test_command_line_before_environment_before_file(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(project, 'fail-on = "never"\n')
    monkeypatch.setenv("BNINSPECT_LINT_FAIL_ON", "warning")
    code, document = lint(capfd)
    assert (code, document["options"]["fail_on"]["source"]) == (1, "environment")
    code, document = lint(capfd, "--fail-on", "never")
    assert (code, document["options"]["fail_on"]["source"]) == (0, "command line")


@pytest.mark.parametrize("before", [True, False])
def test_config_and_isolated_work_before_the_command_and_after_it(
    before: bool, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(project, 'fail-on = "never"\n')
    (project / "strict.toml").write_text('fail-on = "note"\n')

    def call(*arguments: str) -> int:
        code = run([*arguments, "lint", FAILING] if before else ["lint", FAILING, *arguments])
        capfd.readouterr()
        return code

    assert call() == 0
    assert call("--isolated") == 1
    assert call("--config", "../strict.toml") == 1
    assert call("--config", "../strict.toml", "--isolated") == 2
    assert call("--config", "../none.toml") == 2


def test_config_and_isolated_may_come_from_the_environment(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(project, 'fail-on = "never"\n')
    monkeypatch.setenv("BNINSPECT_ISOLATED", "1")
    assert lint(capfd)[0] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('fail-onn = "never"', "did you mean fail-on?"),
        ('[lnt]\nfail-on = "never"', "did you mean lint?"),
        ("[verify]\nrtoll = 1.0", "did you mean rtol?"),  # also while another command runs
        ('[export]\nfail-on = "never"', "unknown key 'fail-on' in ../bninspect.toml [export]"),
        ("lint = 3", "it must be a table"),
        ("fail-on = 1", "'fail-on' in ../bninspect.toml is a whole number (1)"),
        ('fail-on = "nver"', "'fail-on' in ../bninspect.toml is not accepted"),
        ('allow-empty = "yes"', "it must be true or false"),
        ("allow-empty = 1", "it must be true or false"),
        ("timeout = true", "it must be a number"),
        ("timeout = nan", "nan is not finite"),
        ("timeout = 1e999", "not in the range"),
        ("jobs = 1.5", "it must be a whole number"),
        ('layer = ["a", 3]', "it must be a text, or a list of them"),
        ('max-memory = "much"', "is not a size"),
        ('fail-on = "never"\nfail_on = "error"', "is twice"),
        ('ignore = [{rule = "BN101"}]', "'reason' is missing"),
        ('ignore = ["BN9"]', "no rule begins with 'BN9'"),
        ('select = ["BN9"]', "no rule begins with 'BN9'"),
        ('ignore = [{rule = "BN1O1", reason = "r"}]', "no rule begins with 'BN1O1'"),
        ('ignore = ["BN101", {rule = "BN102", reason = "r"}]', "tables, each below"),
        ('baseline = "none.json"', "does not exist"),
    ],
)
def test_what_is_wrong_in_a_file_is_wrong_usage(
    text: str, says: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(project, text)
    assert says in refused(capfd)


@pytest.mark.parametrize(
    "text",
    [
        "trust = true",
        '[verify]\nimport = ["os"]',
        "[verify]\ntrust = false",
        'output = ["json=/tmp/x"]',
        '[export]\noutput = "x"',
        'write-baseline = "b.json"',
        'resume = "r.jsonl"',
        'files-from = "list"',
        'shard = "1/2"',
        'config = "other.toml"',
    ],
)
def test_no_file_has_code_run_or_files_written(text: str, project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    configure(project, text)
    said = refused(capfd)
    assert "may not stand in ../bninspect.toml" in said
    assert "why: " in said


def test_a_typo_on_the_command_line_loosens_nothing_either(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "did you mean BN101?" in refused(capfd, "--ignore", "bn101")
    assert "no rule begins with 'BN7'" in refused(capfd, "--select", "BN1,BN7")


def test_a_typo_in_the_environment_loosens_nothing_either(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNINSPECT_VERIFY_FAILON", "note")  # of another command
    assert lint(capfd)[0] == 1
    monkeypatch.setenv("BNINSPECT_LINT_FAILON", "note")
    said = refused(capfd)
    assert "unknown key 'BNINSPECT_LINT_FAILON' in the environment" in said
    assert "did you mean BNINSPECT_LINT_FAIL_ON?" in said
    assert run(["lint", "--help"]) == 0


def test_common_options_are_for_commands_that_judge(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    configure(project, 'layer = ["*_1"]\nformat = "junit"\n')
    assert run(["export", "keras3_digits.h5", "--format", "csv", "-o", "-"]) == 0
    assert "batch_normalization_2" in capfd.readouterr().out
    configure(project, '[export]\nlayer = ["*_1"]\n')
    assert run(["export", "keras3_digits.h5", "--format", "csv", "-o", "-"]) == 0
    assert "batch_normalization_2" not in capfd.readouterr().out


def test_paths_are_beside_the_file_that_names_them(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", FAILING, "--write-baseline", "../known.json"]) == 0
    capfd.readouterr()
    configure(project, 'baseline = "known.json"\n')
    code, document = lint(capfd)
    assert code == 0
    assert document["models"][0]["layers"][2]["findings"][0]["ignored"] == "in the baseline"


def test_an_ignore_has_its_reason_in_the_report_and_ends(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    today = dt.datetime.now(dt.UTC).date()

    def ignoring(until: dt.date, **more: str) -> str:
        entry = {"rule": '"BN101"', "reason": '"known since May"', "until": until.isoformat(), **more}
        return "[[ignore]]\n" + "\n".join(f"{key} = {value}" for key, value in entry.items())

    def ignored(text: str) -> tuple[int, str | None, str]:
        configure(project, text)
        code = run(["lint", FAILING, "--json", "--quiet"])
        said = capfd.readouterr()
        (found,) = json.loads(said.out)["models"][0]["layers"][2]["findings"]
        return code, found["ignored"], said.err

    tomorrow, yesterday = today + dt.timedelta(1), today - dt.timedelta(1)
    assert ignored(ignoring(tomorrow)) == (0, f"known since May (until {tomorrow})", "")
    code, reason, said = ignored(ignoring(yesterday))
    assert (code, reason) == (1, None)
    assert said == f"note: the ignore of BN101 in * ended on {yesterday}: it counts again (../bninspect.toml)\n"
    assert ignored(ignoring(tomorrow, layer='"other*"'))[:2] == (1, None)
    assert ignored(ignoring(tomorrow, model='"other*"'))[:2] == (1, None)
    assert ignored(ignoring(tomorrow, model='"broken*.h5"', layer='"*_2"'))[0] == 0


def test_rules_of_the_file_stand_beside_those_of_the_command_line(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(project, '[[ignore]]\nrule = "BN101"\nreason = "r"\n')
    code, document = lint(capfd, "--ignore", "BN110")
    assert code == 0
    assert document["options"]["ignores"]["source"] == "../bninspect.toml"
    assert document["options"]["ignores"]["value"][0]["reason"] == "r"
    assert document["options"]["ignore"] == {"value": ["BN110"], "source": "command line"}


def test_ignored_findings_are_counted_on_the_screen(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    configure(project, 'ignore = ["BN101"]\n')
    assert run(["lint", FAILING]) == 0
    assert "no findings, 1 ignored" in capfd.readouterr().out


def test_help_looks_at_no_file(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    configure(project, "nonsense = [")
    assert run(["--help"]) == 0
    assert run(["lint", "--help"]) == 0
    assert "--config FILE" in capfd.readouterr().out
