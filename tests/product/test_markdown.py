"""Every page of the repository tells the truth: its commands print what it says, its scripts run, its links lead on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import screens
from helpers.screens import REPOSITORY, Block

PAGES = {str(page.relative_to(REPOSITORY)): page for page in screens.pages()}
TEXTS = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}
BLOCKS = {name: list(screens.blocks(text)) for name, text in TEXTS.items()}
RUNS = [name for name, blocks in BLOCKS.items() if any(one.language in ("console", "python") for one in blocks)]
_FRAMEWORK = re.compile(r"\b(verify|vectors|keras|tensorflow|fit)\b")


def _needs_tensorflow(name: str) -> bool:
    return any(_FRAMEWORK.search(block.text) for block in BLOCKS[name])


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[pytest.mark.tensorflow] if _needs_tensorflow(one) else []) for one in RUNS]
)
def test_what_a_page_shows_is_what_its_commands_print(name: str, tmp_path: Path) -> None:
    for screen in screens.run(PAGES[name], tmp_path):
        if not screen.agrees:
            # Compared once more, so that pytest shows the difference.
            printed, expected = screen.settled
            assert printed == expected, f"$ {screen.command}"
            pytest.fail(f"$ {screen.command}\n{screen.printed}")


def test_there_are_pages_that_show_something() -> None:
    assert {"README.md", "docs/tutorial.md"} <= set(RUNS)
    assert sum(TEXTS[name].count("\n$ ") for name in RUNS) >= 20


def _lines(*languages: str) -> list[tuple[str, str]]:
    return [
        (name, line)
        for name, blocks in BLOCKS.items()
        for block in blocks
        if block.language in languages and not block.file
        for line in block.text.splitlines()
    ]


ON_SERVERS = {"docs/how-to/buckets.md", "docs/how-to/clusters.md"}
"""Pages whose `sh` blocks need servers: test_pages_on_fleets.py starts them."""


def test_what_is_not_run_is_installing_and_making() -> None:
    """A block without a language holds commands that cannot be run here: each of them must at least exist."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    makefile = (REPOSITORY / "Makefile").read_text()
    for name, line in _lines("", "sh"):
        if name in ON_SERVERS:
            continue
        command = line.partition("#")[0].split()
        if command[:2] == ["make", *command[1:2]]:
            assert re.search(rf"^{command[1]}:", makefile, re.MULTILINE), f"{name}: {line}"
            continue
        if command[:1] == ["python"]:
            assert (REPOSITORY / command[1]).is_file(), f"{name}: {line}"
            continue
        assert command[:2] == ["pip", "install"], f"{name}: {line}: let it be a console block, which is run"
        extras = re.search(r"bninspect\[([\w,]+)\]", line)
        assert set(extras[1].split(",") if extras else ()) <= set(project["optional-dependencies"]), f"{name}: {line}"


def test_links_lead_to_files_and_headings() -> None:
    for name, text in TEXTS.items():
        outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", outside):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (PAGES[name].parent / path).resolve() if path else PAGES[name]
            assert file.exists(), f"{name}: {target}"
            if anchor:
                assert anchor in _anchors(file.read_text(encoding="utf-8")), f"{name}: {target}"


def _anchors(text: str) -> set[str]:
    """The anchors that a forge gives to headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_of_the_documentation_can_be_found_from_its_first_page() -> None:
    reached, waiting = set(), ["docs/README.md"]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        for target in re.findall(r"\]\(([^)#\s]+\.md)", TEXTS[name]):
            here = target.removeprefix("https://github.com/bninspect/bninspect/blob/main/")
            folder = PAGES[name].parent if here == target else REPOSITORY
            found = str((folder / here).resolve().relative_to(REPOSITORY))
            if found not in reached:
                waiting.append(found)
    assert {name for name in PAGES if name.startswith("docs/")} <= reached


def _configurations(language: str) -> list[tuple[str, Block]]:
    return [(name, block) for name, blocks in BLOCKS.items() for block in blocks if block.language == language]


def test_configurations_of_other_tools_can_be_read() -> None:
    for name, block in _configurations("yaml"):
        assert isinstance(yaml.safe_load(block.text), dict | list), name
    for name, block in _configurations("toml"):
        assert tomllib.loads(block.text), name


def test_workflows_use_inputs_and_outputs_that_the_action_has() -> None:
    action: dict[str, Any] = yaml.safe_load((REPOSITORY / "action.yml").read_text())
    used = 0
    for name, block in _configurations("yaml"):
        for step in _steps(yaml.safe_load(block.text)):
            if "bninspect" in step.get("uses", ""):
                used += 1
                assert set(step.get("with", {})) <= set(action["inputs"]), name
                assert {key for key, one in action["inputs"].items() if one.get("required")} <= set(step["with"]), name
        outputs = re.findall(r"steps\.bninspect\.outputs\.([\w-]+)", block.text)
        assert set(outputs) <= set(action["outputs"]), name
    assert used >= 2


def test_pre_commit_is_given_a_hook_that_there_is() -> None:
    offered = {hook["id"] for hook in yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text())}
    configurations = [yaml.safe_load(block.text) for _, block in _configurations("yaml")]
    used = [hook for one in configurations for repo in one.get("repos", ()) for hook in repo["hooks"]]
    assert used
    assert {hook["id"] for hook in used} <= offered
    assert all(re.compile(hook["files"]).search("models/a.h5") for hook in used if "files" in hook)


def _steps(found: Any) -> list[dict[str, Any]]:
    if isinstance(found, dict):
        own = [found] if "uses" in found else []
        return own + [step for value in found.values() for step in _steps(value)]
    return [step for one in found for step in _steps(one)] if isinstance(found, list) else []


def _gitlab() -> list[tuple[list[str], list[str]]]:
    """Return the commands of each job on the GitLab page, but for installing, and what it collects."""
    (block,) = (block for block in BLOCKS["docs/how-to/gitlab.md"] if block.language == "yaml")
    jobs = yaml.safe_load(block.text).values()
    collected = [[*job["artifacts"]["paths"], *job["artifacts"].get("reports", {}).values()] for job in jobs]
    scripts = [[line for line in job["script"] if line.startswith("bninspect ")] for job in jobs]
    return list(zip(scripts, collected, strict=True))


def _jenkins() -> list[tuple[list[str], list[str]]]:
    text = "".join(block.text for block in BLOCKS["docs/how-to/jenkins.md"])
    commands = re.findall(r"^\s*sh '(?:\.venv/bin/)?(bninspect .*)'$", text, re.MULTILINE)
    return [(commands, re.findall(r"(?:junit|artifacts:) '(bninspect\..*?)'", text.partition("post {")[2]))]


@pytest.mark.tensorflow
@pytest.mark.parametrize("jobs", [_gitlab(), _jenkins()], ids=["gitlab", "jenkins"])
def test_the_commands_of_pipelines_run_and_write_what_these_collect(
    jobs: list[tuple[list[str], list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a snippet has another tool run is run here, but for installing; what it collects must then be there."""
    monkeypatch.setenv("CI_NODE_INDEX", "1")
    monkeypatch.setenv("CI_NODE_TOTAL", "1")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.h5").symlink_to(REPOSITORY / "sample_models" / "keras2_digits.h5")
    shell = screens.shell(tmp_path)
    for commands, collected in jobs:
        assert commands
        assert collected
        shell.run(*commands)
        assert shell.code == 0
        assert [pattern for pattern in collected if not list(tmp_path.glob(pattern))] == []
