"""What the shell offers for a value that is being typed: layers of the model on the line, rules, runtimes, reports.

The shells put what is offered on the command line as it is. Names come out of files, so only those are offered that no
shell takes for anything but a word.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem, split_arg_string

_WORD = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./@+-]*")
_SECONDS = 5.0
_MODELS = 4
_ENDINGS = {"text": "txt", "markdown": "md", "github": "txt", "junit": "xml"}

Items = list[CompletionItem]


def layers(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    """Offer the layers of the models that are named on the line, before the cursor or behind it."""
    from bninspect import errors
    from bninspect.jobs.load import load
    from bninspect.settings import Settings

    found: dict[str, CompletionItem] = {}
    for path in list(_paths())[:_MODELS]:
        with contextlib.suppress(errors.BninspectError):
            for layer in load(path, Settings(timeout=_SECONDS)).layers:
                if layer.name.startswith(incomplete) and _WORD.fullmatch(layer.name):
                    found.setdefault(layer.name, CompletionItem(layer.name, help=f"{layer.channels} channels"))
    return list(found.values())


def _paths() -> Iterator[str]:
    # click itself looks at the words before the cursor alone.
    for word in split_arg_string(os.environ.get("COMP_WORDS", ""))[1:]:
        path = os.path.expanduser(word)  # noqa: PTH111 - not every word is a path
        if os.path.exists(path):  # noqa: PTH110
            yield path


def rules(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    """Offer the codes of the rules, with what they find."""
    from bninspect.reports import manual

    pages = manual.pages().values()
    return [CompletionItem(page.code, help=page.title) for page in pages if page.code.startswith(incomplete.upper())]


def runtimes(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    """Offer the runtimes, installed or not."""
    from bninspect.runtimes import RUNTIMES

    return [CompletionItem(one.name, help=one.title) for one in RUNTIMES if one.name.startswith(incomplete)]


def reports(formats: tuple[str, ...], incomplete: str) -> Items:
    """Offer `FORMAT=report.ENDING` for each format, to be edited."""
    offered = (f"{name}=report.{_ENDINGS.get(name, name)}" for name in formats)
    return [CompletionItem(one) for one in offered if one.startswith(incomplete)]
