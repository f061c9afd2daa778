"""`bninspect inspect`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from bninspect.cli import options as shared
from bninspect.cli.messages import Progress
from bninspect.cli.output import emit


@click.command("inspect", short_help="List batch-norm layers, with what the file says of them.")
@shared.models
@shared.selecting
@click.option("--wide", is_flag=True, help="Every column, however wide the terminal is.")
@shared.reporting
@shared.limiting
@shared.speaking
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """List the batch-norm layers of model files, with what the files say of them.

    Needs no framework and runs nothing that is in the file. With --layer, the distribution of each parameter is shown.
    """
    shared.prestart(options)
    from bninspect import pipeline

    with Progress(quiet=options["quiet"]) as progress:
        around = shared.surroundings(context, progress, options["verbose"])
        table_alone = options["format"] == "text" and not (options["json"] or options["output"] or options["layer"])
        report = pipeline.inspect(options["models"], shared.settings(options), replace(around, brief=table_alone))
    return emit(report, options)
