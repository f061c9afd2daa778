"""`bninspect diff`."""

from __future__ import annotations

from typing import Any

import click

from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured
from bninspect.cli.param_types import ModelPath
from bninspect.cli.progress import Progress


@click.command("diff", cls=Configured, short_help="Compare the parameters of two models, layer by layer.")
@click.argument("before", metavar="A", type=ModelPath())
@click.argument("after", metavar="B", type=ModelPath())
@shared.selecting
@shared.fetching
@shared.answering
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Compare the batch norms of two model files of any format: is B still A?

    Layers are matched by name, then by their parameters, then by width and order. Equal are parameters bit for bit, and
    the same is a layer that maps x alike: folded, or with another epsilon that no channel feels. Ends with 1 if a
    layer changed, was added or removed, and with 3 if one is equal but for an epsilon that one file does not state.
    """
    shared.prestart(options, options["before"])
    from bninspect.inspection import diff_models
    from bninspect.jobs.load import load_both
    from bninspect.reports.text import diff

    settings = shared.settings(options)
    with Progress(quiet=options["quiet"]) as progress:
        around = shared.surroundings(context, progress, options["verbose"])
        before, after = load_both(options["before"], options["after"], settings, around)
    difference = diff_models.diff(before, after)
    return shared.show(difference, diff, options)
