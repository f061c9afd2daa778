"""`bninspect drift`."""

from __future__ import annotations

from typing import Any

import click

from bninspect.cli import model_options, run_command
from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured
from bninspect.cli.data_options import data
from bninspect.cli.param_types import Finite
from bninspect.cli.run_options import loading


@click.command("drift", cls=Configured, short_help="Are the stored statistics those of this data?")
@model_options.models
@data
@click.option(
    "--trained-batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Batch size of the training, which no file states; 32 is assumed.",
)
@click.option(
    "--max-effect",
    type=Finite(min=0),
    metavar="X",
    help="Largest shift of a mean in deviations, and of a logarithm of a variance, that does not count.",
)
@shared.selecting
@loading
@shared.reporting
@shared.limiting
@shared.speaking
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Hold the mean and variance that every batch norm stores against those of data that arrives there.

    The model runs in inference mode. Where a layer differs, the usual preparations of inputs are tried on the data, and
    one is named if it brings the statistics back.
    """
    shared.prestart(options, next(iter(options["models"]), None))
    from bninspect.jobs import pipeline

    return run_command.report(context, options, pipeline.drift)
