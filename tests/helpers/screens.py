"""The Markdown pages of this repository as things that run: commands and what they print, scripts, files to write.

A page is gone through from its top in a folder of its own, beside a link to `sample_models`:

- a `console` block is run line by line; what stands below `$ command` is what it prints, up to a line `...` where the
  page has had enough. `$ echo $?` shows the exit code of the command before;
- a block below a line that ends with a file name and a colon, "... as `train.py`:", is written to that file;
- another `python` block is run;
- blocks without a language are not run: installing, and what `product/test_markdown.py` checks line by line.

    python tests/helpers/screens.py docs/tutorial.md

writes what the commands print into the page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_FILE = re.compile(r"`([\w./-]+\.?[\w-]+)`:\s*\Z")
_MORE = "...\n"
_NOISE = re.compile(
    r"^(?:[IWE]0000 |WARNING: All log messages before absl|To enable the following instructions).*\n", re.MULTILINE
)
# What depends on the processor, the clock or the installed framework, and is not what a screen is there to show.
_VARYING = (
    (r"(under )?\d[\d.]* % of the (rounding )?limit(, at \S+, channel \d+)?", "RATIO of the limit"),
    (r"\b(weights|bias|output) (under )?\d[\d.]* %", r"\1 RATIO"),
    (r"output [\d.e+-]+|output within [\d.e+-]+", "output NUMBER"),
    (r"(LiteRT|tf-keras|keras|Keras|tensorflow|TensorFlow) \d+\.\d+\.\d+", r"\1 VERSION"),
    (r" \((CPU|GPU)[^)]*\)", ""),
    (r"bninspect \d+\.\d+\.\d+\S*", "bninspect VERSION"),
    (r"\b\d+(\.\d+)? ?s\b", "SECONDS"),
)
# A page that trains a model gets other numbers from other processors.
_TRAINED = (
    (r"-?\b\d+(\.\d+(e[+-]?\d+)?|e[+-]?\d+)", "NUMBER"),
    (r"\bchannel \d+", "channel N"),
    (r"\b\d+ of (\d+ values|it\b)", r"N of \1"),
    (r"\b\d+ steps", "N steps"),
    (r" +", " "),
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    file: str
    """The file that it is to be written to; empty if there is none."""
    start: int
    """Where its text begins in the page."""


@dataclass(frozen=True)
class Screen:
    """A command, what the page says that it prints, and what it does print."""

    command: str
    expected: str
    printed: str
    start: int
    """Where the expected text begins in the page."""
    trained: bool = False
    """Whether it is about a model that the page has trained."""

    @property
    def agrees(self) -> bool:
        """Whether the page tells the truth, apart from what varies between machines."""
        shown, expected = self.settled
        if expected.endswith(_MORE):
            return shown.startswith(expected.removesuffix(_MORE))
        return shown == expected

    @property
    def settled(self) -> tuple[str, str]:
        """What it prints and what the page says that it prints, without what varies between machines."""
        varying = _VARYING + _TRAINED if self.trained else _VARYING
        return _without(varying, self.printed), _without(varying, self.expected)


def _without(varying: tuple[tuple[str, str], ...], text: str) -> str:
    for pattern, replacement in varying:
        text = re.sub(pattern, replacement, text)
    return text


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    for found in _FENCE.finditer(text):
        named = _FILE.search(text[: found.start()].rstrip("\n").rpartition("\n\n")[2])
        yield Block(found[1], found[2], named[1] if named else "", found.start(2))


def pages() -> list[Path]:
    """Return every Markdown page of the repository."""
    found = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    # An unpacked source distribution is not a Git repository.
    names = found or [str(path.relative_to(REPOSITORY)) for path in REPOSITORY.rglob("*.md") if "/." not in str(path)]
    return [REPOSITORY / name for name in sorted(names)]


def run(page: Path, folder: Path) -> list[Screen]:
    """Go through a page in an empty folder; return its screens. A script that fails is a screen that does not agree."""
    (folder / "sample_models").symlink_to(REPOSITORY / "sample_models")
    runner = shell(folder)
    screens = []
    text = page.read_text(encoding="utf-8")
    trained = ".fit(" in text
    for block in blocks(text):
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            screens += [
                Screen(found[1], found[2], runner.run(found[1]), block.start + found.start(2), trained)
                for found in _COMMAND.finditer(block.text)
            ]
        elif block.language == "python":
            (folder / ".block.py").write_text(block.text, encoding="utf-8")
            printed = runner.run("python .block.py || echo FAILED")
            screens.append(Screen("python", "", printed if "FAILED" in printed else "", block.start))
    return screens


class Shell:
    """Runs commands one by one; each knows the exit code of the one before."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self.code = 0

    def run(self, command: str) -> str:
        """Return standard output and standard error as a terminal shows them."""
        done = subprocess.run(
            ["bash", "-c", f"(exit {self.code})\n{command}"],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.code = done.returncode
        # Nor does a page show where it was tried, and what TensorFlow has to say of the machine.
        return _NOISE.sub("", done.stdout).replace(f"{self._folder}{os.sep}", "")


def shell(folder: Path) -> Shell:
    """Return a shell in a folder, in which `bninspect`, `python` and `pytest` are those of this interpreter."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "80"}
    return Shell(folder, {**os.environ, **quiet, "PATH": f"{_commands(folder)}:{os.environ['PATH']}"})


def _commands(folder: Path) -> Path:
    """Return a folder with the commands `bninspect`, `python` and `pytest` of this interpreter."""
    bin_folder = folder / ".bin"
    bin_folder.mkdir()
    for name, call in (("bninspect", "-P -m bninspect"), ("python", ""), ("pytest", "-m pytest")):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        script.chmod(0o755)
    return bin_folder


def rewritten(text: str, screens: list[Screen]) -> str:
    """Return a page with what its commands print; of a screen that ends with `...` as many lines as before."""
    for screen in reversed(screens):
        if screen.command == "python" or screen.agrees:
            continue
        shown = screen.printed
        if screen.expected.endswith(_MORE):
            shown = "".join(shown.splitlines(keepends=True)[: screen.expected.count("\n") - 1]) + _MORE
        text = text[: screen.start] + shown + text[screen.start + len(screen.expected) :]
    return text


def main() -> int:
    """Rewrite the pages that are named."""
    for name in sys.argv[1:]:
        page = Path(name)
        with tempfile.TemporaryDirectory() as folder:
            page.write_text(rewritten(page.read_text(encoding="utf-8"), run(page, Path(folder))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
