"""Functions whose module is imported when they are first called: what the registries of formats and runtimes hold."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def later(home: str, name: str) -> Callable[..., Any]:
    """Return a function that calls `name` of the module `home`, and imports it no earlier.

    A registry that imported what it lists would load every reader and every runtime for one file.
    """

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(import_module(home), name)(*arguments, **options)

    call.__name__, call.__module__ = name, home
    return call
