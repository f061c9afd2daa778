"""`bninspect doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from bninspect.settings import READ_BYTES, READ_SECONDS, RUN_SECONDS

if TYPE_CHECKING:
    from bninspect.runtimes import Runtime

_GIGABYTE = 1e9


@click.command("doctor", short_help="Say what works here, and how to install the rest.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the versions of all frameworks.")
def command(*, as_json: bool) -> int:
    """Say what works here: formats, runtimes with their versions, limits, and how to install what is missing."""
    known = _known()
    if as_json:
        click.echo(json.dumps(known, indent=2))
    else:
        click.echo(_screen(known), nl=False)
    return 0


def _screen(known: Mapping[str, Any]) -> str:
    from bninspect.cli import messages
    from bninspect.reports import Looks
    from bninspect.reports.text.lines import line, shown

    return shown(map(line, _lines(known)), Looks(width=messages.width()))


def _known() -> Mapping[str, Any]:
    """Return what works here, as the JSON has it. Packages that are not installed are null."""
    from bninspect import environment, exporters, formats, runtimes
    from bninspect.version import __version__
    from bninspect.workers import limits

    return {
        "bninspect": __version__,
        "environment": {**environment.describe(), "psutil": environment.installed("psutil")},
        "reads": {form.name: form.title for form in formats.FORMATS},
        "exports": {exporter.name: exporter.title for exporter in exporters.EXPORTERS},
        "runs": [_runtime(runtime) for runtime in runtimes.RUNTIMES],
        "limits": {
            "reading": {"seconds": READ_SECONDS, "bytes": READ_BYTES},
            "running": {"seconds": RUN_SECONDS, "bytes": limits.machine_memory()},
        },
    }


def _runtime(runtime: Runtime) -> Mapping[str, Any]:
    from bninspect import environment

    missing = [name for name in (runtime.package, *runtime.requires) if environment.installed(name) is None]
    return {
        "name": runtime.name,
        "title": runtime.title,
        "version": environment.installed(runtime.package),
        "missing": missing,
        "install": runtime.install,
    }


def _lines(known: Mapping[str, Any]) -> Iterator[str]:
    environment, limits = known["environment"], known["limits"]
    yield f"bninspect {known['bninspect']}, Python {environment['python']}, {environment['platform']}"
    yield f"numpy {environment['numpy']}, h5py {environment['h5py']}"
    for heading, field in (("reads (no framework needed)", "reads"), ("exports", "exports")):
        yield from ("", heading)
        yield from (f"  {name:<16}{title}" for name, title in known[field].items())
    yield from ("", "runs")
    for runtime in known["runs"]:
        missing = runtime["missing"]
        state = f"missing {', '.join(missing)}: {runtime['install']}" if missing else runtime["version"]
        yield f"  {runtime['name']:<16}{runtime['title']}  {state}"
    yield from ("", "limits for one model")
    reading, running = limits["reading"], limits["running"]
    yield f"  reading         {reading['seconds']:g} s, {reading['bytes'] / _GIGABYTE:g} GB of address space"
    yield f"  running         {running['seconds']:g} s, {running['bytes'] / _GIGABYTE:.0f} GB of resident memory"
    yield f"                  {_watched(environment['psutil'])}"


def _watched(psutil: str | None) -> str:
    """Return by what the memory of frameworks is watched: on Linux by what the kernel tells, elsewhere by psutil."""
    if sys.platform == "linux":
        return "what a framework starts counts as well"
    if psutil is not None:
        return f"what a framework starts counts as well (psutil {psutil})"
    return "not watched here: pip install 'bninspect[psutil]'"
