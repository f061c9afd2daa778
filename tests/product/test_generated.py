"""The pages that are made from the program are what it says now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate: Any = _load()


@pytest.mark.parametrize("page", list(generate.PAGES))
def test_a_page_is_what_the_program_says(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == generate.PAGES[page](), "python docs/generate.py"


def test_every_command_and_every_option_is_in_the_reference() -> None:
    import click

    from bninspect.cli import COMMANDS, bninspect

    text = generate.commands()
    for name in COMMANDS:
        command = bninspect.get_command(click.Context(bninspect), name)
        assert f"## `bninspect {name}`" in text
        assert command is not None
        assert all(option in text for one in command.params for option in one.opts if option.startswith("-"))


def test_every_record_of_the_report_is_in_the_reference() -> None:
    import json

    from bninspect.reports import schema

    text = generate.report()
    for name, definition in json.loads(schema.text())["$defs"].items():
        assert f"## {name}\n" in text
        assert all(f"| `{field}` |" in text for field in definition.get("properties", ()))


def test_every_framework_is_in_the_table_with_its_figures() -> None:
    from bninspect.arithmetic.conventions import CONVENTIONS

    rows = [line for line in generate.conventions().splitlines() if line.startswith("| ")]
    for one in CONVENTIONS:
        (row,) = (line for line in rows if line.startswith(f"| {one.framework} |"))
        assert f"| {one.epsilon:g} |" in row
        assert f"`{one.written}`" in row
