"""`bninspect merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured
from bninspect.cli.write_reports import emit

_REPORT = click.Path(exists=True, dir_okay=False)


@click.command("merge", cls=Configured, short_help="Join the reports of several runs: one report, one exit code.")
@click.argument("models", metavar="REPORT...", nargs=-1, required=True, type=_REPORT)
@shared.writing
@shared.speaking
def command(**options: Any) -> int:
    """Join reports that runs of one command have written, by --shard on several machines or one after the other.

    Takes JSON and JSON Lines. Ends as one run over all models would have: a part that is missing, one that is there
    twice, and reports with other options are refused.
    """
    from bninspect.jobs import shards
    from bninspect.reports import json_document

    return emit(shards.merge([(path, json_document.read(Path(path))) for path in options["models"]]), options)
