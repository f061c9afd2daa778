"""`bninspect lint`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from bninspect.cli import options as shared
from bninspect.cli.messages import Progress
from bninspect.cli.output import emit


@click.command("lint", short_help="Judge stored parameters: what is wrong, and what will not deploy.")
@shared.models
@shared.selecting
@shared.reporting
@shared.limiting
@shared.speaking
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Judge the stored parameters of model files by the rules that `bninspect rule` lists.

    Non-finite, negative or noise-level variances, statistics that were never updated, settings of another convention,
    and what will not survive float16, folding or int8. Needs no framework and runs nothing that is in the file.
    """
    shared.prestart(options)
    from bninspect import pipeline

    with Progress(quiet=options["quiet"]) as progress:
        around = shared.surroundings(context, progress, options["verbose"])
        report = pipeline.inspect(options["models"], shared.settings(options), around)
    return emit(replace(report, command="lint"), options)
