"""The workflows that the pages show: complete, and with every action named by a commit."""

from __future__ import annotations

import re

import yaml
from helpers import screens
from helpers.screens import REPOSITORY

_USES = re.compile(r"uses: ([\w./-]+)@(\S+)(?: # (v[\d.]+))?$", re.MULTILINE)
PAGES = {page.name: page.read_text(encoding="utf-8") for page in (REPOSITORY / "docs" / "how-to").glob("*.md")}
WORKFLOWS = {page.name: page.read_text() for page in (REPOSITORY / ".github" / "workflows").glob("*.yml")}


def test_every_action_is_named_by_a_commit_and_everywhere_by_the_same() -> None:
    found = [used for text in (*PAGES.values(), *WORKFLOWS.values()) for used in _USES.findall(text)]
    foreign = {used for used in found if used[0] not in {"OWNER/bninspect", "./"}}
    assert len(foreign) == len({name for name, _, _ in foreign}) > 4
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) and version for _, commit, version in foreign)


def test_every_job_says_where_it_runs() -> None:
    shown = [
        yaml.safe_load(block.text)
        for text in PAGES.values()
        for block in screens.blocks(text)
        if "\njobs:" in block.text
    ]
    workflows = [*shown, *map(yaml.safe_load, WORKFLOWS.values())]
    assert len(shown) > 1
    assert all(workflow["name"] and workflow[True] for workflow in workflows)  # YAML 1.1 reads `on` as true
    assert all("runs-on" in job for workflow in workflows for job in workflow["jobs"].values())
