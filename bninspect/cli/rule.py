"""`bninspect rule`."""

from __future__ import annotations

import click

from bninspect.cli import complete_values


@click.command("rule", short_help="Print the manual page of a rule.")
@click.argument("code", metavar="[CODE]", required=False, shell_complete=complete_values.rules)
@click.option("--markdown", is_flag=True, help="Every page as Markdown.")
def command(code: str | None, *, markdown: bool) -> int:
    """Print the manual page of a rule, such as BN102; without a code, list the rules."""
    from bninspect.reports import manual

    if markdown:
        click.echo(manual.markdown(), nl=False)
    elif code is None:
        for page in manual.pages().values():
            click.echo(f"{page.code}  {page.title}")
    else:
        click.echo(manual.page(code).text, nl=False)
    return 0
