"""`bninspect lint`."""

from __future__ import annotations

from typing import Any

import click

from bninspect.cli import model_options, run_command
from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured


@click.command("lint", cls=Configured, short_help="Judge stored parameters: what is wrong, and what will not deploy.")
@model_options.models
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
    shared.prestart(options, next(iter(options["models"]), None))
    from bninspect.jobs import pipeline

    return run_command.report(context, options, pipeline.inspect)
