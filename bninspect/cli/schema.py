"""`bninspect schema`."""

from __future__ import annotations

import click


@click.command("schema")
def command() -> int:
    """Print the JSON schema of the reports."""
    from bninspect.reports import schema

    click.echo(schema.text(), nl=False)
    return 0
