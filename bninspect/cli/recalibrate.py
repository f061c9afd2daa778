"""`bninspect recalibrate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured
from bninspect.cli.data_options import data
from bninspect.cli.messages import say, to_whoever_reads
from bninspect.cli.param_types import ModelPath
from bninspect.cli.progress import Progress
from bninspect.cli.run_options import loading
from bninspect.safe_text import printable


@contextmanager
def _what_is_kept(output: Path) -> Iterator[None]:
    """Say, if the work ends early, that what has been computed is not lost."""
    try:
        yield
    except BaseException:
        kept = output.with_name(f"{output.name}.partial.npz")
        if kept.is_file():
            say(f"  what has been computed is in {printable(str(kept))}: --resume goes on from there")
        raise


@click.command("recalibrate", cls=Configured, short_help="Store the exact statistics of data, in a copy of the file.")
@click.argument("model", type=ModelPath())
@data
@click.option("-o", "--output", metavar="FILE", required=True, help="The copy to write; never the model itself.")
@click.option(
    "--into",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Copy this file of weights of the same model instead of the model's.",
)
@click.option("--resume", is_flag=True, help="Go on where an interrupted run to the same output has ended.")
@click.option("--json", is_flag=True, help="Print what became of each layer as JSON.")
@shared.selecting
@loading
@shared.handing_on
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Compute mean and variance of what arrives at every batch norm, layer after layer, and write them into a copy.

    The model runs in inference mode, in batches of 32 or fewer whatever --batch-size is. Sums are exact: the order of
    the data changes no bit. No other byte of the file changes, except checksums of what does.
    """
    shared.prestart(options, options["model"])
    from bninspect.jobs.data import recalibrate
    from bninspect.reports import json_document
    from bninspect.reports.text import recalibrate as screen

    with Progress(quiet=options["quiet"]) as progress, _what_is_kept(Path(options["output"])):
        progress.began(1)
        done = recalibrate(
            options["model"],
            Path(options["data"]),
            options["output"],
            shared.settings({**options, "output": ()}),
            shared.surroundings(context, progress, options["verbose"]),
            into=options["into"],
            force=options["force"],
            resume=options["resume"],
        )
    if options["json"] or not options["quiet"]:
        with to_whoever_reads():
            click.echo(json_document.answer(done) if options["json"] else screen.render(done), nl=False)
    if not options["quiet"]:
        # Weights alone are not run: they can be held against what they were, and not against data.
        output, given, copied = (printable(str(options[name])) for name in ("output", "data", "into"))
        checks = f"diff {copied} {output}" if options["into"] else f"drift {output} --data {given}"
        say(f"  then: bninspect {checks}")
    return 0
