"""The house as CONTRIBUTING and docs/stability.md describe it is the one that stands."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bninspect
from bninspect.version import __version__

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "bninspect"
HALL = {"__init__", "__main__", "atomic_files", "callbacks", "drift", "environment", "errors", "lazy", "safe_text",
        "settings", "testing", "training_drift", "version"}  # fmt: skip

TOP = {".ci", ".github", ".gitignore", ".pre-commit-config.yaml", ".pre-commit-hooks.yaml", "CHANGELOG.md",
       "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md", "action", "action.yml",
       "benchmarks", "bninspect", "constraints.txt", "docs", "pyproject.toml", "sample_models", "tests"}  # fmt: skip


def test_the_map_names_every_room_and_no_other() -> None:
    page = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE)
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    assert sorted(named) == sorted(rooms)


def test_nothing_new_stands_in_the_hall() -> None:
    assert {module.stem for module in PACKAGE.glob("*.py")} == HALL


def test_no_output_of_a_trial_stands_at_the_top() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("what is committed is only known in a checkout")
    assert {path.split("/")[0] for path in listed.stdout.splitlines()} == TOP


def test_every_room_says_what_it_is_for() -> None:
    for place in PACKAGE.rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(place.read_text("utf-8")))
        assert said is not None, place
        assert len(said) > 20, place


def test_an_import_that_points_up_is_refused(tmp_path: Path) -> None:
    """The contract is in force: with one wrong import the same command fails."""
    import shutil

    for name in ("bninspect", "pyproject.toml"):
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"]
    right = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert right.returncode == 0, right.stdout
    module = tmp_path / "bninspect/arithmetic/formula.py"
    module.write_text(module.read_text("utf-8") + "\nfrom bninspect.cli import options as _\n", "utf-8")
    wrong = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "bninspect.arithmetic.formula -> bninspect.cli" in wrong.stdout


def _promised() -> list[tuple[str, list[str]]]:
    page = (REPOSITORY / "docs/stability.md").read_text("utf-8").split("## Public names")[1].split("##")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", page, re.MULTILINE)
    return [(module, re.findall(r"`(\w+)`", names)) for module, names in rows]


@pytest.mark.parametrize(("module", "names"), _promised())
def test_public_names_are_there(module: str, names: list[str]) -> None:
    home = importlib.import_module(module)
    assert names
    assert [name for name in names if not hasattr(home, name)] == []


def test_the_face_of_the_package_promises_all_that_it_shows() -> None:
    assert sorted(dict(_promised())["bninspect"]) == sorted(bninspect.__all__)


def test_the_version_is_the_same_wherever_it_is_said() -> None:
    assert bninspect.__version__ == __version__
    assert f"version: {__version__}\n" in (REPOSITORY / "CITATION.cff").read_text("utf-8")
    releases = re.findall(
        r"^## (\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert releases[0] == __version__


def test_absolute_links_of_the_readme_lead_to_files_of_this_repository() -> None:
    """On a package index relative links are dead."""
    page = (REPOSITORY / "README.md").read_text("utf-8")
    linked = re.findall(r"\]\(https://github\.com/bninspect/bninspect/blob/main/([^)#]+)", page)
    assert len(linked) >= 10
    assert [path for path in linked if not (REPOSITORY / path).exists()] == []
    assert not re.findall(r"\]\((?!https://|#)[^)]*\)", page)


def test_the_old_name_of_the_monitor_warns() -> None:
    script = "import warnings; warnings.simplefilter('error', DeprecationWarning); import bninspect.drift"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "DeprecationWarning: the module bninspect.drift is now called bninspect.training_drift" in done.stderr
