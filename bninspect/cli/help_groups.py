"""`--help` of a command with many options: related ones stand together, under a heading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

_GROUPS: Mapping[str, frozenset[str]] = {
    "Which models": frozenset(["files_from", "null", "jobs", "dask", "shard", "resume", "allow_host", "cache"]),
    "Which layers": frozenset(["layer", "exclude_layer", "epsilon"]),
    "What they are held against": frozenset(["against", "baseline", "write_baseline", "training", "precision"]),
    "How a model is run": frozenset(
        ["runtime", "signature", "tag", "trust", "import_", "modules", "import", "input", "input_shape", "seed"]
    ),
    "What counts": frozenset(["rtol", "atol", "accept", "select", "ignore", "fail_on", "allow_empty"]),
    "What is written": frozenset(["format", "json", "output", "quiet", "verbose", "color", "wide", "force", "folded"]),
    "Limits": frozenset(["timeout", "max_memory", "cache_size"]),
    "Configuration and help": frozenset(["config", "isolated", "help"]),
}
_FEW = 16
"""Options of a command that need no headings."""


def write(params: Sequence[click.Parameter], context: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options of a command, in groups where there are many."""
    records = [(_name(param), param.get_help_record(context)) for param in params]
    shown = [(name, record) for name, record in records if record is not None and name.islower()]
    groups: dict[str, list[tuple[str, str]]] = {title: [] for title in (*_GROUPS, "Options")}
    for name, record in shown:
        title = next((title for title, names in _GROUPS.items() if name in names), "Options")
        groups[title if len(shown) > _FEW else "Options"].append(record)
    # What no group knows comes first: it belongs to this command alone.
    for title in ("Options", *_GROUPS):
        if groups[title]:
            with formatter.section(title):
                formatter.write_dl(groups[title])


def _name(param: click.Parameter) -> str:
    """Return the long name of an option as a configuration file has it: `max_memory`."""
    return max(param.opts, key=len, default="").lstrip("-").replace("-", "_")
