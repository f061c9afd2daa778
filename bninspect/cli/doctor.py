"""`bninspect doctor`."""

from __future__ import annotations

import sys

import click

from bninspect.settings import READ_BYTES, READ_SECONDS, RUN_SECONDS

_GIGABYTE = 1e9


@click.command("doctor", short_help="Say what works here, and how to install the rest.")
def command() -> int:
    """Say what works here: formats, runtimes with their versions, limits, and how to install what is missing."""
    from bninspect import environment, exporters, formats, runtimes
    from bninspect.version import __version__
    from bninspect.workers import limits

    known = environment.describe()
    click.echo(f"bninspect {__version__}, Python {known['python']}, {known['platform']}")
    click.echo(f"numpy {known['numpy']}, h5py {known['h5py']}\n")
    click.echo("reads (no framework needed)")
    for form in formats.FORMATS:
        click.echo(f"  {form.name:<16}{form.title}")
    click.echo("\nexports")
    for exporter in exporters.EXPORTERS:
        click.echo(f"  {exporter.name:<16}{exporter.title}")
    click.echo("\nruns")
    for runtime in runtimes.RUNTIMES:
        missing = [name for name in (runtime.package, *runtime.requires) if environment.installed(name) is None]
        state = (
            f"missing {', '.join(missing)}: {runtime.install}"
            if missing
            else f"{environment.installed(runtime.package)}"
        )
        click.echo(f"  {runtime.name:<16}{runtime.title}  {state}")
    click.echo("\nlimits for one model")
    click.echo(f"  reading         {READ_SECONDS:g} s, {READ_BYTES / _GIGABYTE:g} GB of address space")
    click.echo(f"  running         {RUN_SECONDS:g} s, {limits.machine_memory() / _GIGABYTE:.0f} GB of resident memory")
    click.echo(f"                  {_watched(environment.installed('psutil'))}")
    return 0


def _watched(psutil: str | None) -> str:
    """Return by what the memory of frameworks is watched: on Linux by what the kernel tells, elsewhere by psutil."""
    if sys.platform == "linux":
        return "what a framework starts counts as well"
    if psutil is not None:
        return f"what a framework starts counts as well (psutil {psutil})"
    return "not watched here: pip install 'bninspect[psutil]'"
