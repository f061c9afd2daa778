"""Configuration files: which one counts, and what may stand in it."""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.cli import config_file
from bninspect.errors import UsageError
from bninspect.settings import IgnoreRule, ToleranceRule

TODAY = dt.date(2026, 5, 17)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project" / "models" / "v1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "project"


def test_the_nearest_file_counts(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.bninspect]\nfail-on = "note"\n')
    assert config_file.find(project / "models" / "v1").path == project / "pyproject.toml"
    (project / "models" / "bninspect.toml").write_text('fail-on = "never"\n')
    found = config_file.find(project / "models" / "v1")
    assert found.path == project / "models" / "bninspect.toml"
    assert found.table.values == {"fail-on": "never"}
    assert found.table.where == "project/models/bninspect.toml"


def test_a_project_without_a_table_of_ours_says_nothing(project: Path) -> None:
    (project / "bninspect.toml").write_text("[verify]\nseed = 3\n")
    (project / "models" / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.ruff]\n')
    assert config_file.find(project / "models").path == project / "bninspect.toml"


def test_in_one_folder_our_own_file_comes_first(project: Path) -> None:
    (project / "bninspect.toml").write_text("")
    (project / "pyproject.toml").write_text("[tool.bninspect]\nseed = 1\n")
    assert config_file.find(project) == config_file.Configuration(
        project / "bninspect.toml", config_file.ConfigTable("project/bninspect.toml", {})
    )


@pytest.mark.parametrize("mark", [".git", ".hg"])
def test_no_file_above_the_project_is_looked_at(project: Path, mark: str) -> None:
    (project.parent / "bninspect.toml").write_text('fail-on = "never"\n')
    assert config_file.find(project / "models").path == project.parent / "bninspect.toml"
    (project / mark).mkdir()
    assert config_file.find(project / "models") == config_file.Configuration()


def test_a_file_that_is_named_may_have_either_form(project: Path) -> None:
    (project / "gate.toml").write_text("seed = 1\n")
    (project / "both.toml").write_text("[tool.bninspect]\nseed = 2\n")
    assert config_file.read(project / "gate.toml").table.values == {"seed": 1}
    assert config_file.read(project / "both.toml").table.values == {"seed": 2}
    (project / "pyproject.toml").write_text("[tool.other]\n")
    with pytest.raises(UsageError, match=r"no table \[tool.bninspect\]"):
        config_file.read(project / "pyproject.toml")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"x = [", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"x = " + b"[" * 100_000, "is not TOML"),
        (b"#" * (config_file.LARGEST + 1), "is not a configuration"),
        (b"[tool]\nbninspect = 3\n", "a whole number"),
    ],
)
def test_what_is_no_configuration_is_wrong_usage(content: bytes, says: str, project: Path) -> None:
    (project / "bninspect.toml").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        config_file.find(project)


def test_a_file_that_cannot_be_read_is_wrong_usage(project: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read project/none\.toml"):
        config_file.read(project / "none.toml")


@given(data=st.binary(max_size=200))
def test_no_content_raises_anything_else(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(data)
    with contextlib.suppress(UsageError):
        config_file.read(path)


def test_tolerances() -> None:
    entries = [
        {"layer": "head*", "rtol": 1e-3, "atol": 0},
        {"layer": "*", "model": "a/*.h5", "rtol": 1, "atol": 2.0, "reason": "r"},
    ]
    assert config_file.tolerances(entries, "f") == (
        ToleranceRule("head*", 1e-3, 0.0),
        ToleranceRule("*", 1.0, 2.0, "a/*.h5", "r"),
    )


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"layer": "h", "rtol": 1e-3}, "'atol' is missing"),
        ({"rtol": 1e-3, "atol": 1.0}, "'layer' is missing"),
        ({"layer": "h", "rtol": -1.0, "atol": 1.0}, "'rtol' in f"),
        ({"layer": "h", "rtol": float("inf"), "atol": 1.0}, "'rtol' in f"),
        ({"layer": "h", "rtol": float("nan"), "atol": 1.0}, "'rtol' in f"),
        ({"layer": "h", "rtol": True, "atol": 1.0}, "true or false"),
        ({"layer": "h", "rtol": "1e-3", "atol": 1.0}, "a text"),
        ({"layer": ["h"], "rtol": 1.0, "atol": 1.0}, "a list"),
        ({"layer": "h", "rtol": 1.0, "atol": 1.0, "model": ""}, "not a pattern"),
        ({"layers": "h", "rtol": 1.0, "atol": 1.0}, "unknown key 'layers'"),
        ("head*", "is a list"),
    ],
)
def test_wrong_tolerances_are_wrong_usage(entry: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        config_file.tolerances([entry], "f")


def test_ignores_hold_through_their_last_day() -> None:
    def rule(until: dt.date | None) -> IgnoreRule:
        entry = {"rule": "BN113", "reason": "small", **({"until": until} if until else {})}
        (one,) = config_file.ignores([entry], "f", TODAY)
        return one

    assert rule(None) == IgnoreRule("BN113", "small")
    assert rule(TODAY) == IgnoreRule("BN113", "small", until="2026-05-17")
    assert rule(TODAY - dt.timedelta(1)) == IgnoreRule("BN113", "small", until="2026-05-16", expired=True)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"rule": "BN113"}, "'reason' is missing"),
        ({"rule": "BN113", "reason": " "}, "no reason"),
        ({"reason": "r"}, "'rule' is missing"),
        ({"rule": "BN113", "reason": "r", "until": "2027-01-01"}, "a text"),
        ({"rule": "BN113", "reason": "r", "until": dt.datetime(2027, 1, 1)}, "a date"),
        ({"rule": "BN113", "reason": "r", "untill": TODAY}, "unknown key 'untill'"),
        ({"rule": 113, "reason": "r"}, "a whole number"),
    ],
)
def test_wrong_ignores_are_wrong_usage(entry: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        config_file.ignores([entry], "f", TODAY)


def test_an_unknown_key_comes_with_the_nearest_one() -> None:
    assert config_file.unknown("fail-onn", "f", ["seed", "fail-on"]).hint == "did you mean fail-on?"
    assert config_file.unknown("xyz", "f", ["seed"], "it takes seed").hint == "it takes seed"
