"""`--help` in groups: nothing is lost, and related options stand together."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from bninspect.cli import COMMANDS, bninspect


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_shown_once(name: str) -> None:
    command = bninspect.get_command(click.Context(bninspect), name)
    assert command is not None
    text = CliRunner().invoke(bninspect, [name, "--help"]).output
    shown = [line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  -")]
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    assert len(shown) == len(set(shown)) == len(options) + 1  # --help


def test_many_options_have_headings_and_few_have_one() -> None:
    runner = CliRunner()
    verify = runner.invoke(bninspect, ["verify", "--help"]).output
    assert verify.index("Which models:") < verify.index("How a model is run:") < verify.index("Limits:")
    assert verify.index("Which layers:") < verify.index("--layer") < verify.index("What they are held against:")
    assert "Which models:" not in runner.invoke(bninspect, ["compare", "--help"]).output
