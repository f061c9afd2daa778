"""`bninspect check-statement`."""

from __future__ import annotations

from pathlib import Path

import click

from bninspect.cli.param_types import ModelPath


@click.command("check-statement", short_help="Is an in-toto statement about these very files?")
@click.argument("statement", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@click.argument("files", metavar="SUBJECT...", nargs=-1, required=True, type=ModelPath())
def command(statement: str, files: tuple[str, ...]) -> int:
    """Hold models, their exports and the JSON report against a statement that `-o intoto=FILE` wrote.

    FILE is the statement, bare or in the envelope of whoever signed it. Ends with 1 if a bit of a SUBJECT differs from
    what was stated, or if the run had not passed. Signatures are not verified here: `cosign verify-blob-attestation`
    and `gh attestation verify` do that. What is not signed, anybody may have changed.
    """
    from bninspect.reports import statement_check
    from bninspect.reports.words import plural

    found = statement_check.check(Path(statement), [Path(file) for file in files], _digest_of_parts)
    for line in found.differences:
        click.echo(f"FAIL  {line}")
    if found.exit_code and not found.differences:
        click.echo(
            f"FAIL  the files are those of the statement, and it says {found.result} of `bninspect {found.command}`"
        )
    if not found.exit_code:
        models = "the model" if found.models == 1 else f"{found.models} models and exports"
        verb = "is" if found.models == 1 and not found.report else "are"
        checked = f"{models}{' and the report' * found.report} {verb}"
        click.echo(f"PASS  {checked} as stated, and `bninspect {found.command}` had passed")
    if not found.report and not found.differences:
        click.echo("note: the report was not given, and not compared")
    if found.others and not found.differences:
        click.echo(f"note: {plural(found.others, 'other subject')} not given, and not compared")
    if found.signed:
        click.echo("note: the signatures of the envelope were not verified")
    else:
        click.echo("note: the statement is not signed: anybody may have changed it")
    return found.exit_code


def _digest_of_parts(model: Path) -> str | None:
    """Return the digest of a model in several files, which its reader knows; None of what is not one."""
    from bninspect.errors import BninspectError
    from bninspect.jobs.load import load

    try:
        return load(model).sha256
    except BninspectError:
        return None
