"""Options for many models: where their names come from, how many at a time, which part, what is known already."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from bninspect.cli.options import group
from bninspect.cli.param_types import ModelPath
from bninspect.errors import UsageError
from bninspect.safe_text import printable
from bninspect.settings import Part

_READABLE = click.Path(exists=True, dir_okay=False, allow_dash=True)
_FILE = click.Path(dir_okay=False)


class Models(ModelPath):
    """A model, a folder to search, or a pattern that the shell has left as it is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the pattern as it was given."""
        return value if re.search(r"[*?\[]", str(value)) else super().convert(value, param, ctx)


class ShardType(click.ParamType):  # type: ignore[type-arg]  # older click has none
    """`2/5`: the second of five parts."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Part:
        """Return which part of how many."""
        if isinstance(value, Part):
            return value
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(value))
        part = Part(int(found[1]), int(found[2])) if found else None
        if part is None or not 1 <= part.index <= part.count:
            self.fail(f"{value!r} is not part of the models: write 2/5 for the second of five", param, ctx)
        return part


models = group(
    click.argument("models", metavar="MODEL...", nargs=-1, type=Models()),
    click.option(
        "--files-from",
        type=_READABLE,
        metavar="FILE",
        help="Take further models from this list, one on each line; - is standard input.",
    ),
    click.option("-0", "--null", is_flag=True, help="The names in --files-from end with NUL, not with a line."),
    click.option(
        "-j",
        "--jobs",
        type=click.IntRange(1, 256),
        default=1,
        show_default=True,
        metavar="N",
        help="Work on so many models at a time, each in processes of its own.",
    ),
    click.option(
        "--dask",
        metavar="ADDRESS",
        help="Work on the models on a Dask cluster: its scheduler's address or file, or local:N for N workers here.",
    ),
    click.option(
        "--shard",
        type=ShardType(),
        metavar="I/N",
        help="Work on part I of N only; `merge` joins the reports.",
    ),
    click.option(
        "--resume",
        type=_FILE,
        metavar="FILE",
        help="Keep the results in this file as JSON Lines, and take over what it holds of unchanged models.",
    ),
    click.option(
        "--baseline",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="Fail only on what is worse than in this JSON report, or gone.",
    ),
    click.option(
        "--write-baseline",
        type=_FILE,
        metavar="FILE",
        help="Write the report that later runs are judged by.",
    ),
)
"""The argument MODEL... and the options for many of them."""


def named(options: dict[str, Any]) -> tuple[str, ...]:
    """Return the models that were named, in the arguments and in the list.

    Raises:
        UsageError: the list cannot be read.
        click.UsageError: none was named at all.
    """
    listed: list[str] = []
    if options["dask"] and options["jobs"] > 1:
        raise click.UsageError("--dask and --jobs exclude each other: a cluster works on one model in each thread")
    if options["dask"] and options.get("against"):
        raise click.UsageError("--dask is for many models, and --against takes one")
    if options["files_from"]:
        listed = _listed(options["files_from"], null=options["null"])
    elif not options["models"]:
        raise click.UsageError("Missing argument 'MODEL...'.")
    if options["null"] and not options["files_from"]:
        raise click.UsageError("-0 says how the names in --files-from end: give both")
    return (*options["models"], *listed)


def _listed(path: str, *, null: bool) -> list[str]:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {printable(path)}", why=error.strerror or str(error)) from error
    if null:
        names = data.split(b"\0")
    elif b"\0" in data:
        raise UsageError(f"{printable(path)} is not a list of lines", why="it holds NUL characters", hint="add -0")
    else:
        names = [name.removesuffix(b"\r") for name in data.split(b"\n")]
    return [os.fsdecode(name) for name in names if name]
