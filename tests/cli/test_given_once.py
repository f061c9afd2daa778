"""An option that is not repeatable stands once on a command line: the last one must not win in silence."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from bninspect.cli import COMMANDS, bninspect, run


def single_options() -> list[tuple[str, str]]:
    """Return every option of every command that may stand once, as (command, option)."""
    context = click.Context(bninspect)
    commands = [(name, bninspect.get_command(context, name)) for name in COMMANDS]
    return [
        (name, max(option.opts, key=len))
        for name, command in commands
        for option in (command.params if command else ())
        if isinstance(option, click.Option) and not (option.multiple or option.count or option.is_flag)
    ]


@pytest.mark.parametrize(("command", "option"), single_options())
def test_an_option_that_is_given_twice_is_refused(command: str, option: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([command, option, "1", option, "1"]) == 2
    assert f"{option} is given twice" in capfd.readouterr().err


@pytest.mark.parametrize(("name", "said"), [("", "without the name"), ("image=", "for input 'image'")])
def test_two_shapes_of_an_input_are_refused(
    name: str, said: str, sample_models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shapes = [f"--input-shape={name}1,8,8,3", f"--input-shape={name}2,8,8,3"]
    assert run(["verify", str(sample_models / "keras2_digits.h5"), *shapes]) == 2
    assert f"given twice {said}" in capfd.readouterr().err


def test_short_and_long_names_are_the_same_option(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", "m.h5", "-f", "json", "--format=text"]) == 2
    assert "--format is given twice" in capfd.readouterr().err


def test_before_the_command_and_behind_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.touch()
    assert run(["--config", str(path), "lint", "--config", str(path), "m.h5"]) == 2
    assert "--config is given twice" in capfd.readouterr().err
    assert run(["--config", str(path), "--config", str(path), "lint", "m.h5"]) == 2
    assert "--config is given twice" in capfd.readouterr().err


def test_flags_counts_and_repeatable_options_may_be_repeated(
    sample_models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = str(sample_models / "keras2_digits.h5")
    assert run(["lint", model, "-v", "-v", "--json", "--json", "--layer", "*_1", "--layer", "*_2"]) == 0
    capfd.readouterr()


def test_the_command_line_and_the_environment_are_no_repetition(
    sample_models: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BNINSPECT_LINT_FAIL_ON", "note")
    assert run(["lint", str(sample_models / "keras2_digits.h5"), "--fail-on", "never"]) == 0
    capfd.readouterr()
