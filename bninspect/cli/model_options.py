"""Options for many models: where their names come from, how many at a time, which part, what is known already."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from bninspect.cli.options import fetching, group
from bninspect.cli.param_types import ModelPath
from bninspect.errors import UnsafeFile, UsageError
from bninspect.safe_text import printable
from bninspect.settings import Part
from bninspect.stores.names import is_url, public

_FILE = click.Path(dir_okay=False)


class Models(ModelPath):
    """A model, a folder to search, or a pattern that the shell has left as it is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the pattern as it was given."""
        return value if re.search(r"[*?\[]", str(value)) else super().convert(value, param, ctx)


class ModelList(click.Path):
    """A file with names of models, or the URL of one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the URL as it was given."""
        return value if is_url(str(value)) else super().convert(value, param, ctx)


_READABLE = ModelList(exists=True, dir_okay=False, allow_dash=True)


def _part(value: Any) -> Part:
    """Return which part of how many `2/5` is: the second of five."""
    if isinstance(value, Part):
        return value
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(value))
    part = Part(int(found[1]), int(found[2])) if found else None
    if part is None or not 1 <= part.index <= part.count:
        raise click.BadParameter(f"{value!r} is not part of the models: write 2/5 for the second of five")
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
    fetching,
    click.option(
        "--shard",
        type=_part,
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
        listed = _listed(options["files_from"], null=options["null"], hosts=options["allow_host"])
    elif not options["models"]:
        raise click.UsageError("Missing argument 'MODEL...'.")
    if options["null"] and not options["files_from"]:
        raise click.UsageError("-0 says how the names in --files-from end: give both")
    return (*options["models"], *listed)


def listed_urls(options: dict[str, Any], models: tuple[str, ...]) -> frozenset[str]:
    """Return the URLs among the models that a list names, and nobody at the command line."""
    return frozenset(filter(is_url, models)) - frozenset(options["given"])


def _listed(path: str, *, null: bool, hosts: tuple[str, ...]) -> list[str]:
    if is_url(path):
        from bninspect.jobs import elsewhere

        names = [os.fsdecode(name) for name in _split(elsewhere.list_of_models(path, hosts), public(path), null=null)]
        if local := [name for name in names if not is_url(name)]:
            raise UnsafeFile(
                f"{public(path)} names what is not a URL",
                why=f"{printable(local[0], 200)}: a list from elsewhere must not name files of this machine",
            )
        return names
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {printable(path)}", why=error.strerror or str(error)) from error
    return [os.fsdecode(name) for name in _split(data, path, null=null)]


def _split(data: bytes, path: str, *, null: bool) -> list[bytes]:
    if not null and b"\0" in data:
        raise UsageError(
            f"{printable(path)} is not a list of lines",
            why="it holds NUL characters",
            hint="add -0: the list is separated by zero bytes",
        )
    names = data.split(b"\0") if null else [name.removesuffix(b"\r") for name in data.split(b"\n")]
    return [name for name in names if name]
