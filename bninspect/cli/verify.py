"""`bninspect verify`."""

from __future__ import annotations

from typing import Any

import click

from bninspect.cli import model_options, run_command
from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured
from bninspect.cli.param_types import ModelPath
from bninspect.cli.run_options import running
from bninspect.workers import tasks


@click.command("verify", cls=Configured, short_help="Recompute by hand and compare with the framework.")
@model_options.models
@shared.selecting
@click.option(
    "--against",
    type=ModelPath(),
    multiple=True,
    metavar="FILE",
    help="An export of the model (TFLite, ONNX, OpenVINO, torch, SavedModel, Keras): where is each batch norm, folded "
    "into the weights of a neighbour or not, and is it right? Of a folder every model in it; repeatable, and the "
    "model is run once. Or what a runtime of your own returned for `bninspect vectors`.",
)
@running
@shared.reporting
@shared.limiting
@shared.speaking
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Recompute every batch norm by hand and compare with what the framework computes.

    The framework loads the file itself. Each layer is compared twice: as it runs in the model, and alone on inputs
    that reach 8 deviations either side of its mean. Every element must lie within the proven rounding bound.
    """
    if options["against"] and len(options["models"]) > 1:
        raise click.UsageError("--against takes one MODEL: an export is of one")
    first = next(iter(options["models"]), None)
    shared.prestart(options, first)
    if first is not None:
        shared.prestart_framework(options, tasks.verify_model, first)
    from bninspect.jobs import pipeline

    return run_command.report(context, options, pipeline.verify)
