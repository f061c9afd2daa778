"""What each output format says of each model, read back from its text alone by means that bninspect has no part in."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote
from xml.etree import ElementTree as ET

Verdicts = dict[str, str]
"""The status of each model, by the path as it is printed."""

CODES = {"pass": 0, "fail": 1, "error": 3, "empty": 5}


def exit_code(verdicts: Verdicts) -> int:
    """Return the exit code that the manual's table gives."""
    codes = {CODES[status] for status in verdicts.values()} or {5}
    return next(code for code in (3, 1, 5, 0) if code in codes)


def of_json(text: str) -> Verdicts:
    return {model["path"]: model["status"] for model in json.loads(text)["models"]}


def of_json_lines(text: str) -> Verdicts:
    lines = [json.loads(line) for line in text.splitlines()]
    return {line["model"]["path"]: line["model"]["status"] for line in lines if "model" in line}


def of_junit(text: str) -> Verdicts:
    """Return errors before failures; a suite in which everything was skipped had nothing to check."""
    verdicts = {}
    for suite in ET.fromstring(text).iter("testsuite"):
        cases = [{outcome.tag for outcome in case} - {"system-out"} for case in suite.iter("testcase")]
        found = set().union(*cases)
        skipped = all(case == {"skipped"} for case in cases)
        verdicts[suite.attrib["name"]] = (
            "error" if "error" in found else "fail" if "failure" in found else "empty" if skipped else "pass"
        )
    return verdicts


def of_markdown(text: str) -> Verdicts:
    """Return the rows of the table of models; in a cell, a name is code of one kind or the other."""
    rows = re.findall(r"^\| \S+ (PASS|FAIL|ERROR|EMPTY) \| (?:`([^`]*)`|<code>(.*?)</code>) \|", text, re.MULTILINE)
    return {plain or html.unescape(coded): word.lower() for word, plain, coded in rows}


def of_github(text: str) -> Verdicts:
    """Return what the commands tell of models that did not pass."""
    verdicts = {}
    for line in text.splitlines():
        found = re.match(r"::(error|notice) file=([^,:]*),title=bninspect \w+%3A (fail|error|empty)::", line)
        if found:
            assert found[1] == "error" or found[3] == "empty"
            path = unquote(found[2])
            assert path not in verdicts
            verdicts[path] = found[3]
    return verdicts


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.verdicts: Verdicts = {}
        self._inside: list[str] = []
        self._badge = ""
        self._path = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside.append(tag)
        if tag == "h2":
            self._badge = self._path = ""

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag
        if tag == "h2" and self._badge:
            self.verdicts[self._path] = self._badge.lower()

    def handle_data(self, data: str) -> None:
        if "h2" in self._inside and self._inside[-1] == "span":
            self._badge += data
        elif "h2" in self._inside and self._inside[-1] == "code":
            self._path += data


def of_html(text: str) -> Verdicts:
    page = _Page()
    page.feed(text)
    page.close()
    return page.verdicts
