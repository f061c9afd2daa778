"""A task of a process that takes longer to start than the task may take."""

from __future__ import annotations

import time
from typing import Any

from bninspect.records import Option


def prepare() -> None:
    time.sleep(2.5)


def echo(arguments: dict[str, Any], arrays: list[Any], progress: Any) -> Option:
    return Option(arguments["value"], "echo")


def hang(arguments: dict[str, Any], arrays: list[Any], progress: Any) -> Option:
    time.sleep(600)
    raise AssertionError
