"""`bninspect inspect`."""

from __future__ import annotations

from typing import Any

import click

from bninspect.cli import model_options, run_command
from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured


@click.command("inspect", cls=Configured, short_help="List batch-norm layers, with what the file says of them.")
@model_options.models
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
    brief = run_command.table_alone(options)
    shared.prestart(options, next(iter(options["models"]), None), digest=not brief)
    from bninspect.jobs import pipeline

    return run_command.report(context, options, pipeline.inspect, brief=brief)
