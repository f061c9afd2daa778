"""`bninspect compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured
from bninspect.cli.write_reports import emit

_REPORT = click.Path(exists=True, dir_okay=False)


@click.command("compare", cls=Configured, short_help="Two reports side by side: worse, gone, better, new.")
@click.argument("old", metavar="OLD", type=_REPORT)
@click.argument("new", metavar="NEW", type=_REPORT)
@shared.writing
@shared.speaking
def command(**options: Any) -> int:
    """Compare two reports of the same command, such as yesterday's and today's.

    Takes JSON and JSON Lines, as -o json=FILE writes them. Ends with 1 if a layer or model is worse or gone, or is new
    and wrong; what was wrong already and stayed so does not count. -v lists the layers in which nothing changed.
    """
    from bninspect.jobs import compare
    from bninspect.reports import json_document

    old, new = (json_document.read(Path(options[name])) for name in ("old", "new"))
    return emit(compare.compare(old, new), {**options, "models": (options["old"], options["new"])})
