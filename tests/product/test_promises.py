"""Two promises of the threat model that concern the program as a whole, and the table that maps all of them."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

WATCH = """
import json, sys
from bninspect import errors, formats

def read():
    for path in sys.argv[1:]:
        try:
            formats.read(Path(path))
        except errors.BninspectError:
            pass

from pathlib import Path
read()  # what is imported when it is first needed
seen = []
sys.addaudithook(lambda event, values: seen.append((event, str(values[0]) if values else "")))
read()
print(json.dumps(seen))
"""

HARMLESS = {"open", "builtins.id"}
"""What Python reports while files are read; every other event would be a surprise."""


def test_reading_opens_the_model_and_does_nothing_else(sample_models: Path) -> None:
    """Python's own audit: no import, no code compiled or run, no process, no socket, no other file."""
    models = [path for path in sorted(sample_models.iterdir()) if path.suffix in (".h5", ".keras")]
    assert len(models) >= 15
    done = subprocess.run([sys.executable, "-P", "-c", WATCH, *models], capture_output=True, text=True, check=True)
    seen = [tuple(one) for one in json.loads(done.stdout)]
    assert {event for event, _ in seen} <= HARMLESS
    opened = {value for event, value in seen if event == "open"}
    assert opened == {str(path) for path in models}


def test_the_audit_would_see_it() -> None:
    script = "import json, sys; seen = []; sys.addaudithook(lambda event, _: seen.append(event))\n"
    script += "import wave, socket; exec('1'); socket.socket().close(); print(json.dumps(seen))"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert {"import", "exec", "compile", "socket.__new__"} <= set(json.loads(done.stdout))


def test_five_packages_are_all_that_reading_needs() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w-]+", one)[0] for one in project["dependencies"]}  # type: ignore[index]
    assert names == {"click", "numpy", "h5py", "rich", "msgspec"}


NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (REPOSITORY / "docs" / "security.md").read_text())


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_every_test_that_holds_a_promise_exists(path: str, name: str) -> None:
    tree = ast.parse((REPOSITORY / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_promise_has_a_test() -> None:
    text = (REPOSITORY / "docs" / "security.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|") and not re.match(r"\|\s*(promise|-)", line)]
    assert [int(number) for row in rows for number in re.findall(r"^\| (\d+)\.", row)] == list(range(1, 12))
    assert all("::" in row for row in rows)
