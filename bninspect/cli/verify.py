"""`bninspect verify`."""

from __future__ import annotations

from typing import Any

import click

from bninspect.cli import options as shared
from bninspect.cli.messages import Progress
from bninspect.cli.output import emit


@click.command("verify", short_help="Recompute by hand and compare with the framework.")
@shared.models
@shared.selecting
@shared.running
@shared.reporting
@shared.limiting
@shared.speaking
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Recompute every batch norm by hand and compare with what the framework computes.

    The framework loads the file itself. Each layer is compared twice: as it runs in the model, and alone on inputs
    that reach 8 deviations either side of its mean. Every element must lie within the proven rounding bound.
    """
    shared.prestart(options)
    from bninspect import pipeline

    with Progress(quiet=options["quiet"]) as progress:
        around = shared.surroundings(context, progress, options["verbose"])
        report = pipeline.verify(options["models"], shared.settings(options), around)
    return emit(report, options)
